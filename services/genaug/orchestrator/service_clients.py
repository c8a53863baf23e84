"""The effects of the workflow: one method per service call or Job, with schema models on both sides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import Message
from pydantic import JsonValue

from genaug.client import connect, translated
from genaug.orchestrator.plan import plan_key
from genaug.orchestrator.runners import JobRunner
from genaug.schema.datasets import Dataset, DatasetVersion
from genaug.schema.evaluation import Evaluation, Verdict
from genaug.schema.generators import Batch
from genaug.schema.jobs import INPUTS, EvaluationPlan, JobInputs, JobRequest, JobStep
from genaug.schema.model import Model, parse, read
from genaug.schema.requests import (
    AssembleRequest,
    DrawAndLabelRequest,
    DrawAndLabelResult,
    EmbedRequest,
    GenerateRequest,
    LabelledBatch,
    LabelRequest,
    MatchRequest,
    Name,
    SelectRequest,
)
from genaug.schema.selection import Embedding, Match, Selection
from genaug.schema.wire import from_proto, to_proto
from genaug.shared.errors import Cancelled, GenaugError, Internal
from genaug.shared.metrics import JOBS
from genaug.shared.progress import ProgressCallback
from genaug.shared.settings import Settings
from genaug.shared.store import Store
from genaug.v1 import (
    assembly_service_pb2,
    assembly_service_pb2_grpc,
    generation_service_pb2,
    generation_service_pb2_grpc,
    labeling_service_pb2,
    labeling_service_pb2_grpc,
    selection_service_pb2,
    selection_service_pb2_grpc,
)

IsActive = Callable[[], bool]
"""Whether the caller still wants the result; asked often."""
M = TypeVar("M", bound=Model)

# The object that a Job writes last, by the collection of its result.
_LAST = {"generators": "generator.json", "classifiers": "classifier.json", "evaluations": "evaluation.json"}
# Timeout of a call that only reads or writes manifests, seconds.
_TIMEOUT = 120.0


class JobCall(Model):
    """A Job to run unless the store holds its results."""

    step: JobStep
    inputs: dict[str, JsonValue]
    """JSON of the step's inputs model."""
    results: tuple[str, ...] = ()

    @classmethod
    def of(cls, inputs: JobInputs, results: list[str]) -> JobCall:
        """The call for `inputs`."""
        return cls(step=JobRequest.of(inputs).step, inputs=inputs.json_value(), results=tuple(results))


class JobOutcome(Model):
    """Outcome of a `JobCall`."""

    reused: int = 0
    """Results that the store held already."""


class ServiceClients:
    """Clients of the services, and the runner of Jobs. Each public call is idempotent: results come from the store.

    The methods in `calls()` have the signature (request, is_active, on_progress) -> result.
    """

    def __init__(self, settings: Settings, *, store: Store, runner: JobRunner) -> None:
        self._store = store
        self._runner = runner
        self._parallelism = settings.jobs.parallelism
        self._own = settings.server.address
        self._endpoints = settings.endpoints
        token = settings.auth.token.get_secret_value()
        self._channels = {
            name: connect(self._endpoint(name), token=token, authority=settings.tls.authority)
            for name in ("assembly", "generation", "labeling", "selection")
        }
        self._assembly = assembly_service_pb2_grpc.AssemblyServiceStub(self._channels["assembly"])
        self._generation = generation_service_pb2_grpc.GenerationServiceStub(self._channels["generation"])
        self._labeling = labeling_service_pb2_grpc.LabelingServiceStub(self._channels["labeling"])
        self._selection = selection_service_pb2_grpc.SelectionServiceStub(self._channels["selection"])

    def close(self) -> None:
        """Close the channels."""
        for channel in self._channels.values():
            channel.close()

    def calls(self) -> tuple[Callable[..., Model], ...]:
        """Calls that the engine may record."""
        return (
            self.dataset,
            self.assemble,
            self.generate,
            self.generate_and_label,
            self.label,
            self.embed,
            self.select,
            self.match,
            self.run_job,
            self.verdict,
        )

    def get_dataset(self, name: str) -> Dataset:
        """Read a dataset's record."""
        with translated(self._endpoint("assembly")):
            request = assembly_service_pb2.GetDatasetRequest(name=name)
            return from_proto(Dataset, self._assembly.GetDataset(request, timeout=_TIMEOUT))

    def dataset(self, request: Name, is_active: IsActive, on_progress: ProgressCallback) -> Dataset:
        """Read a dataset's record."""
        return self.get_dataset(request.name)

    def assemble(self, request: AssembleRequest, is_active: IsActive, on_progress: ProgressCallback) -> DatasetVersion:
        """Assemble a dataset version."""
        message = to_proto(assembly_service_pb2.AssembleDatasetVersionRequest, request)
        with translated(self._endpoint("assembly")):
            version = from_proto(DatasetVersion, self._assembly.AssembleDatasetVersion(message, timeout=_TIMEOUT))
        on_progress(1, 1, "versions")
        return version

    def generate(self, request: GenerateRequest, is_active: IsActive, on_progress: ProgressCallback) -> Batch:
        """Draw a batch."""
        message = to_proto(generation_service_pb2.GenerateImagesRequest, request)
        method = self._generation.GenerateImages
        return self._stream("generation", method, message, "batch", Batch, is_active, on_progress)

    def generate_and_label(
        self, request: DrawAndLabelRequest, is_active: IsActive, on_progress: ProgressCallback
    ) -> DrawAndLabelResult:
        """Draw a batch, and label it."""
        batch = self.generate(request.generate, is_active, on_progress)
        label = LabelRequest(
            classifier=request.classifier, batch=batch.name, mode=request.mode, precision=request.precision
        )
        # The images were counted when they were drawn.
        return DrawAndLabelResult(batch=batch, labelled=self.label(label, is_active, lambda *_: None))

    def label(self, request: LabelRequest, is_active: IsActive, on_progress: ProgressCallback) -> LabelledBatch:
        """Label a batch."""
        message = to_proto(labeling_service_pb2.LabelBatchRequest, request)
        method = self._labeling.LabelBatch
        return self._stream("labeling", method, message, "labelled_batch", LabelledBatch, is_active, on_progress)

    def embed(self, request: EmbedRequest, is_active: IsActive, on_progress: ProgressCallback) -> Embedding:
        """Embed a dataset version."""
        message = to_proto(selection_service_pb2.EmbedVersionRequest, request)
        method = self._selection.EmbedVersion
        return self._stream("selection", method, message, "embedding", Embedding, is_active, on_progress)

    def select(self, request: SelectRequest, is_active: IsActive, on_progress: ProgressCallback) -> Selection:
        """Reduce the dominant classes."""
        message = to_proto(selection_service_pb2.SelectImagesRequest, request)
        method = self._selection.SelectImages
        return self._stream("selection", method, message, "selection", Selection, is_active, on_progress)

    def match(self, request: MatchRequest, is_active: IsActive, on_progress: ProgressCallback) -> Match:
        """Match made images with real ones."""
        message = to_proto(selection_service_pb2.MatchImagesRequest, request)
        method = self._selection.MatchImages
        return self._stream("selection", method, message, "match", Match, is_active, on_progress)

    def run_job(self, request: JobCall, is_active: IsActive, on_progress: ProgressCallback) -> JobOutcome:
        """Run a Job unless the store holds its results; a repeated one makes the missing results."""
        step, results = request.step, request.results
        missing = [name for name in results if not self._finished(name)]
        if results and not missing:
            return JobOutcome(reused=len(results))
        job = JobRequest.of(parse(INPUTS[step], request.inputs, reason="BAD_REQUEST"))  # type: ignore[arg-type]
        job.write(self._store)
        shards = min(self._parallelism, len(results)) if step == "train" else 1
        try:
            self._runner.run(
                job,
                shards=shards,
                is_active=is_active,
                on_progress=on_progress,
                finished=lambda: all(self._finished(name) for name in results),
            )
        except GenaugError as error:
            JOBS.labels(step, "cancelled" if isinstance(error, Cancelled) else "failed").inc()
            raise
        JOBS.labels(step, "succeeded").inc()
        lost = [name for name in missing if not self._finished(name)]
        if lost:
            raise Internal(f"the {step} Job succeeded without writing {lost[0]}", reason="RESULT_MISSING")
        return JobOutcome(reused=len(results) - len(missing))

    def verdict(self, request: Name, is_active: IsActive, on_progress: ProgressCallback) -> Verdict:
        """Read the verdict of a finished evaluation."""
        verdict = read(self._store, f"{request.name}/evaluation.json", Evaluation).verdict
        assert verdict is not None  # noqa: S101  # a finished evaluation has one
        return verdict

    def get_plan(self, evaluation: str) -> EvaluationPlan:
        """Read the plan of an evaluation apart from a run."""
        return read(self._store, plan_key(evaluation), EvaluationPlan)

    def _endpoint(self, service: str) -> str:
        configured: str = getattr(self._endpoints, service)
        return configured or self._own

    def _finished(self, name: str) -> bool:
        return self._store.exists(f"{name}/{_LAST[name.split('/')[0]]}")

    def _stream(
        self,
        service: str,
        method: Any,
        message: Message,
        result: str,
        kind: type[M],
        is_active: IsActive,
        on_progress: ProgressCallback,
    ) -> M:
        """Read a stream of progress to its result; cancel the call when `is_active` turns False."""
        with translated(self._endpoint(service)):
            call = method(message)
            try:
                for event in call:
                    field = event.WhichOneof("event")
                    if field == result:
                        return from_proto(kind, getattr(event, result))
                    if field == "progress":
                        on_progress(event.progress.done, event.progress.total, event.progress.unit)
                    if not is_active():
                        raise Cancelled("cancelled", reason="CANCELLED")
            finally:
                call.cancel()
        raise Internal(f"{service} ended a stream without a result", reason="RESULT_MISSING")
