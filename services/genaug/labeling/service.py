"""LabelingService: classifiers and labelled batches on the wire."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import grpc

from genaug.schema.classifiers import Classifier
from genaug.schema.common import Precision
from genaug.schema.model import read
from genaug.schema.requests import LabelledBatch, LabelRequest
from genaug.schema.wire import from_proto, precision_of, to_proto
from genaug.shared.errors import InvalidArgument
from genaug.shared.image_stream import ImageStream
from genaug.shared.names import digest_id
from genaug.shared.server import frames, page
from genaug.shared.settings import Settings
from genaug.shared.store import Store
from genaug.v1 import classifier_pb2, common_pb2, labeling_service_pb2_grpc
from genaug.v1 import labeling_service_pb2 as pb

if TYPE_CHECKING:
    from genaug.labeling.label import LabelingProgress
    from genaug.labeling.model_requests import ModelRequests
    from genaug.labeling.open_inference import ModelServer
    from genaug.labeling.predictor import Predictor
    from genaug.vision.batching.dynamic_batcher import DynamicBatcher, ImageResult


log = logging.getLogger(__name__)


class LabelingServicer(labeling_service_pb2_grpc.LabelingServiceServicer):
    """Labels batches with labelers from the store. Stateless: it may be stopped at any time."""

    service_name = "genaug.v1.LabelingService"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = Store.open(settings.store, "labeling")
        self._lock = threading.Lock()
        self._batcher: DynamicBatcher | None = None
        self._model_server: ModelServer | None = None
        self._model_requests: ModelRequests | None = None

    def warm_up(self) -> None:
        """Check the store, and load the classifiers of `inference.preload`; others by the first call that needs them.

        Raises:
            NotFound, FailedPrecondition, Unavailable: one cannot be had.
        """
        self._store.check()
        for classifier in self._settings.inference.preload:
            # Imports torch, which takes longer than all else that an embedded server does before it answers.
            from genaug.labeling.predictor import CANARY

            digest_id(classifier, "classifiers")
            predictor = self._open(classifier, Precision[self._settings.inference.precision])
            for _ in predictor.predict(iter([CANARY])):
                log.info("classifier ready", extra={"classifier": classifier})

    def close(self) -> None:
        """Let the model's thread end."""
        for resource in (self._batcher, self._model_server):
            if resource is not None:
                resource.close()

    def GetClassifier(
        self, request: pb.GetClassifierRequest, context: grpc.ServicerContext
    ) -> classifier_pb2.Classifier:
        digest_id(request.name, "classifiers")
        return to_proto(classifier_pb2.Classifier, read(self._store, f"{request.name}/classifier.json", Classifier))

    def ListClassifiers(
        self, request: pb.ListClassifiersRequest, context: grpc.ServicerContext
    ) -> pb.ListClassifiersResponse:
        names = [f"classifiers/{digest}" for digest in self._store.children("classifiers/")]
        finished = [name for name in names if self._store.exists(f"{name}/classifier.json")]
        listed, token = page(finished, page_size=request.page_size, page_token=request.page_token)
        records = [read(self._store, f"{name}/classifier.json", Classifier) for name in listed]
        return pb.ListClassifiersResponse(
            classifiers=[to_proto(classifier_pb2.Classifier, record) for record in records], next_page_token=token
        )

    def LabelBatch(
        self, request: pb.LabelBatchRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.LabelBatchResponse]:
        from genaug.labeling.label import label_batch
        from genaug.labeling.predictor import check_labeler

        digest_id(request.classifier, "classifiers")
        digest_id(request.batch, "batches")
        precision_of(request.precision)
        label_request = from_proto(LabelRequest, request)

        def predictor() -> Predictor:
            check_labeler(self._store, label_request.classifier)
            return self._open(label_request.classifier, label_request.precision)

        for event in label_batch(label_request, self._store, predictor, is_active=context.is_active):
            yield to_response(event)

    def LabelImages(
        self, request_iterator: Iterator[pb.LabelImagesRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.LabelImagesResponse]:
        stream = ImageStream(request_iterator)
        config: pb.LabelImagesRequest.Config = stream.config
        digest_id(config.classifier, "classifiers")
        if config.top_k < 0:
            raise InvalidArgument(f"top_k: {config.top_k} is below 0", reason="BAD_TOP_K")
        predictor = self._open(config.classifier, precision_of(config.precision))
        ids, images = stream.source(self._store)
        results = predictor.predict(images, is_active=context.is_active)
        try:
            for index, result in enumerate(results):
                yield to_label_response(next(ids), index, result, predictor, top_k=config.top_k)
        finally:
            results.close()

    def ExportClassifier(
        self, request: pb.ExportClassifierRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ExportClassifierResponse]:
        from genaug.labeling.export import export_torchserve
        from genaug.vision.batching.dynamic_batcher import ModelKey

        digest_id(request.name, "classifiers")
        known = pb.ExportClassifierRequest.Format
        if request.format not in (known.FORMAT_UNSPECIFIED, known.FORMAT_TORCHSERVE):
            raise InvalidArgument(f"format: {request.format}; there is FORMAT_TORCHSERVE", reason="UNKNOWN_FORMAT")
        for path, data in export_torchserve(self._store, ModelKey(request.name, precision_of(request.precision))):
            for part in frames(data):
                yield pb.ExportClassifierResponse(path=path, data=part)

    def _open(self, classifier: str, precision: Precision) -> Predictor:
        """Open a predictor in this process or on the model server, as configured."""
        from genaug.labeling.open_inference import OnServer
        from genaug.labeling.predictor import InProcess
        from genaug.vision.batching.dynamic_batcher import ModelKey
        from genaug.vision.models.classifiers import read_record

        record, model = read_record(self._store, classifier), ModelKey(classifier, precision)
        window, labeling = self._settings.inference.window, self._settings.labeling
        if labeling.predictor == "open-inference":
            name = labeling.open_inference.model
            server, requests = self._open_model_server()
            return OnServer(server, model, record, name=name, window=window, on_use=requests)
        return InProcess(self._server(), model, record, window=window)

    def _open_model_server(self) -> tuple[ModelServer, ModelRequests]:
        from genaug.labeling.model_requests import ModelRequests
        from genaug.labeling.open_inference import ModelServer

        with self._lock:
            if self._model_server is None or self._model_requests is None:
                self._model_requests = ModelRequests(self._store)
                self._model_server = ModelServer(
                    self._settings.labeling.open_inference,
                    queue=self._settings.inference.queue,
                    authority=self._settings.tls.authority,
                )
            return self._model_server, self._model_requests

    def _server(self) -> DynamicBatcher:
        from genaug.vision.batching.dynamic_batcher import serving

        with self._lock:
            if self._batcher is None:
                self._batcher = serving(self._store, self._settings, name="labeling")
            return self._batcher


def register(server: grpc.Server, settings: Settings) -> LabelingServicer:
    """Add the service to `server`."""
    servicer = LabelingServicer(settings)
    labeling_service_pb2_grpc.add_LabelingServiceServicer_to_server(servicer, server)
    return servicer


def to_label_response(
    image_id: str, index: int, result: ImageResult, predictor: Predictor, *, top_k: int
) -> pb.LabelImagesResponse:
    """Convert the result of one image, with its `top_k` most probable classes (0: all)."""
    response = pb.LabelImagesResponse(
        id=image_id, index=index, status=common_pb2.ItemStatus(reason=result.status, message=result.message)
    )
    if result.probabilities is None:
        return response
    order = (-result.probabilities).argsort(kind="stable")[: top_k or None]
    for i in order:
        response.top.add(class_name=predictor.classes[i], probability=float(result.probabilities[i]))
    threshold = predictor.thresholds.get(response.top[0].class_name)
    response.sure = result.status == "OK" and threshold is not None and response.top[0].probability >= threshold
    return response


def to_response(event: LabelingProgress | LabelledBatch) -> pb.LabelBatchResponse:
    """Convert progress or the result to a message of the stream."""
    if isinstance(event, LabelledBatch):
        return pb.LabelBatchResponse(labelled_batch=to_proto(pb.LabelledBatch, event))
    return pb.LabelBatchResponse(
        progress=common_pb2.Progress(step="labelling", done=event.done, total=event.total, unit="images")
    )
