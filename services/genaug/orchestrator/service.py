"""OrchestratorService: runs, evaluations and reports on the wire."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import grpc

from genaug.orchestrator.engine import Engine, Work
from genaug.orchestrator.plan import requests_of, write_plan
from genaug.orchestrator.progress import Live
from genaug.orchestrator.records import CANCELLED, FAILED, SUCCEEDED, UNFINISHED, Record, Records
from genaug.orchestrator.rooms import Rooms
from genaug.orchestrator.runners import JobRunner, told_error
from genaug.orchestrator.runners.local import LocalRunner
from genaug.orchestrator.spec import check_alone, complete, run_id
from genaug.orchestrator.workflow import EvaluationApart, SixSteps
from genaug.shared.errors import (
    Cancelled,
    FailedPrecondition,
    GenaugError,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from genaug.shared.metrics import QUEUE_DEPTH
from genaug.shared.names import check_id, digest_id
from genaug.shared.names import run_id as run_id_of
from genaug.shared.protojson import from_dict, to_dict
from genaug.shared.server import frames, page
from genaug.shared.settings import Settings
from genaug.shared.store import Store
from genaug.v1 import common_pb2, evaluation_pb2, orchestrator_service_pb2_grpc, run_pb2
from genaug.v1 import orchestrator_service_pb2 as pb

# Seconds between two looks at a run that is watched.
_WATCH = 0.2


class OrchestratorServicer(orchestrator_service_pb2_grpc.OrchestratorServiceServicer):
    """Starts, watches and stops runs. All state is in the store and in the engine's database."""

    service_name = "genaug.v1.OrchestratorService"

    def __init__(self, settings: Settings) -> None:
        self._store = Store.open(settings.store, "orchestrator")
        live = Live()
        self._records = Records(self._store, live)
        self._rooms = Rooms(settings, store=self._store, runner=_runner(settings, self._store))
        self._engine = Engine(
            settings,
            workflows={
                "run": self._perform_run,
                "evaluation": lambda work: EvaluationApart(self._rooms, work).perform(),
            },
            calls=self._rooms.calls(),
            live=live,
            trace_of=self._trace_of,
        )
        # What a workflow notes must not be lost because the store is restarted.
        self._noted = self._records.patient(self._engine.wait)
        for queue in ("runs", "chunks"):
            QUEUE_DEPTH.labels(queue).set_function(partial(self._engine.waiting, queue))
        self._traces: dict[str, str] = {}
        self._starting = threading.Lock()
        self._closing = threading.Event()
        # Each holds a thread; what they watch needs some too.
        self._watchers = threading.Semaphore(settings.server.threads // 2)

    def warm_up(self) -> None:
        """Open store and database; take up runs that were at work."""
        self._store.check()
        self._engine.launch()
        for run in self._records.ids():
            self._take_up(run)

    def close(self) -> None:
        """Stop the engine; what is at work is taken up at the next start."""
        self._closing.set()
        self._engine.close()
        self._rooms.close()

    def busy(self) -> bool:
        """Whether a run is at work or waits."""
        return self._engine.busy()

    def CreateRun(self, request: pb.CreateRunRequest, context: grpc.ServicerContext) -> run_pb2.Run:
        given = to_dict(request.spec)
        given.pop("import", None)
        check_alone(given)
        name = check_id(request.spec.dataset, field="dataset")
        dataset = self._rooms.get_dataset(f"datasets/{name}")
        spec = complete(given, dataset)
        run = run_id(spec, dataset)
        if request.validate_only:
            return from_dict(run_pb2.Run, {"name": f"runs/{run}", "spec": spec})
        with self._starting:
            try:
                record = self._records.get(run)
            except NotFound:
                self._records.create(run, spec)
                self._start(run)
            else:
                if record["state"] in (FAILED, CANCELLED):
                    self._resume(run)
                self._take_up(run)
        return self._run(run)

    def GetRun(self, request: pb.GetRunRequest, context: grpc.ServicerContext) -> run_pb2.Run:
        return self._run(run_id_of(request.name))

    def ListRuns(self, request: pb.ListRunsRequest, context: grpc.ServicerContext) -> pb.ListRunsResponse:
        records = sorted((self._records.get(run) for run in self._records.ids()), key=_newest_first, reverse=True)
        found, token = page(records, page_size=request.page_size, page_token=request.page_token)
        return pb.ListRunsResponse(runs=[from_dict(run_pb2.Run, record) for record in found], next_page_token=token)

    def WatchRun(self, request: pb.WatchRunRequest, context: grpc.ServicerContext) -> Iterator[pb.WatchRunResponse]:
        run = run_id_of(request.name)
        if not self._watchers.acquire(blocking=False):
            raise ResourceExhausted("too many calls watch runs; ask with GetRun instead", reason="TOO_MANY_WATCHERS")
        try:
            yield from self._changes(run, context)
        finally:
            self._watchers.release()

    def _changes(self, run: str, context: grpc.ServicerContext) -> Iterator[pb.WatchRunResponse]:
        last = None
        while context.is_active():
            record = self._records.now(run)
            if record != last:
                yield pb.WatchRunResponse(run=from_dict(run_pb2.Run, record))
                last = record
            if record["state"] not in UNFINISHED:
                return
            if self._closing.wait(_WATCH):
                raise Unavailable("the orchestrator is ending; ask again", reason="ENDING")

    def CancelRun(self, request: pb.CancelRunRequest, context: grpc.ServicerContext) -> run_pb2.Run:
        run = run_id_of(request.name)
        if self._records.get(run)["state"] in UNFINISHED:
            self._engine.cancel(f"{run}.{self._engine.attempts(run)}")
            self._records.end(run, CANCELLED)
        return self._run(run)

    def ResumeRun(self, request: pb.ResumeRunRequest, context: grpc.ServicerContext) -> run_pb2.Run:
        run = run_id_of(request.name)
        with self._starting:
            if self._records.get(run)["state"] in (FAILED, CANCELLED):
                self._resume(run)
            self._take_up(run)
        return self._run(run)

    def GetReport(self, request: pb.GetReportRequest, context: grpc.ServicerContext) -> Iterator[pb.GetReportResponse]:
        run = run_id_of(request.name)
        if self._records.get(run)["state"] != SUCCEEDED:
            raise FailedPrecondition(
                f"runs/{run} has no report yet; `genaug run watch runs/{run}` follows it", reason="NO_REPORT"
            )
        for data in frames(self._store.get(f"runs/{run}/report.html")):
            yield pb.GetReportResponse(frame=common_pb2.FileFrame(data=data))

    def CreateEvaluation(
        self, request: pb.CreateEvaluationRequest, context: grpc.ServicerContext
    ) -> evaluation_pb2.Evaluation:
        name, _ = write_plan(self._store, to_dict(request.spec))
        with self._starting:
            attempts = self._engine.attempts(name)
            unstarted = not attempts and not self._store.exists(f"{name}/evaluation.json")
            if unstarted or (attempts and self._engine.outcome(f"{name}.{attempts}") is not None):
                self._engine.start("evaluation", name, f"{name}.{attempts + 1}")
        return self._evaluation(name)

    def GetEvaluation(
        self, request: pb.GetEvaluationRequest, context: grpc.ServicerContext
    ) -> evaluation_pb2.Evaluation:
        return self._evaluation(f"evaluations/{digest_id(request.name, 'evaluations')}")

    def ListEvaluations(
        self, request: pb.ListEvaluationsRequest, context: grpc.ServicerContext
    ) -> pb.ListEvaluationsResponse:
        planned = {key.rsplit("/", 1)[-1].removesuffix(".json") for key, _ in self._store.list("requests/evaluation/")}
        digests = planned | set(self._store.children("evaluations/"))
        listed = sorted(
            (self._evaluation(f"evaluations/{digest}") for digest in digests),
            key=lambda evaluation: (evaluation.create_time, evaluation.name),
            reverse=True,
        )
        found, token = page(listed, page_size=request.page_size, page_token=request.page_token)
        return pb.ListEvaluationsResponse(evaluations=found, next_page_token=token)

    def _run(self, run: str) -> run_pb2.Run:
        return from_dict(run_pb2.Run, self._records.now(run))

    def _start(self, run: str) -> None:
        self._engine.start("run", run, f"{run}.{self._engine.attempts(run) + 1}")

    def _take_up(self, run: str) -> None:
        """Start a run that should be at work and is not: its orchestrator was killed between two notes."""
        attempts = self._engine.attempts(run)
        at_work = bool(attempts) and self._engine.status(f"{run}.{attempts}") in ("ENQUEUED", "PENDING")
        if self._records.get(run)["state"] in UNFINISHED and not at_work:
            self._start(run)

    def _resume(self, run: str) -> None:
        """A new attempt: all that was finished is found in the store."""
        self._records.update(run, state="STATE_PENDING", error="", end_time="")
        self._start(run)

    def _perform_run(self, work: Work) -> None:
        try:
            SixSteps(self._rooms, self._noted, work).perform()
        except Cancelled:
            # CancelRun has said so already, unless somebody else has ended a Job.
            if self._noted.get(work.owner)["state"] in UNFINISHED and work.is_latest():
                self._noted.end(work.owner, CANCELLED)
            raise
        except GenaugError as error:
            self._noted.end(work.owner, FAILED, error=f"{error.reason}: {error.message}")
            raise
        except Exception:
            self._noted.end(work.owner, FAILED, error="INTERNAL: an error of ours; see the orchestrator's log")
            raise

    def _trace_of(self, owner: str) -> str:
        """The trace context of a run, or of an evaluation apart."""
        if owner not in self._traces:
            found = self._rooms.get_plan(owner) if owner.startswith("evaluations/") else self._noted.get(owner)
            self._traces[owner] = str(found.get("traceparent", ""))
        return self._traces[owner]

    def _evaluation(self, name: str) -> evaluation_pb2.Evaluation:
        """What is known of an evaluation: its result, or where it is."""
        if self._store.exists(f"{name}/evaluation.json"):
            found = self._store.get_json(f"{name}/evaluation.json") | {"state": "STATE_SUCCEEDED"}
            return from_dict(evaluation_pb2.Evaluation, found)
        try:
            plan = self._rooms.get_plan(name)
        except NotFound:
            raise NotFound(
                f"{name} does not exist; `genaug evaluation list` shows what does", reason="EVALUATION_NOT_FOUND"
            ) from None
        attempts = self._engine.attempts(name)
        error = self._engine.outcome(f"{name}.{attempts}") if attempts else self._told(plan)
        return evaluation_pb2.Evaluation(
            name=name,
            spec=from_dict(evaluation_pb2.EvaluationSpec, plan["inputs"]["spec"]),
            state=evaluation_pb2.Evaluation.STATE_FAILED if error else evaluation_pb2.Evaluation.STATE_RUNNING,
            error=f"{error.reason}: {error.message}" if error else "",
            create_time=plan["create_time"],
        )

    def _told(self, plan: dict[str, Any]) -> GenaugError | None:
        """The error of an evaluation that was started apart from us, as its Jobs have told it."""
        errors = (told_error(self._store, request, 1) for request in requests_of(plan))
        return next((error for error in errors if error is not None), None)


def _runner(settings: Settings, store: Store) -> JobRunner:
    if settings.jobs.runner == "local":
        return LocalRunner(settings, store)
    # Its client takes a second to load, and is of no use on a laptop.
    from genaug.orchestrator.runners.kubernetes import KubernetesRunner

    return KubernetesRunner(settings.jobs, store)


def _newest_first(record: Record) -> tuple[str, str]:
    return record["create_time"], record["name"]


def register(server: grpc.Server, settings: Settings) -> OrchestratorServicer:
    """Add the orchestrator to a server."""
    servicer = OrchestratorServicer(settings)
    orchestrator_service_pb2_grpc.add_OrchestratorServiceServicer_to_server(servicer, server)
    return servicer
