"""What a Job is asked to do, and how it says how far it is: objects in the store.

requests/<step>/<digest>.json    written once, before the Job starts
progress/<step>/<digest>.json    replaced while it works
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from genaug.shared.digests import digest_of
from genaug.shared.errors import GenaugError, InvalidArgument, NotFound
from genaug.shared.store import Store

JobStep = Literal["finetune", "train", "evaluate", "report"]
STEPS: tuple[JobStep, ...] = ("finetune", "train", "evaluate", "report")

# Seconds between two writes of progress.
_INTERVAL = 0.5


@dataclass(frozen=True)
class JobRequest:
    """A Job's input: plain JSON, named by its digest."""

    step: JobStep
    digest: str
    inputs: dict[str, Any]

    @property
    def key(self) -> str:
        """Where it lies in the store."""
        return f"requests/{self.step}/{self.digest}.json"

    def progress_key(self, shard: int) -> str:
        """Where the progress of one of its shards lies."""
        return f"progress/{self.step}/{self.digest}-{shard}.json"


def make_request(step: JobStep, inputs: dict[str, Any]) -> JobRequest:
    """The request for `inputs`, named by their digest."""
    return JobRequest(step, digest_of(step, inputs), inputs)


def write_request(store: Store, request: JobRequest) -> None:
    """Put `request` into the store; the same request twice is one."""
    store.put_new_json(request.key, request.inputs)


def read_request(store: Store, key: str) -> JobRequest:
    """Read the request at `key`, "requests/<step>/<digest>.json".

    Raises:
        InvalidArgument: `key` is not of that form, or the content has another digest.
    """
    parts = key.removesuffix(".json").split("/")
    if len(parts) != 3 or parts[0] != "requests" or parts[1] not in STEPS:
        raise InvalidArgument(f"{key!r} is not of the form requests/<step>/<digest>.json", reason="BAD_REQUEST_KEY")
    step: JobStep = next(step for step in STEPS if step == parts[1])
    request = make_request(step, store.get_json(key))
    if request.digest != parts[2]:
        raise InvalidArgument(f"{key}: its content has digest {request.digest}", reason="BAD_REQUEST")
    return request


class Report(Protocol):
    """How long work says how far it is: report(done, total, unit, aside); aside is what is not counted in that unit."""

    def __call__(self, done: int, total: int, unit: str, aside: str = "", /) -> None: ...


@dataclass(frozen=True)
class JobProgress:
    """How far a shard of a Job is, and why it ended if it failed."""

    done: int
    total: int
    unit: str
    aside: str = ""
    """What is done meanwhile that is not counted in units, such as "reading images, 512 of 1274"."""
    error: dict[str, str] | None = None
    """code, reason and message of a GenaugError."""


class Reporter:
    """Writes a shard's progress to the store, twice a second at most. Called as `Report`."""

    def __init__(self, store: Store, request: JobRequest, shard: int) -> None:
        self._store = store
        self._key = request.progress_key(shard)
        self._last = 0.0

    def __call__(self, done: int, total: int, unit: str, aside: str = "", /) -> None:
        now = time.monotonic()
        if now - self._last < _INTERVAL and done < total:
            return
        self._last = now
        self._store.put_json(self._key, {"done": done, "total": total, "unit": unit, "aside": aside})

    def fail(self, error: GenaugError) -> None:
        """Say why the work ended."""
        found = {"code": error.code, "reason": error.reason, "message": error.message}
        self._store.put_json(self._key, {"done": 0, "total": 0, "unit": "", "error": found})


def read_progress(store: Store, request: JobRequest, shard: int) -> JobProgress | None:
    """How far a shard of `request` is; None when it has not said yet."""
    try:
        return JobProgress(**store.get_json(request.progress_key(shard)))
    except NotFound:
        return None


RECIPES = {"finetune": "finetune/3", "train": "train/4", "evaluate": "evaluate/3"}
"""Recipe version per step: bumped by hand when the same inputs are to give another result."""


def generator_name(inputs: dict[str, Any]) -> str:
    """Name of the generator that a `finetune` Job makes of `inputs`."""
    return f"generators/{digest_of(RECIPES['finetune'], inputs)}"


def classifier_name(item: dict[str, Any]) -> str:
    """Name of the classifier that a `train` Job makes of one of its items."""
    return f"classifiers/{digest_of(RECIPES['train'], item)}"


def evaluation_name(inputs: dict[str, Any]) -> str:
    """Name of the evaluation that an `evaluate` Job makes of `inputs`."""
    return f"evaluations/{digest_of(RECIPES['evaluate'], inputs)}"
