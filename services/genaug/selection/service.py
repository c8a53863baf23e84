"""SelectionService: embeddings and selections on the wire."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import grpc

from genaug.shared.names import digest_id, version_ids
from genaug.shared.protojson import from_dict
from genaug.shared.server import page
from genaug.shared.settings import Settings
from genaug.shared.store import Store
from genaug.v1 import common_pb2, run_pb2, selection_pb2, selection_service_pb2_grpc
from genaug.v1 import selection_service_pb2 as pb

if TYPE_CHECKING:
    from genaug.selection.embed import Done, Embedding
    from genaug.selection.select import Doing, Wanted
    from genaug.vision.devices import ModelThread


class SelectionServicer(selection_service_pb2_grpc.SelectionServiceServicer):
    """Embeds training images, maps them and chooses among them. Stateless: it may be stopped at any time."""

    service_name = "genaug.v1.SelectionService"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = Store.open(settings.store, "selection")
        self._lock = threading.Lock()
        self._thread: ModelThread | None = None

    def warm_up(self) -> None:
        """Check the store. Models are loaded by the call that needs them."""
        self._store.check()

    def close(self) -> None:
        """Let the model's thread end."""
        if self._thread is not None:
            self._thread.close()

    def EmbedImages(
        self, request: pb.EmbedImagesRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.EmbedImagesResponse]:
        from genaug.selection.embed import Done, embed, embedding_name, object_of
        from genaug.vision.classifiers import load

        version_ids(request.dataset_version)
        digest_id(request.classifier, "classifiers")

        def work() -> Iterator[Done | Embedding]:
            return embed(
                self._store,
                request.dataset_version,
                request.classifier,
                loaded=lambda: load(self._store, request.classifier, device=self._settings.device),
                until=context.is_active,
            )

        # What is finished needs no model, and does not wait for one.
        finished = self._store.exists(object_of(embedding_name(request.dataset_version, request.classifier)))
        for event in work() if finished else self._model_thread().stream(work):
            if isinstance(event, Done):
                yield pb.EmbedImagesResponse(progress=_progress("embedding", event.done, event.total))
            else:
                rows, dimensions = event.features.shape
                embedding = selection_pb2.Embedding(
                    name=event.name, object=event.object, rows=rows, dimensions=dimensions
                )
                yield pb.EmbedImagesResponse(embedding=embedding)

    def SelectImages(
        self, request: pb.SelectImagesRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.SelectImagesResponse]:
        from genaug.selection.select import Doing, select

        wanted = to_wanted(request)

        def work() -> Iterator[Doing | dict[str, Any]]:
            return select(wanted, self._store, until=context.is_active)

        finished = self._store.exists(f"{wanted.name}/selection.json")
        for event in work() if finished else self._model_thread().stream(work):
            if isinstance(event, Doing):
                yield pb.SelectImagesResponse(progress=_progress(event.step, event.done, event.total))
            else:
                yield pb.SelectImagesResponse(selection=from_dict(selection_pb2.Selection, event))

    def GetSelection(self, request: pb.GetSelectionRequest, context: grpc.ServicerContext) -> selection_pb2.Selection:
        digest_id(request.name, "selections")
        return from_dict(selection_pb2.Selection, self._store.get_json(f"{request.name}/selection.json"))

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


def _progress(step: str, done: int, total: int) -> common_pb2.Progress:
    return common_pb2.Progress(step=step, done=done, total=total, unit="images")
