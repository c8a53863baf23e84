"""Progress of long work: the callback, and the record of a Job's progress in the store."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from pydantic import TypeAdapter

from genaug.shared.errors import GenaugError, NotFound
from genaug.shared.store import Store

# Seconds between two writes of progress.
_INTERVAL = 0.5


class ProgressCallback(Protocol):
    """Callback for progress: (done, total, unit, note). The note is about work not counted in that unit."""

    def __call__(self, done: int, total: int, unit: str, note: str = "", /) -> None:
        """Report progress."""


@dataclass(frozen=True)
class JobError:
    """Code, reason and message of the error that ended a Job."""

    code: str
    reason: str
    message: str


@dataclass(frozen=True)
class JobProgress:
    """Progress of a shard of a Job, and the error that ended it."""

    done: int = 0
    total: int = 0
    unit: str = ""
    note: str = ""
    """Work not counted in units, such as "reading images, 512 of 1274"."""
    error: JobError | None = None


_JSON = TypeAdapter(JobProgress)


class ProgressWriter:
    """A `ProgressCallback` that writes a shard's progress to the store, at most twice a second.

    Args:
        store: As the identity of the step.
        key: `JobRequest.progress_key` of the shard.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key
        self._last = 0.0

    def __call__(self, done: int, total: int, unit: str, note: str = "", /) -> None:
        """Write progress, unless it was written a moment ago."""
        now = time.monotonic()
        if now - self._last < _INTERVAL and done < total:
            return
        self._last = now
        self._write(JobProgress(done, total, unit, note))

    def fail(self, error: GenaugError) -> None:
        """Write the error that ended the work."""
        self._write(JobProgress(error=JobError(error.code, error.reason, error.message)))

    def _write(self, progress: JobProgress) -> None:
        self._store.put_json(self._key, _JSON.dump_python(progress, mode="json"))


def read_progress(store: Store, key: str) -> JobProgress | None:
    """Read the progress at `key`; None before the shard's first report."""
    try:
        return _JSON.validate_python(store.get_json(key))
    except NotFound:
        return None
