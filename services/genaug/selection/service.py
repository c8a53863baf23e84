"""SelectionService: embeddings, selections and matches on the wire."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

import grpc

from genaug.schema.requests import MatchRequest, SelectRequest
from genaug.schema.wire import from_proto, precision_of, to_proto
from genaug.selection.turns import Turns
from genaug.shared.errors import InvalidArgument
from genaug.shared.image_stream import ImageStream
from genaug.shared.names import digest_id, version_ids
from genaug.shared.server import frames, page
from genaug.shared.settings import Settings
from genaug.shared.store import Store
from genaug.v1 import common_pb2, selection_pb2, selection_service_pb2_grpc
from genaug.v1 import selection_service_pb2 as pb

if TYPE_CHECKING:
    from genaug.selection.embed import SelectionProgress
    from genaug.vision.batching.dynamic_batcher import DynamicBatcher, ModelKey
    from genaug.vision.features.image_encoder import ImageEncoder


class SelectionServicer(selection_service_pb2_grpc.SelectionServiceServicer):
    """Embeds, projects, selects and matches images. Stateless: it may be stopped at any time."""

    service_name = "genaug.v1.SelectionService"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = Store.open(settings.store, "selection")
        self._lock = threading.Lock()
        self._turns = Turns(limit=16)
        self._batcher: DynamicBatcher | None = None

    def warm_up(self) -> None:
        """Check the store. Models are loaded by the call that needs them."""
        self._store.check()

    def close(self) -> None:
        """Let the thread of models end."""
        if self._batcher is not None:
            self._batcher.close()

    def EmbedVersion(
        self, request: pb.EmbedVersionRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.EmbedVersionResponse]:
        from genaug.selection.embed import SelectionProgress, embed
        from genaug.vision.batching.dynamic_batcher import ModelKey

        version_ids(request.dataset_version)
        digest_id(request.classifier, "classifiers")
        model = ModelKey(request.classifier, precision_of(request.precision))
        for event in embed(
            self._store, request.dataset_version, model, open_encoder=self._encoder, is_active=context.is_active
        ):
            if isinstance(event, SelectionProgress):
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
        from genaug.vision.batching.dynamic_batcher import ModelKey

        stream = ImageStream(request_iterator)
        config: pb.EmbedImagesRequest.Config = stream.config
        digest_id(config.classifier, "classifiers")
        encoder = self._encoder(ModelKey(config.classifier, precision_of(config.precision)))
        ids, images = stream.source(self._store)
        results = encoder.predict(images, is_active=context.is_active)
        try:
            for index, result in enumerate(results):
                yield pb.EmbedImagesResponse(
                    id=next(ids),
                    index=index,
                    status=common_pb2.ItemStatus(reason=result.status, message=result.message),
                    features=[] if result.penultimate is None else result.penultimate.tolist(),
                )
        finally:
            results.close()

    def SelectImages(
        self, request: pb.SelectImagesRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.SelectImagesResponse]:
        from genaug.selection.embed import SelectionProgress
        from genaug.selection.select import result_name, select

        select_request = to_select_request(request)

        finished = self._store.exists(f"{result_name(select_request)}/selection.json")
        with nullcontext() if finished else self._turns.take(context.is_active):
            for event in select(select_request, self._store, is_active=context.is_active):
                if isinstance(event, SelectionProgress):
                    yield pb.SelectImagesResponse(progress=_progress(event))
                else:
                    yield pb.SelectImagesResponse(selection=to_proto(selection_pb2.Selection, event))

    def GetSelection(self, request: pb.GetSelectionRequest, context: grpc.ServicerContext) -> selection_pb2.Selection:
        from genaug.selection.select import read_selection

        digest_id(request.name, "selections")
        return to_proto(selection_pb2.Selection, read_selection(self._store, request.name))

    def ListSelections(
        self, request: pb.ListSelectionsRequest, context: grpc.ServicerContext
    ) -> pb.ListSelectionsResponse:
        from genaug.selection.select import read_selection

        names = [f"selections/{digest}" for digest in self._store.children("selections/")]
        finished = [name for name in names if self._store.exists(f"{name}/selection.json")]
        listed, token = page(finished, page_size=request.page_size, page_token=request.page_token)
        records = [read_selection(self._store, name) for name in listed]
        return pb.ListSelectionsResponse(
            selections=[to_proto(selection_pb2.Selection, record) for record in records], next_page_token=token
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
        from genaug.selection.embed import SelectionProgress
        from genaug.selection.match import match, result_name

        match_request = to_match_request(request)

        finished = self._store.exists(f"{result_name(match_request)}/match.json")
        with nullcontext() if finished else self._turns.take(context.is_active):
            for event in match(match_request, self._store, open_encoder=self._encoder, is_active=context.is_active):
                if isinstance(event, SelectionProgress):
                    yield pb.MatchImagesResponse(progress=_progress(event))
                else:
                    yield pb.MatchImagesResponse(match=to_proto(selection_pb2.Match, event))

    def GetMatch(self, request: pb.GetMatchRequest, context: grpc.ServicerContext) -> selection_pb2.Match:
        from genaug.selection.match import read_match

        digest_id(request.name, "matches")
        return to_proto(selection_pb2.Match, read_match(self._store, request.name))

    def _encoder(self, model: ModelKey) -> ImageEncoder:
        from genaug.vision.batching.dynamic_batcher import serving
        from genaug.vision.features.image_encoder import LocalEncoder

        with self._lock:
            if self._batcher is None:
                self._batcher = serving(self._store, self._settings, name="selection")
        return LocalEncoder(self._batcher, model, window=self._settings.inference.window)


def register(server: grpc.Server, settings: Settings) -> SelectionServicer:
    """Add the service to `server`."""
    servicer = SelectionServicer(settings)
    selection_service_pb2_grpc.add_SelectionServiceServicer_to_server(servicer, server)
    return servicer


def to_select_request(request: pb.SelectImagesRequest) -> SelectRequest:
    """Convert and check a request.

    Raises:
        InvalidArgument: a name or a value is out of range.
    """
    version_ids(request.dataset_version)
    digest_id(request.embedding, "embeddings")
    return from_proto(SelectRequest, request)


def to_match_request(request: pb.MatchImagesRequest) -> MatchRequest:
    """Convert and check a request.

    Raises:
        InvalidArgument: a name or a key is malformed, or no manifest is named.
    """
    digest_id(request.embedding, "embeddings")
    for key in request.labelled_manifests:
        name, _, last = key.rpartition("/")
        digest_id(name, "labels")
        if last != "manifest.parquet":
            raise InvalidArgument(
                f"labelled_manifests: {key!r} is not of the form labels/{{digest}}/manifest.parquet", reason="BAD_NAME"
            )
    return from_proto(MatchRequest, request)


def _progress(event: SelectionProgress) -> common_pb2.Progress:
    return common_pb2.Progress(step=event.step, done=event.done, total=event.total, unit="images")
