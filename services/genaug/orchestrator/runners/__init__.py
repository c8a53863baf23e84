"""Where Jobs run: one port, one implementation per place."""

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
        """Run the Job of `request`, or join it where it is at work already, and return when it has succeeded.

        Args:
            request: What to do; it is in the store.
            shards: Processes that share its items.
            is_active: Polled; the Job is stopped when it turns False. An exception from it leaves the Job to a later
                call, where the platform lets it live on.
            on_progress: Told how far it is.
            finished: Whether the store holds the results; asked of a Job that succeeded some time ago.

        Raises:
            GenaugError: the Job's own error, after its last attempt.
            Cancelled: `is_active` turned False.
        """


def forward_progress(store: Store, request: JobRequest, shards: int, on_progress: ProgressCallback) -> bool:
    """Pass on how far the shards say they are, summed; whether any has said so."""
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
