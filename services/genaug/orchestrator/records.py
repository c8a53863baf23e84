"""Run records: objects in the store beside the report, behind `genaug run get`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from typing import Any, TypeVar

from genaug.orchestrator.progress_tracker import ProgressTracker
from genaug.schema.common import Progress
from genaug.schema.model import read
from genaug.schema.run import STEPS, Run, RunSpec, RunState, Step
from genaug.shared.errors import Cancelled, GenaugError, NotFound
from genaug.shared.metrics import STEP_SECONDS
from genaug.shared.provenance import now
from genaug.shared.retry import retry
from genaug.shared.store import Store
from genaug.shared.tracing import traceparent

T = TypeVar("T")

# Waits between attempts at an unreachable store, seconds: ten minutes in all, for a store that is restarted.
_BACKOFF = (1, 2, 4, 8, *(15,) * 39)


@dataclass
class StepResults:
    """Results of a step at work, filled in by the workflow."""

    results: list[str] = field(default_factory=list)
    reused: int = 0


class Records:
    """The records of all runs. One orchestrator writes them."""

    def __init__(self, store: Store, tracker: ProgressTracker) -> None:
        self._store = store
        self._tracker = tracker
        self._lock = threading.RLock()
        self._wait: Callable[[float], None] | None = None

    def patient(self, wait: Callable[[float], None]) -> Records:
        """The same records, which retry an unreachable store after `wait(seconds)`; for workflows."""
        records = copy(self)
        records._wait = wait
        return records

    def create(self, run_id: str, spec: RunSpec) -> Run:
        """Write the record of a new run."""
        run = Run(
            name=f"runs/{run_id}",
            spec=spec,
            steps=tuple(Step(name=name) for name in STEPS),
            create_time=now(),
            traceparent=traceparent(),
        )
        self._store.put_json(self._key(run_id), run.json_value())
        return run

    def get(self, run_id: str) -> Run:
        """Read the record of a run.

        Raises:
            NotFound: no such run.
        """
        try:
            return self._patiently(lambda: read(self._store, self._key(run_id), Run))
        except NotFound:
            raise NotFound(
                f"runs/{run_id} does not exist; `genaug run list` shows what does", reason="RUN_NOT_FOUND"
            ) from None

    def now(self, run_id: str) -> Run:
        """Read the record, with the progress of the running step."""
        run = self.get(run_id)
        steps = tuple(
            step.model_copy(update={"progress": self._tracker.progress(run_id, step.name)})
            if step.state == RunState.RUNNING
            else step
            for step in run.steps
        )
        return run.model_copy(update={"steps": steps})

    def ids(self) -> list[str]:
        """Return the ids of all runs."""
        return [name for name in self._store.children("runs/") if self._store.exists(self._key(name))]

    def update(self, run_id: str, **fields: Any) -> Run:
        """Change fields of a record."""
        with self._lock:
            run = self.get(run_id).model_copy(update=fields)
            self._patiently(lambda: self._store.put_json(self._key(run_id), run.json_value()))
            return run

    def end(self, run_id: str, state: RunState, *, error: str = "") -> Run:
        """Record the end of a run; running steps end with it."""
        with self._lock:
            steps = tuple(
                step.model_copy(update={"state": state}) if step.state == RunState.RUNNING else step
                for step in self.get(run_id).steps
            )
            return self.update(run_id, state=state, error=error, end_time=now(), steps=steps)

    @contextmanager
    def step(self, run_id: str, name: str) -> Iterator[StepResults]:
        """Record the state, seconds and results of a step around its work. Seconds add up over a run's attempts."""
        start = time.monotonic()
        results = StepResults()
        self._tracker.begin(run_id)
        with self._lock:
            if self.get(run_id).state == RunState.CANCELLED:
                raise Cancelled("the run was cancelled", reason="CANCELLED")
            self.update(run_id, state=RunState.RUNNING)
            before = self._update_step(run_id, name, state=RunState.RUNNING)

        def seconds() -> float:
            return round(before.seconds + time.monotonic() - start, 2)

        try:
            yield results
        except GenaugError as error:
            state = RunState.CANCELLED if isinstance(error, Cancelled) else RunState.FAILED
            STEP_SECONDS.labels(name, state.name.lower()).observe(time.monotonic() - start)
            self._update_step(run_id, name, state=state, seconds=seconds())
            raise
        progress = self._tracker.progress(run_id, name)
        # A replay after the step has ended only reads its results again.
        if before.state == RunState.SUCCEEDED:
            self._update_step(run_id, name, state=RunState.SUCCEEDED)
            return
        STEP_SECONDS.labels(name, "succeeded").observe(time.monotonic() - start)
        done = max(progress.done, progress.total)
        self._update_step(
            run_id,
            name,
            state=RunState.SUCCEEDED,
            seconds=seconds(),
            results=tuple(results.results),
            reused=results.reused,
            progress=Progress(step=name, done=done, total=progress.total, unit=progress.unit),
        )

    def _update_step(self, run_id: str, name: str, **fields: Any) -> Step:
        """Change a step; return it as it was."""
        with self._lock:
            run = self.get(run_id)
            before = run.step(name)
            steps = tuple(step.model_copy(update=fields) if step is before else step for step in run.steps)
            self.update(run_id, steps=steps)
            return before

    def _patiently(self, operation: Callable[[], T]) -> T:
        if self._wait is None:
            return operation()
        return retry(operation, waits=_BACKOFF, what="the store", sleep=self._wait)

    @staticmethod
    def _key(run_id: str) -> str:
        return f"runs/{run_id}/run.json"
