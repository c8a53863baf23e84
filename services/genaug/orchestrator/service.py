"""OrchestratorService: runs, evaluations and reports on the wire."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import grpc

from genaug.orchestrator.engine import Engine, Work
from genaug.orchestrator.plan import requests_of, write_plan
from genaug.orchestrator.progress_tracker import ProgressTracker
from genaug.orchestrator.records import Records
from genaug.orchestrator.runners import JobRunner, recorded_error
from genaug.orchestrator.runners.local import LocalRunner
from genaug.orchestrator.service_clients import ServiceClients
from genaug.orchestrator.workflow import SeparateEvaluation, SixSteps
from genaug.schema.completion import complete
from genaug.schema.evaluation import Evaluation, EvaluationSpec
from genaug.schema.jobs import EvaluationPlan
from genaug.schema.model import read
from genaug.schema.run import Run, RunSpec, RunState, run_id
from genaug.schema.wire import from_proto, to_proto
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
        tracker = ProgressTracker()
        self._records = Records(self._store, tracker)
        self._services = ServiceClients(settings, store=self._store, runner=_runner(settings, self._store))
        self._engine = Engine(
            settings,
            workflows={
                "run": self._perform_run,
                "evaluation": lambda work: SeparateEvaluation(self._services, work).perform(),
            },
            calls=self._services.calls(),
            tracker=tracker,
            trace_of=self._trace_of,
        )
        # What a workflow notes must not be lost because the store is restarted.
        self._patient_records = self._records.patient(self._engine.wait)
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
        """Stop the engine; running workflows continue at the next start."""
        self._closing.set()
        self._engine.close()
        self._services.close()

    def busy(self) -> bool:
        """Whether a run is at work or waits."""
        return self._engine.busy()

    def CreateRun(self, request: pb.CreateRunRequest, context: grpc.ServicerContext) -> run_pb2.Run:
        given = from_proto(RunSpec, request.spec, reason="BAD_RUN_FILE")
        name = check_id(given.dataset, field="dataset")
        dataset = self._services.get_dataset(f"datasets/{name}")
        spec = complete(given, dataset)
        run = run_id(spec, dataset)
        if request.validate_only:
            return to_proto(run_pb2.Run, Run(name=f"runs/{run}", spec=spec))
        with self._starting:
            try:
                record = self._records.get(run)
            except NotFound:
                self._records.create(run, spec)
                self._start(run)
            else:
                if record.state in (RunState.FAILED, RunState.CANCELLED):
                    self._resume(run)
                self._take_up(run)
        return self._run(run)

    def GetRun(self, request: pb.GetRunRequest, context: grpc.ServicerContext) -> run_pb2.Run:
        return self._run(run_id_of(request.name))

    def ListRuns(self, request: pb.ListRunsRequest, context: grpc.ServicerContext) -> pb.ListRunsResponse:
        records = sorted((self._records.get(run) for run in self._records.ids()), key=_newest_first, reverse=True)
        found, token = page(records, page_size=request.page_size, page_token=request.page_token)
        return pb.ListRunsResponse(runs=[to_proto(run_pb2.Run, record) for record in found], next_page_token=token)

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
                yield pb.WatchRunResponse(run=to_proto(run_pb2.Run, record))
                last = record
            if record.state.is_final:
                return
            if self._closing.wait(_WATCH):
                raise Unavailable("the orchestrator is ending; ask again", reason="ENDING")

    def CancelRun(self, request: pb.CancelRunRequest, context: grpc.ServicerContext) -> run_pb2.Run:
        run = run_id_of(request.name)
        if not self._records.get(run).state.is_final:
            self._engine.cancel(f"{run}.{self._engine.attempts(run)}")
            self._records.end(run, RunState.CANCELLED)
        return self._run(run)

    def ResumeRun(self, request: pb.ResumeRunRequest, context: grpc.ServicerContext) -> run_pb2.Run:
        run = run_id_of(request.name)
        with self._starting:
            if self._records.get(run).state in (RunState.FAILED, RunState.CANCELLED):
                self._resume(run)
            self._take_up(run)
        return self._run(run)

    def GetReport(self, request: pb.GetReportRequest, context: grpc.ServicerContext) -> Iterator[pb.GetReportResponse]:
        run = run_id_of(request.name)
        if self._records.get(run).state != RunState.SUCCEEDED:
            raise FailedPrecondition(
                f"runs/{run} has no report yet; `genaug run watch runs/{run}` follows it", reason="NO_REPORT"
            )
        for data in frames(self._store.get(f"runs/{run}/report.html")):
            yield pb.GetReportResponse(frame=common_pb2.FileFrame(data=data))

    def CreateEvaluation(
        self, request: pb.CreateEvaluationRequest, context: grpc.ServicerContext
    ) -> evaluation_pb2.Evaluation:
        name, _ = write_plan(self._store, from_proto(EvaluationSpec, request.spec, reason="BAD_EVALUATION"))
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
        return to_proto(run_pb2.Run, self._records.now(run))

    def _start(self, run: str) -> None:
        self._engine.start("run", run, f"{run}.{self._engine.attempts(run) + 1}")

    def _take_up(self, run: str) -> None:
        """Start a run that should be at work and is not: its orchestrator was killed between two notes."""
        attempts = self._engine.attempts(run)
        at_work = bool(attempts) and self._engine.status(f"{run}.{attempts}") in ("ENQUEUED", "PENDING")
        if not self._records.get(run).state.is_final and not at_work:
            self._start(run)

    def _resume(self, run: str) -> None:
        """A new attempt: all that was finished is found in the store."""
        self._records.update(run, state=RunState.PENDING, error="", end_time="")
        self._start(run)

    def _perform_run(self, work: Work) -> None:
        try:
            SixSteps(self._services, self._patient_records, work).perform()
        except Cancelled:
            # CancelRun has said so already, unless somebody else has ended a Job.
            if not self._patient_records.get(work.owner).state.is_final and work.is_latest():
                self._patient_records.end(work.owner, RunState.CANCELLED)
            raise
        except GenaugError as error:
            self._patient_records.end(work.owner, RunState.FAILED, error=f"{error.reason}: {error.message}")
            raise
        except Exception:
            self._patient_records.end(
                work.owner, RunState.FAILED, error="INTERNAL: an error of ours; see the orchestrator's log"
            )
            raise

    def _trace_of(self, owner: str) -> str:
        """The trace context of a run, or of an evaluation apart."""
        if owner not in self._traces:
            is_evaluation = owner.startswith("evaluations/")
            record = self._services.get_plan(owner) if is_evaluation else self._patient_records.get(owner)
            self._traces[owner] = record.traceparent
        return self._traces[owner]

    def _evaluation(self, name: str) -> evaluation_pb2.Evaluation:
        """The record of an evaluation: its result, or its state so far."""
        if self._store.exists(f"{name}/evaluation.json"):
            return to_proto(evaluation_pb2.Evaluation, read(self._store, f"{name}/evaluation.json", Evaluation))
        try:
            plan = self._services.get_plan(name)
        except NotFound:
            raise NotFound(
                f"{name} does not exist; `genaug evaluation list` shows what does", reason="EVALUATION_NOT_FOUND"
            ) from None
        attempts = self._engine.attempts(name)
        error = self._engine.outcome(f"{name}.{attempts}") if attempts else self._recorded_error(plan)
        return evaluation_pb2.Evaluation(
            name=name,
            spec=to_proto(evaluation_pb2.EvaluationSpec, plan.inputs.spec),
            state=evaluation_pb2.Evaluation.STATE_FAILED if error else evaluation_pb2.Evaluation.STATE_RUNNING,
            error=f"{error.reason}: {error.message}" if error else "",
            create_time=plan.create_time,
        )

    def _recorded_error(self, plan: EvaluationPlan) -> GenaugError | None:
        """The error that the Jobs of an evaluation started by hand have recorded."""
        errors = (recorded_error(self._store, request, 1) for request in requests_of(plan))
        return next((error for error in errors if error is not None), None)


def _runner(settings: Settings, store: Store) -> JobRunner:
    if settings.jobs.runner == "local":
        return LocalRunner(settings, store)
    # Its client takes a second to load, and is of no use on a laptop.
    from genaug.orchestrator.runners.kubernetes import KubernetesRunner

    return KubernetesRunner(settings.jobs, store)


def _newest_first(run: Run) -> tuple[str, str]:
    return run.create_time, run.name


def register(server: grpc.Server, settings: Settings) -> OrchestratorServicer:
    """Add the orchestrator to a server."""
    servicer = OrchestratorServicer(settings)
    orchestrator_service_pb2_grpc.add_OrchestratorServiceServicer_to_server(servicer, server)
    return servicer
