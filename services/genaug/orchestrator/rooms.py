"""The other rooms, as the workflow sees them: one method per effect, plain JSON on both sides. The wire ends here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from genaug.client import connect, translated
from genaug.orchestrator.plan import plan_key
from genaug.orchestrator.runners import JobRunner
from genaug.schema.jobs import JobStep, make_request, write_request
from genaug.shared.errors import Cancelled, GenaugError, Internal
from genaug.shared.metrics import JOBS
from genaug.shared.progress import ProgressCallback
from genaug.shared.protojson import from_dict, to_dict
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

Until = Callable[[], bool]
Json = dict[str, Any]

# The object that a Job writes last, by the collection of its result.
_LAST = {"generators": "generator.json", "classifiers": "classifier.json", "evaluations": "evaluation.json"}
# Seconds for a call that only reads or writes manifests.
_SHORT = 120.0


class Rooms:
    """The services and the Jobs. Each method is a `Call` of the engine: (request, until, on_progress) -> result.

    A request that was answered before is answered from the store, so repeating any of them is safe.
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

    def calls(self) -> tuple[Callable[[Json, Until, ProgressCallback], Json], ...]:
        """What the engine may be asked to do."""
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

    def get_dataset(self, name: str) -> Json:
        """The Dataset record."""
        with translated(self._endpoint("assembly")):
            return to_dict(self._assembly.GetDataset(assembly_service_pb2.GetDatasetRequest(name=name), timeout=_SHORT))

    def dataset(self, request: Json, until: Until, on_progress: ProgressCallback) -> Json:
        """{name} -> Dataset."""
        return self.get_dataset(request["name"])

    def get_version(self, name: str) -> Json:
        """The DatasetVersion record."""
        with translated(self._endpoint("assembly")):
            request = assembly_service_pb2.GetDatasetVersionRequest(name=name)
            return to_dict(self._assembly.GetDatasetVersion(request, timeout=_SHORT))

    def assemble(self, request: Json, until: Until, on_progress: ProgressCallback) -> Json:
        """AssembleDatasetVersionRequest -> DatasetVersion."""
        message = from_dict(assembly_service_pb2.AssembleDatasetVersionRequest, request)
        with translated(self._endpoint("assembly")):
            version = to_dict(self._assembly.AssembleDatasetVersion(message, timeout=_SHORT))
        on_progress(1, 1, "versions")
        return version

    def generate(self, request: Json, until: Until, on_progress: ProgressCallback) -> Json:
        """GenerateImagesRequest -> Batch."""
        message = from_dict(generation_service_pb2.GenerateImagesRequest, request)
        return self._streamed("generation", self._generation.GenerateImages, message, "batch", until, on_progress)

    def generate_and_label(self, request: Json, until: Until, on_progress: ProgressCallback) -> Json:
        """{generate: GenerateImagesRequest, classifier, mode, precision} -> {batch: Batch, labelled: LabelledBatch}."""
        batch = self.generate(request["generate"], until, on_progress)
        wanted = {key: request[key] for key in ("classifier", "mode", "precision")}
        # The images were counted when they were drawn.
        return {"batch": batch, "labelled": self.label(wanted | {"batch": batch["name"]}, until, lambda *_: None)}

    def label(self, request: Json, until: Until, on_progress: ProgressCallback) -> Json:
        """LabelBatchRequest -> LabelledBatch."""
        message = from_dict(labeling_service_pb2.LabelBatchRequest, request)
        return self._streamed("labeling", self._labeling.LabelBatch, message, "labelled_batch", until, on_progress)

    def embed(self, request: Json, until: Until, on_progress: ProgressCallback) -> Json:
        """EmbedVersionRequest -> Embedding."""
        message = from_dict(selection_service_pb2.EmbedVersionRequest, request)
        return self._streamed("selection", self._selection.EmbedVersion, message, "embedding", until, on_progress)

    def select(self, request: Json, until: Until, on_progress: ProgressCallback) -> Json:
        """SelectImagesRequest -> Selection."""
        message = from_dict(selection_service_pb2.SelectImagesRequest, request)
        return self._streamed("selection", self._selection.SelectImages, message, "selection", until, on_progress)

    def match(self, request: Json, until: Until, on_progress: ProgressCallback) -> Json:
        """MatchImagesRequest -> Match."""
        message = from_dict(selection_service_pb2.MatchImagesRequest, request)
        return self._streamed("selection", self._selection.MatchImages, message, "match", until, on_progress)

    def run_job(self, request: Json, until: Until, on_progress: ProgressCallback) -> Json:
        """{step, inputs, results} -> {reused}: run a Job unless the store holds its results.

        A Job that is asked again does what is missing of it.
        """
        step: JobStep = request["step"]
        results: list[str] = request["results"]
        missing = [name for name in results if not self._finished(name)]
        if results and not missing:
            return {"reused": len(results)}
        job = make_request(step, request["inputs"])
        write_request(self._store, job)
        shards = min(self._parallelism, len(results)) if step == "train" else 1
        try:
            self._runner.run(
                job,
                shards=shards,
                until=until,
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
        return {"reused": len(results) - len(missing)}

    def verdict(self, request: Json, until: Until, on_progress: ProgressCallback) -> Json:
        """{name} -> Verdict of a finished evaluation."""
        found: Json = self._store.get_json(f"{request['name']}/evaluation.json")["verdict"]
        return found

    def get_plan(self, evaluation: str) -> Json:
        """What an evaluation apart from a run was asked to do: {spec, items, inputs}."""
        plan: Json = self._store.get_json(plan_key(evaluation))
        return plan

    def _endpoint(self, service: str) -> str:
        configured: str = getattr(self._endpoints, service)
        return configured or self._own

    def _finished(self, name: str) -> bool:
        return self._store.exists(f"{name}/{_LAST[name.split('/')[0]]}")

    def _streamed(
        self, service: str, method: Any, message: Any, result: str, until: Until, on_progress: ProgressCallback
    ) -> Json:
        """Read a stream of progress to its result; cancel the call when `until` turns False."""
        with translated(self._endpoint(service)):
            call = method(message)
            try:
                for event in call:
                    kind = event.WhichOneof("event")
                    if kind == result:
                        return to_dict(getattr(event, result))
                    if kind == "progress":
                        on_progress(event.progress.done, event.progress.total, event.progress.unit)
                    if not until():
                        raise Cancelled("cancelled", reason="CANCELLED")
            finally:
                call.cancel()
        raise Internal(f"{service} ended a stream without a result", reason="RESULT_MISSING")
