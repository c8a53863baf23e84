"""SelectionService: embeddings, selections and matches on the wire."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import grpc

from genaug.shared.errors import InvalidArgument
from genaug.shared.image_stream import InlineStream, precision_of
from genaug.shared.names import digest_id, version_ids
from genaug.shared.protojson import from_dict
from genaug.shared.server import frames, page
from genaug.shared.settings import Settings
from genaug.shared.store import Store
from genaug.v1 import common_pb2, run_pb2, selection_pb2, selection_service_pb2_grpc
from genaug.v1 import selection_service_pb2 as pb

if TYPE_CHECKING:
    from genaug.selection.embed import Doing
    from genaug.selection.match import Matching
    from genaug.selection.select import Wanted
    from genaug.vision.batching.dynamic_batcher import DynamicBatcher, Model
    from genaug.vision.devices import ModelThread
    from genaug.vision.features.image_encoder import ImageEncoder


class SelectionServicer(selection_service_pb2_grpc.SelectionServiceServicer):
    """Embeds training images, maps them and chooses among them. Stateless: it may be stopped at any time."""

    service_name = "genaug.v1.SelectionService"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = Store.open(settings.store, "selection")
        self._lock = threading.Lock()
        self._thread: ModelThread | None = None
        self._inference: DynamicBatcher | None = None

    def warm_up(self) -> None:
        """Check the store. Models are loaded by the call that needs them."""
        self._store.check()

    def close(self) -> None:
        """Let the threads of models and maps end."""
        if self._thread is not None:
            self._thread.close()
        if self._inference is not None:
            self._inference.close()

    def EmbedVersion(
        self, request: pb.EmbedVersionRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.EmbedVersionResponse]:
        from genaug.selection.embed import Doing, embed
        from genaug.vision.batching.dynamic_batcher import Model

        version_ids(request.dataset_version)
        digest_id(request.classifier, "classifiers")
        model = Model(request.classifier, precision_of(request.precision))
        for event in embed(self._store, request.dataset_version, model, eye=self._eye, until=context.is_active):
            if isinstance(event, Doing):
                yield pb.EmbedVersionResponse(progress=_progress(event))
            else:
                rows, dimensions = event.features.shape
                embedding = selection_pb2.Embedding(
                    name=event.name, object=event.object, rows=rows, dimensions=dimensions
                )
                yield pb.EmbedVersionResponse(embedding=embedding)

    def EmbedImages(
        self, request_iterator: Iterator[pb.EmbedImagesRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.EmbedImagesResponse]:
        from genaug.vision.batching.dynamic_batcher import Model

        stream = InlineStream(request_iterator)
        config: pb.EmbedImagesRequest.Config = stream.config
        digest_id(config.classifier, "classifiers")
        eye = self._eye(Model(config.classifier, precision_of(config.precision)))
        ids, images = stream.source(self._store)
        answers = eye.predict(images, until=context.is_active)
        try:
            for index, seen in enumerate(answers):
                yield pb.EmbedImagesResponse(
                    id=next(ids),
                    index=index,
                    status=common_pb2.ItemStatus(reason=seen.status, message=seen.message),
                    features=[] if seen.penultimate is None else seen.penultimate.tolist(),
                )
        finally:
            answers.close()

    def SelectImages(
        self, request: pb.SelectImagesRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.SelectImagesResponse]:
        from genaug.selection.embed import Doing
        from genaug.selection.select import select

        wanted = to_wanted(request)

        def work() -> Iterator[Doing | dict[str, Any]]:
            return select(wanted, self._store, until=context.is_active)

        finished = self._store.exists(f"{wanted.name}/selection.json")
        for event in work() if finished else self._model_thread().stream(work):
            if isinstance(event, Doing):
                yield pb.SelectImagesResponse(progress=_progress(event))
            else:
                yield pb.SelectImagesResponse(selection=from_dict(selection_pb2.Selection, event))

    def GetSelection(self, request: pb.GetSelectionRequest, context: grpc.ServicerContext) -> selection_pb2.Selection:
        from genaug.selection.select import read_selection

        digest_id(request.name, "selections")
        return from_dict(selection_pb2.Selection, read_selection(self._store, request.name))

    def ListSelections(
        self, request: pb.ListSelectionsRequest, context: grpc.ServicerContext
    ) -> pb.ListSelectionsResponse:
        names = [f"selections/{digest}" for digest in self._store.children("selections/")]
        finished = [name for name in names if self._store.exists(f"{name}/selection.json")]
        found, token = page(finished, page_size=request.page_size, page_token=request.page_token)
        records = [self._store.get_json(f"{name}/selection.json") for name in found]
        return pb.ListSelectionsResponse(
            selections=[from_dict(selection_pb2.Selection, record) for record in records], next_page_token=token
        )

    def ExportSelection(
        self, request: pb.ExportSelectionRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ExportSelectionResponse]:
        from genaug.selection.select import read_selected_csv

        digest_id(request.name, "selections")
        for part in frames(read_selected_csv(self._store, request.name)):
            yield pb.ExportSelectionResponse(frame=common_pb2.FileFrame(data=part))

    def MatchImages(
        self, request: pb.MatchImagesRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.MatchImagesResponse]:
        from genaug.selection.embed import Doing
        from genaug.selection.match import match

        wanted = to_matching(request)

        def work() -> Iterator[Doing | dict[str, Any]]:
            return match(wanted, self._store, eye=self._eye, until=context.is_active)

        finished = self._store.exists(f"{wanted.name}/match.json")
        for event in work() if finished else self._model_thread().stream(work):
            if isinstance(event, Doing):
                yield pb.MatchImagesResponse(progress=_progress(event))
            else:
                yield pb.MatchImagesResponse(match=from_dict(selection_pb2.Match, event))

    def GetMatch(self, request: pb.GetMatchRequest, context: grpc.ServicerContext) -> selection_pb2.Match:
        from genaug.selection.match import read_match

        digest_id(request.name, "matches")
        return from_dict(selection_pb2.Match, read_match(self._store, request.name))

    def _eye(self, model: Model) -> ImageEncoder:
        from genaug.vision.batching.dynamic_batcher import serving
        from genaug.vision.features.image_encoder import LocalEncoder

        with self._lock:
            if self._inference is None:
                self._inference = serving(self._store, self._settings, name="selection")
        return LocalEncoder(self._inference, model, window=self._settings.inference.window)

    def _model_thread(self) -> ModelThread:
        from genaug.vision.devices import ModelThread

        with self._lock:
            if self._thread is None:
                self._thread = ModelThread("selection")
            return self._thread


def register(server: grpc.Server, settings: Settings) -> SelectionServicer:
    """Add the service to `server`."""
    servicer = SelectionServicer(settings)
    selection_service_pb2_grpc.add_SelectionServiceServicer_to_server(servicer, server)
    return servicer


def to_wanted(request: pb.SelectImagesRequest) -> Wanted:
    """The selection that a request asks for.

    Raises:
        InvalidArgument: a name or a value is out of range.
    """
    from genaug.selection.select import Wanted, method_of

    version_ids(request.dataset_version)
    digest_id(request.embedding, "embeddings")
    spec = request.spec
    number = spec.method or run_pb2.SelectionSpec.METHOD_TSNE_GRID
    known = run_pb2.SelectionSpec.Method
    return Wanted(
        dataset_version=request.dataset_version,
        embedding=request.embedding,
        classes=tuple(spec.classes),
        kept=spec.kept,
        method=method_of(known.Name(number) if number in known.values() else str(number)),
        seed=spec.seed,
    )


def to_matching(request: pb.MatchImagesRequest) -> Matching:
    """The match that a request asks for.

    Raises:
        InvalidArgument: a name or a key is none of ours, or no manifest is named.
    """
    from genaug.selection.match import Matching

    digest_id(request.embedding, "embeddings")
    for key in request.labelled_manifests:
        name, _, last = key.rpartition("/")
        digest_id(name, "labels")
        if last != "manifest.parquet":
            raise InvalidArgument(
                f"labelled_manifests: {key!r} is not of the form labels/{{digest}}/manifest.parquet", reason="BAD_NAME"
            )
    return Matching(request.embedding, tuple(request.labelled_manifests))


def _progress(event: Doing) -> common_pb2.Progress:
    return common_pb2.Progress(step=event.step, done=event.done, total=event.total, unit="images")
