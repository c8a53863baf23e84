"""Runners of Jobs: one interface, one implementation per platform."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from genaug.schema.jobs import JobRequest
from genaug.shared.errors import BY_CODE, GenaugError, Internal, Unavailable
from genaug.shared.progress import ProgressCallback, read_progress
from genaug.shared.store import Store

log = logging.getLogger(__name__)


class JobRunner(Protocol):
    """Starts Jobs and waits for them."""

    def run(
        self,
        request: JobRequest,
        *,
        shards: int,
        is_active: Callable[[], bool],
        on_progress: ProgressCallback,
        finished: Callable[[], bool],
    ) -> None:
        """Run the Job of `request`, or wait for it if it runs already; return when it has succeeded.

        Args:
            request: The Job's request, which is in the store.
            shards: Number of processes that share its items.
            is_active: Polled; the Job is stopped when it returns False. If it raises, the Job goes on where the
                platform can keep it, for a later call.
            on_progress: Called with the progress of all shards.
            finished: Returns whether the store holds the results; called for a Job that succeeded earlier.

        Raises:
            GenaugError: the Job's own error, after its last attempt.
            Cancelled: `is_active` turned False.
        """


def forward_progress(store: Store, request: JobRequest, shards: int, on_progress: ProgressCallback) -> bool:
    """Forward the summed progress of the shards; return whether any shard has reported some."""
    try:
        found = [read_progress(store, request.progress_key(shard)) for shard in range(shards)]
    except Unavailable as error:
        # The Job finds out by itself whether it can go on without the store.
        log.warning("progress cannot be read", extra={"step": request.step, "reason": error.reason})
        return False
    known = [progress for progress in found if progress is not None]
    if known:
        same = [progress for progress in known if progress.unit == known[0].unit]
        note = next((progress.note for progress in same if progress.note), "")
        on_progress(sum(p.done for p in same), sum(p.total for p in same), known[0].unit, note)
    return bool(known)


def recorded_error(store: Store, request: JobRequest, shards: int) -> GenaugError | None:
    """The error that a shard has left as its last word; None when none has."""
    for shard in range(shards):
        progress = read_progress(store, request.progress_key(shard))
        if progress is not None and progress.error is not None:
            return BY_CODE.get(progress.error.code, Internal)(progress.error.message, reason=progress.error.reason)
    return None
