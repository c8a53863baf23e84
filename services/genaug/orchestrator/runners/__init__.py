"""Where Jobs run: one port, one implementation per place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from genaug.shared.requests import JobRequest, Report

# A Job's exit status when its input is bad: trying again cannot help.
BAD_INPUT = 42


class JobRunner(Protocol):
    """Starts Jobs and waits for them."""

    def run(self, request: JobRequest, *, shards: int, until: Callable[[], bool], on_progress: Report) -> None:
        """Run the Job of `request`, or join it where it is at work already, and return when it has succeeded.

        Args:
            request: What to do; it is in the store.
            shards: Processes that share its items.
            until: Asked often; when it turns False the Job is stopped.
            on_progress: Told how far it is.

        Raises:
            GenaugError: the Job's own error, after its last attempt.
            Cancelled: `until` turned False.
        """
