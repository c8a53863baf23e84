"""LabelingService: classifiers and labelled batches on the wire."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import grpc

from genaug.shared.names import digest_id
from genaug.shared.protojson import from_dict
from genaug.shared.server import page
from genaug.shared.settings import Settings
from genaug.shared.store import Store
from genaug.v1 import classifier_pb2, common_pb2, labeling_service_pb2_grpc, run_pb2
from genaug.v1 import labeling_service_pb2 as pb

if TYPE_CHECKING:
    from genaug.labeling.predict import Done, Labelled, Predictor
    from genaug.vision.devices import ModelThread


class LabelingServicer(labeling_service_pb2_grpc.LabelingServiceServicer):
    """Labels batches with labelers from the store. Stateless: it may be stopped at any time."""

    service_name = "genaug.v1.LabelingService"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = Store.open(settings.store, "labeling")
        self._lock = threading.Lock()
        self._thread: ModelThread | None = None
        self._predictor: tuple[str, Predictor] | None = None

    def warm_up(self) -> None:
        """Check the store. Models are loaded by the first call that needs them."""
        self._store.check()

    def close(self) -> None:
        """Let the model's thread end."""
        if self._thread is not None:
            self._thread.close()

    def GetClassifier(
        self, request: pb.GetClassifierRequest, context: grpc.ServicerContext
    ) -> classifier_pb2.Classifier:
        digest_id(request.name, "classifiers")
        return from_dict(classifier_pb2.Classifier, self._store.get_json(f"{request.name}/classifier.json"))

    def ListClassifiers(
        self, request: pb.ListClassifiersRequest, context: grpc.ServicerContext
    ) -> pb.ListClassifiersResponse:
        names = [f"classifiers/{digest}" for digest in self._store.children("classifiers/")]
        finished = [name for name in names if self._store.exists(f"{name}/classifier.json")]
        found, token = page(finished, page_size=request.page_size, page_token=request.page_token)
        records = [self._store.get_json(f"{name}/classifier.json") for name in found]
        return pb.ListClassifiersResponse(
            classifiers=[from_dict(classifier_pb2.Classifier, record) for record in records], next_page_token=token
        )

    def LabelBatch(
        self, request: pb.LabelBatchRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.LabelBatchResponse]:
        from genaug.labeling.predict import Labelling, label_batch, mode_of

        digest_id(request.classifier, "classifiers")
        digest_id(request.batch, "batches")
        number = request.mode or run_pb2.LabelingSpec.MODE_AGREE
        known = run_pb2.LabelingSpec.Mode
        mode = mode_of(known.Name(number) if number in known.values() else str(number))
        wanted = Labelling(request.classifier, request.batch, mode)

        def work() -> Iterator[Done | Labelled]:
            return label_batch(
                wanted, self._store, lambda: self._open_predictor(wanted.classifier), until=context.is_active
            )

        # What is finished needs no model, and does not wait for one.
        finished = self._store.exists(wanted.manifest)
        for event in work() if finished else self._model_thread().stream(work):
            yield to_response(event)

    def _model_thread(self) -> ModelThread:
        from genaug.vision.devices import ModelThread

        with self._lock:
            if self._thread is None:
                self._thread = ModelThread("labeling")
            return self._thread

    def _open_predictor(self, classifier: str) -> Predictor:
        """The labeler, kept between calls: chunks of one run use the same. Called on the model's thread alone."""
        from genaug.labeling.predict import open_predictor

        if self._predictor is None or self._predictor[0] != classifier:
            self._predictor = classifier, open_predictor(self._store, classifier, device=self._settings.device)
        return self._predictor[1]


def register(server: grpc.Server, settings: Settings) -> LabelingServicer:
    """Add the service to `server`."""
    servicer = LabelingServicer(settings)
    labeling_service_pb2_grpc.add_LabelingServiceServicer_to_server(servicer, server)
    return servicer


def to_response(event: Done | Labelled) -> pb.LabelBatchResponse:
    """Progress or result as the stream says it."""
    from genaug.labeling.predict import Done

    if isinstance(event, Done):
        return pb.LabelBatchResponse(
            progress=common_pb2.Progress(step="labelling", done=event.done, total=event.total, unit="images")
        )
    acceptances = [
        pb.Acceptance(
            class_name=name,
            accepted=counts["accepted"],
            disagrees=counts["disagrees"],
            unsure=counts["unsure"],
            degenerate=counts["degenerate"],
        )
        for name, counts in event.acceptances.items()
    ]
    kept = [common_pb2.ClassCount(class_name=name, count=count) for name, count in event.kept.items()]
    disagreements = [
        pb.Disagreement(class_name=prompt, label=label, count=count)
        for (prompt, label), count in event.disagreements.items()
    ]
    return pb.LabelBatchResponse(
        labelled_batch=pb.LabelledBatch(
            name=event.name,
            manifest=event.manifest,
            acceptances=acceptances,
            kept=kept,
            disagreements=disagreements,
        )
    )
