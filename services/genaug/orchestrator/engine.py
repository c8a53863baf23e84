"""The durable engine: workflows that survive `kill -9`, on DBOS (SQLite, or Postgres).

Steps are at-least-once; effects become exactly-once through the store, whose keys are functions of the inputs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, get_type_hints

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID
from dbos._serialization import DefaultSerializer

from genaug.orchestrator.database import check_database
from genaug.orchestrator.progress_tracker import ProgressTracker
from genaug.schema.model import Model
from genaug.shared.digests import digest_of
from genaug.shared.errors import BY_CODE, Cancelled, FailedPrecondition, GenaugError, Internal
from genaug.shared.progress import ProgressCallback
from genaug.shared.settings import Settings
from genaug.shared.telemetry import run_id
from genaug.shared.tracing import span

log = logging.getLogger(__name__)

# Bumped when workflow.py changes so that a run begun before cannot be replayed: DBOS would hash the source instead,
# and every upgrade would leave its runs pending.
WORKFLOW_VERSION = "6"

Q = TypeVar("Q", bound=Model)
R = TypeVar("R", bound=Model)
IsActive = Callable[[], bool]
Call = Callable[[Q, IsActive, ProgressCallback], R]
"""call(request, is_active, on_progress) -> result: one idempotent effect, recorded as JSON."""
Json = dict[str, Any]

# Waits between attempts at a call whose service is away or full, seconds.
_BACKOFF = (1, 2, 4, 8, 15, 30, 30, 30)
_AWAY = ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")


def _refuse(self: DefaultSerializer, serialized_data: str) -> Any:
    raise FailedPrecondition("the database holds a pickled value; genaug never writes or reads one", reason="PICKLE")


# Choosing JSON does not keep DBOS from unpickling rows that are marked as pickled: a writer to the database would run
# code here. So its unpickler is taken away.
setattr(DefaultSerializer, "deserialize", _refuse)  # noqa: B010  # mypy minds an assignment to a method


class _Closing(BaseException):
    """Leaves a step without an outcome (DBOS records any Exception): the step is done again at the next launch."""


class Work:
    """Durable calls and chunks of a workflow, on behalf of one owner (a run or an evaluation)."""

    def __init__(self, engine: Engine, owner: str, workflow_id: str) -> None:
        self._engine = engine
        self.owner = owner
        self._workflow_id = workflow_id

    def call(self, call: Call[Q, R], request: Q) -> R:
        """Do one call durably: its result is recorded, and returned again when the workflow is replayed.

        Raises:
            GenaugError: as the call did.
        """
        result = self._engine.durably(self.owner, self._workflow_id, call.__name__, request.json_value())
        return _result_type(call).model_validate(result)

    def is_latest(self) -> bool:
        """Whether no later attempt has taken over."""
        return self._engine.is_latest(self.owner, self._workflow_id)

    def chunks(self, call: Call[Q, R], requests: Sequence[Q], *, sizes: Iterable[int]) -> list[R]:
        """Do many calls, each in a durable child workflow of its own, several at once.

        Args:
            call: The call.
            requests: One per chunk.
            sizes: Units of progress in each.

        Returns:
            The results, in order.

        Raises:
            GenaugError: the first chunk's that failed.
        """
        handles = []
        for request, size in zip((request.json_value() for request in requests), sizes, strict=True):
            part = digest_of(call.__name__, request)
            self._engine.tracker.expect(self.owner, part, size)
            with SetWorkflowID(f"{self._workflow_id}-{call.__name__}-{part[:16]}"):
                handles.append(
                    DBOS.enqueue_workflow("chunks", _chunk, self.owner, self._workflow_id, call.__name__, request)
                )
        kind = _result_type(call)
        return [kind.model_validate(_unwrap(handle.get_result(polling_interval_sec=0.2))) for handle in handles]


def _result_type(call: Callable[..., R]) -> type[R]:
    kind: type[R] = get_type_hints(call)["return"]
    return kind


Workflow = Callable[[Work], None]


class Engine:
    """The workflows of one orchestrator.

    Args:
        settings: Where the database is, and how much may run at once.
        workflows: By kind, such as "run".
        calls: Effects of the workflows; see `Call`.
        tracker: Receives progress.
        trace_of: The `traceparent` under which an owner's work is done.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        workflows: dict[str, Workflow],
        calls: Iterable[Callable[..., Model]],
        tracker: ProgressTracker,
        trace_of: Callable[[str], str] = lambda owner: "",
    ) -> None:
        self._settings = settings
        self._trace_of = trace_of
        self._workflows = workflows
        self._calls = {call.__name__: call for call in calls}
        self.tracker = tracker
        self._cancelled: set[str] = set()
        self._closing = threading.Event()
        self._launched = False
        self._active: set[str] = set()
        self._lock = threading.Lock()

    def launch(self) -> None:
        """Open the database and continue the workflows that were running when the orchestrator ended.

        Raises:
            FailedPrecondition: the database cannot be opened, or a newer release has written it.
        """
        global _engine
        url = self._settings.database.url
        check_database(url)
        _engine = self
        try:
            config: DBOSConfig = {
                "name": "genaug",
                "system_database_url": url,
                "serializer": DBOSPortableJSONSerializer(),
                "executor_id": self._settings.database.executor_id,
                "application_version": WORKFLOW_VERSION,
                "sys_db_idle_transaction_timeout_sec": 15,
                "scheduler_polling_interval_sec": 3600.0,
                "log_level": "WARNING",
            }
            DBOS(config=config)
            DBOS.launch()
            DBOS.register_queue(
                "runs",
                worker_concurrency=self._settings.jobs.runs,
                polling_interval_sec=0.5,
                on_conflict="always_update",
            )
            DBOS.register_queue("chunks", worker_concurrency=4, polling_interval_sec=0.3, on_conflict="always_update")
            self._launched = True
        except Exception as error:
            log.error("the database cannot be opened", exc_info=error)
            # Else the next attempt would find this one's half-opened.
            DBOS.destroy()
            raise FailedPrecondition(
                f"database.url: the database cannot be opened ({type(error).__name__}); check that it is reachable "
                "and writable",
                reason="DATABASE_UNAVAILABLE",
            ) from error

    def close(self) -> None:
        """Stop; running workflows continue at the next launch."""
        self._closing.set()
        self._launched = False
        DBOS.destroy()

    def start(self, kind: str, owner: str, workflow_id: str) -> None:
        """Start a workflow unless `workflow_id` exists."""
        with SetWorkflowID(workflow_id):
            DBOS.enqueue_workflow("runs", _workflow, kind, owner)

    def status(self, workflow_id: str) -> str:
        """State: "" (unknown), ENQUEUED, PENDING (at work), SUCCESS, ERROR or CANCELLED."""
        status = DBOS.get_workflow_status(workflow_id)
        return status.status if status else ""

    def outcome(self, workflow_id: str) -> GenaugError | None:
        """Why a finished workflow failed; None if it succeeded."""
        status = DBOS.get_workflow_status(workflow_id)
        output = status.output if status else None
        return _error(output["error"]) if isinstance(output, dict) and "error" in output else None

    def attempts(self, stem: str) -> int:
        """How many workflows "{stem}.1", "{stem}.2", … there are."""
        number = 0
        while DBOS.get_workflow_status(f"{stem}.{number + 1}") is not None:
            number += 1
        return number

    def is_latest(self, owner: str, workflow_id: str) -> bool:
        """Whether `workflow_id` is the last attempt of its owner."""
        # Looked up by a thread of its own: asked by a workflow's, DBOS would record the answer as a step.
        with ThreadPoolExecutor(1) as thread:
            return workflow_id == f"{owner}.{thread.submit(self.attempts, owner).result()}"

    def cancel(self, workflow_id: str) -> None:
        """Stop a workflow with its children; the call at work stops within a unit of its work."""
        self._cancelled.add(workflow_id)
        DBOS.cancel_workflow(workflow_id, cancel_children=True)

    def wait(self, seconds: float) -> None:
        """Sleep, unless the engine closes: then leave the workflow, which is taken up at the next launch."""
        if self._closing.wait(seconds):
            raise _Closing

    def waiting(self, queue: str) -> int:
        """Workflows of `queue` ("runs" or "chunks") that wait for their turn."""
        if not self._launched:
            return 0
        return len(DBOS.list_workflows(queue_name=queue, status="ENQUEUED", load_input=False, load_output=False))

    def busy(self) -> bool:
        """Whether a workflow is at work or waits for its turn."""
        if not self._launched:
            return False
        if self._active:
            return True
        return bool(DBOS.list_workflows(status=["PENDING", "ENQUEUED"], limit=1, load_input=False, load_output=False))

    def durably(self, owner: str, workflow_id: str, name: str, request: Json) -> Json:
        """Do the call `name` as a recorded step of the workflow that this thread runs."""

        def is_active() -> bool:
            # What is at work elsewhere, such as a Job, is then left there.
            self._leave_if_closing()
            return workflow_id not in self._cancelled

        part = digest_of(name, request)
        run_id.set(owner)

        def on_progress(done: int, total: int, unit: str, note: str = "", /) -> None:
            self.tracker.update(owner, part, done, total, unit, note)

        def attempt() -> Json:
            with span(name, parent=self._trace_of(owner), owner=owner):
                return self._attempt(self._calls[name], request, is_active, on_progress)

        return _unwrap(DBOS.run_step({"name": name}, attempt))

    def _attempt(
        self, call: Callable[..., Model], request: Json, is_active: IsActive, on_progress: ProgressCallback
    ) -> Json:
        """The outcome as JSON: an exception would come back from a replay as another type."""
        value = get_type_hints(call)["request"].model_validate(request)
        for wait in (*_BACKOFF, None):
            try:
                return {"result": call(value, is_active, on_progress).json_value()}
            except GenaugError as error:
                self._leave_if_closing()
                if error.code not in _AWAY or wait is None:
                    return {"error": _error_dict(error)}
                log.warning("a service is away", extra={"call": call.__name__, "reason": error.reason, "retry_s": wait})
            except Exception as error:
                self._leave_if_closing()
                log.error("a call failed", exc_info=error, extra={"call": call.__name__})
                return {
                    "error": _error_dict(Internal(f"{call.__name__}: an error of ours; see the orchestrator's log"))
                }
            ready = time.monotonic() + wait
            while time.monotonic() < ready:
                if not is_active():
                    return {"error": _error_dict(Cancelled("cancelled", reason="CANCELLED"))}
                time.sleep(0.1)
        raise AssertionError("unreachable: the last wait is None")

    def _leave_if_closing(self) -> None:
        if self._closing.is_set():
            raise _Closing

    def perform(self, kind: str, owner: str) -> Json:
        """Run a workflow to its end; an error is its result."""
        workflow_id = DBOS.workflow_id
        assert workflow_id is not None  # noqa: S101  # only called by a workflow
        with self._lock:
            self._active.add(workflow_id)
        try:
            if not self.is_latest(owner, workflow_id):
                # Left by an orchestrator that was killed before it could note the end; a later attempt has taken over.
                raise Cancelled("a later attempt has taken over", reason="SUPERSEDED")
            self._workflows[kind](Work(self, owner, workflow_id))
        except GenaugError as error:
            return {"error": _error_dict(error)}
        except Exception as error:
            log.error("a workflow failed", exc_info=error, extra={"owner": owner})
            return {"error": _error_dict(Internal("an error of ours; see the orchestrator's log"))}
        finally:
            with self._lock:
                self._active.discard(workflow_id)
            self.tracker.forget(owner)
        return {}


# DBOS finds workflows by name in a registry of the process; they find their engine here.
_engine: Engine | None = None


def _current() -> Engine:
    if _engine is None:
        raise RuntimeError("no engine is launched")
    return _engine


@DBOS.workflow(name="workflow")
def _workflow(kind: str, owner: str) -> Json:
    return _current().perform(kind, owner)


@DBOS.workflow(name="chunk")
def _chunk(owner: str, parent: str, call: str, request: Json) -> Json:
    try:
        return {"result": _current().durably(owner, parent, call, request)}
    except GenaugError as error:
        return {"error": _error_dict(error)}


def _error_dict(error: GenaugError) -> dict[str, str]:
    return {"code": error.code, "reason": error.reason, "message": error.message}


def _error(found: dict[str, str]) -> GenaugError:
    return BY_CODE.get(found["code"], Internal)(found["message"], reason=found["reason"])


def _unwrap(outcome: Json) -> Json:
    if "error" in outcome:
        raise _error(outcome["error"])
    result: Json = outcome["result"]
    return result
