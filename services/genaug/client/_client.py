"""The class `Client`. Messages are those of `genaug.v1`."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from genaug.client.channel import connect, translated
from genaug.client.downloads import write_export
from genaug.client.embedded import embedded
from genaug.client.images import DrawnImage, images_request, receipt_message, sampler_settings
from genaug.client.uploads import ImportImage, import_requests
from genaug.client.versions import split_version
from genaug.schema.run import ImportSpec
from genaug.schema.runfile import load_yaml, parse_spec
from genaug.schema.wire import to_proto
from genaug.shared.errors import GenaugError, Internal, InvalidArgument, Unavailable
from genaug.shared.settings import Settings, load_settings
from genaug.v1 import (
    assembly_service_pb2,
    assembly_service_pb2_grpc,
    classifier_pb2,
    common_pb2,
    dataset_pb2,
    evaluation_pb2,
    generation_service_pb2,
    generation_service_pb2_grpc,
    generator_pb2,
    labeling_service_pb2,
    labeling_service_pb2_grpc,
    orchestrator_service_pb2,
    orchestrator_service_pb2_grpc,
    run_pb2,
    selection_pb2,
    selection_service_pb2,
    selection_service_pb2_grpc,
)

# Deadline, seconds, of calls that read a record or start work.
_SHORT = 60.0
# Deadline, seconds, of calls that load a model or delete many objects.
_LONG = 600.0
# Seconds for which a remote server may be unreachable while a run is watched.
_ABSENCE = 180.0


ProgressHook = Callable[[common_pb2.Progress], None]
RejectedHook = Callable[[generation_service_pb2.RejectedDraw], None]


def _inline(images: Iterable[bytes | tuple[str, bytes]]) -> Iterator[common_pb2.InlineImage]:
    for image in images:
        image_id, data = ("", image) if isinstance(image, bytes) else image
        yield common_pb2.InlineImage(id=image_id, data=data)


@dataclass(frozen=True)
class ImportResult:
    """Answer of an import."""

    dataset: dataset_pb2.Dataset
    description: dataset_pb2.DatasetDescription | None
    """Of a validated import; that of a stored one is asked for by `Client.describe_dataset`."""


class Client:
    """Client of a genaug server; a context manager.

    Args:
        endpoint: "host:port", "unix:/path" or "https://host:port". Without it, the configured endpoint; without that,
            a server is started on a private socket over the configured home, and ends when nobody has needed it for
            `embedded.idle_s` seconds.
        token: Bearer token; by default the configured one.
        settings: Configuration; by default what `genaug config show` shows.
        notify: Called with lines on what is waited for while a server starts, and with warnings about it.
    """

    def __init__(
        self,
        endpoint: str = "",
        *,
        token: str = "",
        settings: Settings | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        settings = settings or load_settings()
        self._exit = ExitStack()
        self.endpoint = endpoint or settings.endpoint or self._exit.enter_context(embedded(settings, notify=notify))
        """Address of the server."""
        channel = connect(
            self.endpoint, token=token or settings.auth.token.get_secret_value(), authority=settings.tls.authority
        )
        self._exit.callback(channel.close)
        self._assembly = assembly_service_pb2_grpc.AssemblyServiceStub(channel)
        self._generation = generation_service_pb2_grpc.GenerationServiceStub(channel)
        self._labeling = labeling_service_pb2_grpc.LabelingServiceStub(channel)
        self._selection = selection_service_pb2_grpc.SelectionServiceStub(channel)
        self._orchestrator = orchestrator_service_pb2_grpc.OrchestratorServiceStub(channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel and release the embedded server, which ends once it is idle."""
        self._exit.close()

    def _call(self, method: Any, request: Any, *, timeout: float = _SHORT) -> Any:
        with translated(self.endpoint):
            return method(request, timeout=timeout)

    def _stream(self, method: Any, request: Any) -> Generator[Any, None, None]:
        with translated(self.endpoint):
            call = method(request)
            try:
                yield from call
            finally:
                call.cancel()

    def _pages(self, method: Any, request: Any, field: str) -> Iterator[Any]:
        while True:
            response = self._call(method, request)
            yield from getattr(response, field)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    def import_dataset(
        self,
        name: str,
        images: Iterable[ImportImage],
        *,
        spec: ImportSpec,
        passed_over: Mapping[str, int] | None = None,
        validate_only: bool = False,
        on_progress: ProgressHook | None = None,
    ) -> ImportResult:
        """Import and seal a dataset, sending only contents that the server lacks.

        Args:
            name: Id of the dataset, without "datasets/".
            images: The images; read twice, so that contents need not be held in memory.
            spec: Format, split and window; fields that an importer reads mean nothing here.
            passed_over: Number of files of the source that are not among the images, by reason, for the record.
            validate_only: Check and describe without storing anything.
            on_progress: Called as the import goes on.
        """
        header = to_proto(assembly_service_pb2.ImportDatasetRequest.Header, spec)
        header.name, header.validate_only = f"datasets/{name}", validate_only
        for reason, count in sorted((passed_over or {}).items()):
            header.passed_over.add(reason=reason, count=count)
        # gRPC would swallow an error raised by the request iterator, and log it with the file's name.
        failures: list[GenaugError] = []

        def requests() -> Iterator[assembly_service_pb2.ImportDatasetRequest]:
            try:
                find_missing = (lambda digests: digests) if validate_only else self._find_missing
                yield from import_requests(header, list(images), find_missing=find_missing)
            except GenaugError as error:
                failures.append(error)
                call.cancel()

        with translated(self.endpoint):
            call = self._assembly.ImportDataset(requests())
            dataset, description = None, None
            try:
                for response in call:
                    event = response.WhichOneof("event")
                    if event == "dataset":
                        dataset = response.dataset
                    elif event == "description":
                        description = response.description
                    elif on_progress:
                        on_progress(response.progress)
            except grpc.RpcError:
                if failures:
                    raise failures[0] from None
                raise
        if dataset is None or (validate_only and description is None):
            raise Internal("the server ended an import without its result", reason="RESULT_MISSING")
        return ImportResult(dataset, description)

    def _find_missing(self, digests: set[str]) -> set[str]:
        """Return the subset of `digests` that the server has no content for."""
        request = assembly_service_pb2.FindMissingContentsRequest(content_sha256=sorted(digests))
        return set(self._call(self._assembly.FindMissingContents, request).content_sha256)

    def unite_datasets(
        self, name: str, datasets: Iterable[str], *, on_progress: ProgressHook | None = None
    ) -> dataset_pb2.Dataset:
        """Unite sealed datasets. Images keep their split; subjects of different datasets stay different.

        Args:
            name: Resource name of the new dataset, "datasets/{dataset}".
            datasets: Resource names of two or more datasets.
            on_progress: Called as the work goes on.
        """
        request = assembly_service_pb2.UniteDatasetsRequest(name=name, datasets=list(datasets))
        for response in self._stream(self._assembly.UniteDatasets, request):
            if response.WhichOneof("event") == "dataset":
                dataset: dataset_pb2.Dataset = response.dataset
                return dataset
            if on_progress:
                on_progress(response.progress)
        raise Internal("the server ended a union without a dataset", reason="RESULT_MISSING")

    def get_dataset(self, name: str) -> dataset_pb2.Dataset:
        """Return "datasets/{dataset}"."""
        dataset: dataset_pb2.Dataset = self._call(
            self._assembly.GetDataset, assembly_service_pb2.GetDatasetRequest(name=name)
        )
        return dataset

    def list_datasets(self) -> Iterator[dataset_pb2.Dataset]:
        """Iterate over all datasets, by name."""
        return self._pages(self._assembly.ListDatasets, assembly_service_pb2.ListDatasetsRequest(), "datasets")

    def delete_dataset(self, name: str) -> None:
        """Delete "datasets/{dataset}" with its versions and images."""
        self._call(self._assembly.DeleteDataset, assembly_service_pb2.DeleteDatasetRequest(name=name), timeout=_LONG)

    def get_dataset_version(self, name: str) -> dataset_pb2.DatasetVersion:
        """Return "datasets/{dataset}/versions/{version}"."""
        version: dataset_pb2.DatasetVersion = self._call(
            self._assembly.GetDatasetVersion, assembly_service_pb2.GetDatasetVersionRequest(name=name)
        )
        return version

    def list_dataset_versions(self, parent: str) -> Iterator[dataset_pb2.DatasetVersion]:
        """Iterate over all versions of "datasets/{dataset}"."""
        request = assembly_service_pb2.ListDatasetVersionsRequest(parent=parent)
        return self._pages(self._assembly.ListDatasetVersions, request, "dataset_versions")

    def split_version(self, name: str) -> tuple[str, str]:
        """Return the dataset and version of a name such as "eyes", "eyes@real" or "eyes@<run>/<scenario>".

        Returns:
            "datasets/{dataset}", and the id of the version; empty where the name has none.
        """
        return split_version(name, self.get_run)

    def describe_dataset(
        self, name: str, *, page: bool = True, on_progress: ProgressHook | None = None
    ) -> tuple[dataset_pb2.DatasetDescription, bytes]:
        """Describe "datasets/{dataset}", or one of its versions: statistics and alarms, and the same as an HTML page.

        Args:
            name: Resource name of the dataset or version.
            page: Whether to make the page, which takes a second for its contact sheets; else it is empty.
            on_progress: Called as images are read.
        """
        description, html = dataset_pb2.DatasetDescription(), b""
        request = assembly_service_pb2.DescribeDatasetRequest(name=name, skip_page=not page)
        for response in self._stream(self._assembly.DescribeDataset, request):
            event = response.WhichOneof("event")
            if event == "description":
                description = response.description
            elif event == "page":
                html += response.page.data
            elif on_progress:
                on_progress(response.progress)
        return description, html

    def trace_images(self, name: str, images: Iterable[str]) -> list[assembly_service_pb2.TraceImagesResponse.Origin]:
        """Return the original rows, names and subjects of images of "datasets/{dataset}". Each call is logged.

        Args:
            name: Resource name of the dataset.
            images: Image ids, or sha256 of contents; at most 1,000.
        """
        request = assembly_service_pb2.TraceImagesRequest(name=name, images=images)
        return list(self._call(self._assembly.TraceImages, request).origins)

    def export_manifest(self, name: str, *, include_sealed: bool = False) -> bytes:
        """Return the manifest (Parquet) of "datasets/{dataset}" or one of its versions."""
        request = assembly_service_pb2.ExportManifestRequest(name=name, include_sealed=include_sealed)
        return b"".join(response.frame.data for response in self._stream(self._assembly.ExportManifest, request))

    def export_images(
        self,
        name: str,
        folder: Path,
        *,
        layout: str = "folders",
        on_progress: ProgressHook | None = None,
    ) -> int:
        """Write the images and tables of "datasets/{dataset}/versions/{version}" below `folder`; return their number.

        Args:
            name: Resource name of the version.
            folder: Empty, or with a part of the same export, which is completed.
            layout: "folders" by split and class, or "csv" for the published study's tables.
            on_progress: Called as files arrive.
        """

        def pieces() -> Iterator[tuple[str, bytes]]:
            request = assembly_service_pb2.ExportImagesRequest(name=name, layout=layout)
            for response in self._stream(self._assembly.ExportImages, request):
                if response.WhichOneof("event") == "piece":
                    yield response.piece.path, response.piece.data
                elif on_progress:
                    on_progress(response.progress)

        return write_export(pieces(), folder)

    def collect_garbage(self, *, validate_only: bool = False) -> assembly_service_pb2.CollectGarbageResponse:
        """Remove objects that no manifest names."""
        with translated(self.endpoint):
            response: assembly_service_pb2.CollectGarbageResponse = self._assembly.CollectGarbage(
                assembly_service_pb2.CollectGarbageRequest(validate_only=validate_only)
            )
        return response

    def get_generator(self, name: str) -> generator_pb2.Generator:
        """Return "generators/{digest}"."""
        generator: generator_pb2.Generator = self._call(
            self._generation.GetGenerator, generation_service_pb2.GetGeneratorRequest(name=name)
        )
        return generator

    def list_generators(self) -> Iterator[generator_pb2.Generator]:
        """Iterate over all generators, by name."""
        request = generation_service_pb2.ListGeneratorsRequest()
        return self._pages(self._generation.ListGenerators, request, "generators")

    def generate(
        self,
        generator: str,
        class_name: str | Mapping[str, int],
        *,
        count: int | None = None,
        seed: int = 0,
        first_index: int = 0,
        steps: int = 0,
        guidance_scale: float = 0.0,
        scheduler: str = "",
        negative_prompt: str = "",
        image_size: int = 0,
        strength: float = 0.0,
        profile: str = "",
        precision: str = "",
        format: str = "PNG",
        on_progress: ProgressHook | None = None,
        on_rejected: RejectedHook | None = None,
    ) -> Generator[DrawnImage, None, None]:
        """Draw images and yield each, with its receipt, as it is finished. Leaving the loop stops the drawing.

            for drawn in client.generate(name, {"cataract": 16, "myopia": 8}, seed=1, profile="TURBO"):
                Path(f"{drawn.receipt.class_name}-{drawn.receipt.index}.png").write_bytes(drawn.data)

        Rejected draws (black, of one color, equal to an earlier one) are not replaced, so fewer images may come.
        A sampler setting that is 0 or empty has the server's default.

        Args:
            generator: "generators/{digest}".
            class_name: A class of the generator; or several, each with its count.
            count: Number of images of a single class, 1 by default. In all, 1 to 100,000.
            seed: Seed of the noise; the noise of an image depends on seed, class and index alone.
            first_index: Index of the first image of each class.
            steps: Denoising steps.
            guidance_scale: Classifier-free guidance; 1 for none.
            scheduler: By diffusers' name, such as "DDIMScheduler".
            negative_prompt: Stable Diffusion: text that images are guided away from.
            image_size: Stable Diffusion: height and width, pixels.
            strength: Stable Diffusion: start from a training image with this share of noise; 0 for noise alone.
            profile: "FULL", or "TURBO": guidance in the first half of the steps alone.
            precision: "FLOAT32" or "BFLOAT16".
            format: "PNG" (lossless) or "JPEG".
            on_progress: Called with images and denoising steps done, and the position in the queue.
            on_rejected: Called with each rejected draw.

        Raises:
            InvalidArgument: an unknown class or setting, or a number out of range.
            ResourceExhausted: reason BUSY; the queue is full.
        """
        if isinstance(class_name, str):
            counts: Mapping[str, int] = {class_name: 1 if count is None else count}
        elif count is None:
            counts = class_name
        else:
            raise InvalidArgument("count: is for one class; several have their counts with them", reason="BAD_COUNT")
        request = images_request(
            generator,
            counts,
            seed=seed,
            first_index=first_index,
            format=format,
            sampler=sampler_settings(
                steps=steps,
                guidance_scale=guidance_scale,
                scheduler=scheduler,
                negative_prompt=negative_prompt,
                image_size=image_size,
                strength=strength,
                profile=profile,
                precision=precision,
            ),
        )
        return self._drawn(request, format or "PNG", on_progress, on_rejected)

    def _drawn(
        self,
        request: generation_service_pb2.GenerateImagesRequest,
        format: str,
        on_progress: ProgressHook | None,
        on_rejected: RejectedHook | None,
    ) -> Generator[DrawnImage, None, None]:
        # Closed here and not at garbage collection, so that the call ends with the caller's loop.
        with closing(self._stream(self._generation.GenerateImages, request)) as responses:
            for response in responses:
                event = response.WhichOneof("event")
                if event == "image":
                    yield DrawnImage(response.image.data, response.image.receipt, format)
                elif event == "progress" and on_progress:
                    on_progress(response.progress)
                elif event == "rejected" and on_rejected:
                    on_rejected(response.rejected)

    def regenerate(
        self, receipt: generator_pb2.Receipt | Mapping[str, Any]
    ) -> generation_service_pb2.RegenerateImageResponse:
        """Draw one image again from its receipt; the response tells whether the pixels are the same.

        Args:
            receipt: The receipt as a message or as JSON.
        """
        response: generation_service_pb2.RegenerateImageResponse = self._call(
            self._generation.RegenerateImage,
            generation_service_pb2.RegenerateImageRequest(receipt=receipt_message(receipt)),
            timeout=_LONG,
        )
        return response

    def get_classifier(self, name: str) -> classifier_pb2.Classifier:
        """Return "classifiers/{digest}"."""
        classifier: classifier_pb2.Classifier = self._call(
            self._labeling.GetClassifier, labeling_service_pb2.GetClassifierRequest(name=name)
        )
        return classifier

    def list_classifiers(self) -> Iterator[classifier_pb2.Classifier]:
        """Iterate over all classifiers, by name."""
        request = labeling_service_pb2.ListClassifiersRequest()
        return self._pages(self._labeling.ListClassifiers, request, "classifiers")

    def label_images(
        self,
        classifier: str,
        images: Iterable[bytes | tuple[str, bytes]] = (),
        *,
        manifest: str = "",
        top_k: int = 1,
        precision: common_pb2.Precision = common_pb2.PRECISION_FLOAT32,
    ) -> Iterator[labeling_service_pb2.LabelImagesResponse]:
        """Label images and yield one response per image, in order. Leaving the loop stops the work.

        Args:
            classifier: "classifiers/{digest}".
            images: Encoded images, or pairs (id, image); read no faster than responses are consumed.
            manifest: Instead of images, the store key of a batch's or labeled batch's manifest.
            top_k: Classes in a response, the most probable first; 0 for all.
            precision: Number format of the computation.
        """
        request = labeling_service_pb2.LabelImagesRequest
        config = request.Config(classifier=classifier, precision=precision, top_k=top_k, manifest=manifest)
        parts = (request(image=image) for image in _inline(images))
        return self._stream(self._labeling.LabelImages, chain([request(config=config)], parts))

    def embed_images(
        self,
        classifier: str,
        images: Iterable[bytes | tuple[str, bytes]] = (),
        *,
        manifest: str = "",
        precision: common_pb2.Precision = common_pb2.PRECISION_FLOAT32,
    ) -> Iterator[selection_service_pb2.EmbedImagesResponse]:
        """Yield the penultimate features of images, in order; arguments as of `label_images`."""
        request = selection_service_pb2.EmbedImagesRequest
        config = request.Config(classifier=classifier, precision=precision, manifest=manifest)
        parts = (request(image=image) for image in _inline(images))
        return self._stream(self._selection.EmbedImages, chain([request(config=config)], parts))

    def export_classifier(
        self, name: str, folder: Path, *, precision: common_pb2.Precision = common_pb2.PRECISION_FLOAT32
    ) -> Path:
        """Write a classifier as a TorchServe model folder below `folder`, such as TorchServe's model store.

        Args:
            name: "classifiers/{digest}".
            folder: Created if it does not exist.
            precision: Number format that the served model computes in.

        Returns:
            The model folder; its name is the model's name.
        """
        request = labeling_service_pb2.ExportClassifierRequest(name=name, precision=precision)
        suffix = common_pb2.Precision.Name(precision or common_pb2.PRECISION_FLOAT32).removeprefix("PRECISION_").lower()
        target = folder / f"{name.removeprefix('classifiers/')}-{suffix}"
        pieces = self._stream(self._labeling.ExportClassifier, request)
        write_export(((piece.path, piece.data) for piece in pieces), target)
        return target

    def list_selections(self) -> Iterator[selection_pb2.Selection]:
        """Iterate over all selections, by name."""
        yield from self._pages(
            self._selection.ListSelections, selection_service_pb2.ListSelectionsRequest(), "selections"
        )

    def export_selection(self, name: str) -> bytes:
        """Return `selected.csv` of a selection: image_id, label, x, y of each selected image."""
        request = selection_service_pb2.ExportSelectionRequest(name=name)
        return b"".join(response.frame.data for response in self._stream(self._selection.ExportSelection, request))

    def create_run(self, spec: run_pb2.RunSpec | Path | str, *, validate_only: bool = False) -> run_pb2.Run:
        """Start a run, or return the one that exists.

        Args:
            spec: The run file as a message, a path, or YAML text.
            validate_only: Only check it; the returned run's spec has all defaults filled in.
        """
        if isinstance(spec, Path):
            spec = spec.read_text()
        message = parse_spec(load_yaml(spec), run_pb2.RunSpec) if isinstance(spec, str) else spec
        return self._run(
            "CreateRun", orchestrator_service_pb2.CreateRunRequest(spec=message, validate_only=validate_only)
        )

    def get_run(self, name: str) -> run_pb2.Run:
        """Return "runs/{run}"."""
        return self._run("GetRun", orchestrator_service_pb2.GetRunRequest(name=name))

    def list_runs(self) -> Iterator[run_pb2.Run]:
        """Iterate over all runs, newest first."""
        return self._pages(self._orchestrator.ListRuns, orchestrator_service_pb2.ListRunsRequest(), "runs")

    def watch_run(self, name: str) -> Iterator[run_pb2.Run]:
        """Yield the run whenever it changes, until it ends. Leaving the loop does not stop the run.

        A remote server may be unreachable for `_ABSENCE` seconds, as during an upgrade; the call is retried meanwhile.
        """
        last_response = time.monotonic()
        while True:
            request = orchestrator_service_pb2.WatchRunRequest(name=name)
            try:
                for response in self._stream(self._orchestrator.WatchRun, request):
                    last_response = time.monotonic()
                    yield response.run
            except Unavailable:
                if self.endpoint.startswith("unix:") or time.monotonic() - last_response > _ABSENCE:
                    raise
                time.sleep(1.0)
            else:
                return

    def cancel_run(self, name: str) -> run_pb2.Run:
        """Stop a run; finished work is kept."""
        return self._run("CancelRun", orchestrator_service_pb2.CancelRunRequest(name=name))

    def resume_run(self, name: str) -> run_pb2.Run:
        """Go on with a run that was cancelled or failed."""
        return self._run("ResumeRun", orchestrator_service_pb2.ResumeRunRequest(name=name))

    def _run(self, method: str, request: Any) -> run_pb2.Run:
        run: run_pb2.Run = self._call(getattr(self._orchestrator, method), request)
        return run

    def get_report(self, name: str) -> bytes:
        """The report (HTML) of a finished run."""
        request = orchestrator_service_pb2.GetReportRequest(name=name)
        return b"".join(response.frame.data for response in self._stream(self._orchestrator.GetReport, request))

    def create_evaluation(self, spec: evaluation_pb2.EvaluationSpec) -> evaluation_pb2.Evaluation:
        """Train and score apart from a run, or return the evaluation that exists."""
        evaluation: evaluation_pb2.Evaluation = self._call(
            self._orchestrator.CreateEvaluation, orchestrator_service_pb2.CreateEvaluationRequest(spec=spec)
        )
        return evaluation

    def get_evaluation(self, name: str) -> evaluation_pb2.Evaluation:
        """Return "evaluations/{digest}"."""
        evaluation: evaluation_pb2.Evaluation = self._call(
            self._orchestrator.GetEvaluation, orchestrator_service_pb2.GetEvaluationRequest(name=name)
        )
        return evaluation

    def list_evaluations(self) -> Iterator[evaluation_pb2.Evaluation]:
        """All evaluations, newest first."""
        request = orchestrator_service_pb2.ListEvaluationsRequest()
        return self._pages(self._orchestrator.ListEvaluations, request, "evaluations")
