"""Run records: what `genaug run get` shows, kept in the store beside the report."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from genaug.orchestrator.progress import Live
from genaug.shared.errors import Cancelled, GenaugError, NotFound, Unavailable
from genaug.shared.metrics import STEP_SECONDS
from genaug.shared.provenance import now
from genaug.shared.store import Store
from genaug.shared.tracing import traceparent

log = logging.getLogger(__name__)

T = TypeVar("T")

STEPS = ("view", "finetune", "labeler", "generate", "select", "match", "assemble", "train", "evaluate", "report")

PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED = (
    f"STATE_{word}" for word in ("PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED")
)
UNFINISHED = (PENDING, RUNNING)

Record = dict[str, Any]
"""A Run as plain JSON (`genaug.shared.protojson`)."""


@dataclass
class Stage:
    """A step at work; the workflow fills in what it made."""

    results: list[str] = field(default_factory=list)
    reused: int = 0


# Waits between looks at a store that is away, seconds: ten minutes in all, for a store that is restarted.
_PATIENCE = (1, 2, 4, 8, *(15,) * 39)


class Records:
    """The records of all runs. One orchestrator writes them."""

    def __init__(self, store: Store, live: Live) -> None:
        self._store = store
        self._live = live
        self._lock = threading.RLock()
        self._wait: Callable[[float], None] | None = None

    def patient(self, wait: Callable[[float], None]) -> Records:
        """The same records, for a workflow: a store that is away is waited for, with `wait(seconds)`."""
        found = copy(self)
        found._wait = wait
        return found

    def create(self, run_id: str, spec: dict[str, Any]) -> Record:
        """Write the record of a new run."""
        record = {
            "name": f"runs/{run_id}",
            "spec": spec,
            "state": PENDING,
            "steps": [{"name": name, "state": PENDING} for name in STEPS],
            "create_time": now(),
            "traceparent": traceparent(),
        }
        self._store.put_json(self._key(run_id), record)
        return record

    def get(self, run_id: str) -> Record:
        """The record of a run.

        Raises:
            NotFound: there is no such run.
        """
        try:
            record: Record = self._patiently(lambda: self._store.get_json(self._key(run_id)))
        except NotFound:
            raise NotFound(
                f"runs/{run_id} does not exist; `genaug run list` shows what does", reason="RUN_NOT_FOUND"
            ) from None
        return record

    def now(self, run_id: str) -> Record:
        """The record, with the progress of the step that is at work."""
        record = self.get(run_id)
        for step in record["steps"]:
            if step["state"] == RUNNING:
                step["progress"] = {"step": step["name"], **asdict(self._live.now(run_id))}
        return record

    def ids(self) -> list[str]:
        """Ids of all runs."""
        return [name for name in self._store.children("runs/") if self._store.exists(self._key(name))]

    def update(self, run_id: str, **fields: Any) -> Record:
        """Change fields of a record."""
        with self._lock:
            record = self.get(run_id) | fields
            self._put(run_id, record)
            return record

    def end(self, run_id: str, state: str, *, error: str = "") -> Record:
        """Say that a run has ended; steps that were at work end with it."""
        with self._lock:
            steps = [
                {**step, "state": state} if step["state"] == RUNNING else step for step in self.get(run_id)["steps"]
            ]
            return self.update(run_id, state=state, error=error, end_time=now(), steps=steps)

    @contextmanager
    def stage(self, run_id: str, name: str) -> Iterator[Stage]:
        """Around a step: its state, seconds and results. Seconds add up over the attempts of a run."""
        start = time.monotonic()
        stage = Stage()
        self._live.begin(run_id)
        with self._lock:
            if self.get(run_id)["state"] == CANCELLED:
                raise Cancelled("the run was cancelled", reason="CANCELLED")
            self.update(run_id, state=RUNNING)
            before = self._step(run_id, name, state=RUNNING)
        try:
            yield stage
        except GenaugError as error:
            state = CANCELLED if isinstance(error, Cancelled) else FAILED
            STEP_SECONDS.labels(name, state.removeprefix("STATE_").lower()).observe(time.monotonic() - start)
            self._step(run_id, name, state=state, seconds=self._seconds(before, start))
            raise
        far = self._live.now(run_id)
        # A replay after the step has ended only reads its results again.
        if before["state"] != SUCCEEDED:
            STEP_SECONDS.labels(name, "succeeded").observe(time.monotonic() - start)
            self._step(
                run_id,
                name,
                state=SUCCEEDED,
                seconds=self._seconds(before, start),
                results=stage.results,
                reused=stage.reused,
                progress={"step": name, "done": max(far.done, far.total), "total": far.total, "unit": far.unit},
            )
        else:
            self._step(run_id, name, state=SUCCEEDED)

    @staticmethod
    def _seconds(before: dict[str, Any], start: float) -> float:
        return round(float(before.get("seconds", 0.0)) + time.monotonic() - start, 2)

    def _step(self, run_id: str, name: str, **fields: Any) -> dict[str, Any]:
        """Change a step; return it as it was."""
        with self._lock:
            record = self.get(run_id)
            index = next(i for i, step in enumerate(record["steps"]) if step["name"] == name)
            before: dict[str, Any] = record["steps"][index]
            record["steps"][index] = before | fields
            self._put(run_id, record)
            return before

    def _put(self, run_id: str, record: Record) -> None:
        self._patiently(lambda: self._store.put_json(self._key(run_id), record))

    def _patiently(self, operation: Callable[[], T]) -> T:
        for wait in _PATIENCE if self._wait else ():
            try:
                return operation()
            except Unavailable as error:
                log.warning("the store is away", extra={"reason": error.reason, "retry_s": wait})
                assert self._wait is not None  # noqa: S101  # for the type checker
                self._wait(wait)
        return operation()

    @staticmethod
    def _key(run_id: str) -> str:
        return f"runs/{run_id}/run.json"
