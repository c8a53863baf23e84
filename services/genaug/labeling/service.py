"""LabelingService: classifiers and labelled batches on the wire."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import grpc

from genaug.shared.errors import InvalidArgument
from genaug.shared.image_stream import InlineStream, precision_of
from genaug.shared.names import digest_id
from genaug.shared.protojson import from_dict
from genaug.shared.server import frames, page
from genaug.shared.settings import Settings
from genaug.shared.store import Store
from genaug.v1 import classifier_pb2, common_pb2, labeling_service_pb2_grpc, run_pb2
from genaug.v1 import labeling_service_pb2 as pb

if TYPE_CHECKING:
    from genaug.labeling.label import Done, Labelled
    from genaug.labeling.open_inference import ModelServer
    from genaug.labeling.predictor import Predictor
    from genaug.labeling.wanted import Wanted
    from genaug.vision.batching.dynamic_batcher import DynamicBatcher, Seen


log = logging.getLogger(__name__)


class LabelingServicer(labeling_service_pb2_grpc.LabelingServiceServicer):
    """Labels batches with labelers from the store. Stateless: it may be stopped at any time."""

    service_name = "genaug.v1.LabelingService"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = Store.open(settings.store, "labeling")
        self._lock = threading.Lock()
        self._inference: DynamicBatcher | None = None
        self._elsewhere: ModelServer | None = None
        self._wanted: Wanted | None = None

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
            predictor = self._open(classifier, f"PRECISION_{self._settings.inference.precision}")
            for _ in predictor.predict(iter([CANARY])):
                log.info("classifier ready", extra={"classifier": classifier})

    def close(self) -> None:
        """Let the model's thread end."""
        for one in (self._inference, self._elsewhere):
            if one is not None:
                one.close()

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
        from genaug.labeling.label import Labelling, label_batch, mode_of
        from genaug.labeling.predictor import check_labeler

        digest_id(request.classifier, "classifiers")
        digest_id(request.batch, "batches")
        number = request.mode or run_pb2.LabelingSpec.MODE_AGREE
        known = run_pb2.LabelingSpec.Mode
        mode = mode_of(known.Name(number) if number in known.values() else str(number))
        wanted = Labelling(request.classifier, request.batch, mode, precision_of(request.precision))

        def predictor() -> Predictor:
            check_labeler(self._store, wanted.classifier)
            return self._open(wanted.classifier, wanted.precision)

        for event in label_batch(wanted, self._store, predictor, until=context.is_active):
            yield to_response(event)

    def LabelImages(
        self, request_iterator: Iterator[pb.LabelImagesRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.LabelImagesResponse]:
        stream = InlineStream(request_iterator)
        config: pb.LabelImagesRequest.Config = stream.config
        digest_id(config.classifier, "classifiers")
        if config.top_k < 0:
            raise InvalidArgument(f"top_k: {config.top_k} is below 0", reason="BAD_TOP_K")
        predictor = self._open(config.classifier, precision_of(config.precision))
        ids, images = stream.source(self._store)
        answers = predictor.predict(images, until=context.is_active)
        try:
            for index, seen in enumerate(answers):
                yield to_answer(next(ids), index, seen, predictor, top_k=config.top_k)
        finally:
            answers.close()

    def ExportClassifier(
        self, request: pb.ExportClassifierRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ExportClassifierResponse]:
        from genaug.labeling.export import export_torchserve
        from genaug.vision.batching.dynamic_batcher import Model

        digest_id(request.name, "classifiers")
        known = pb.ExportClassifierRequest.Format
        if request.format not in (known.FORMAT_UNSPECIFIED, known.FORMAT_TORCHSERVE):
            raise InvalidArgument(f"format: {request.format}; there is FORMAT_TORCHSERVE", reason="UNKNOWN_FORMAT")
        for path, data in export_torchserve(self._store, Model(request.name, precision_of(request.precision))):
            for part in frames(data):
                yield pb.ExportClassifierResponse(path=path, data=part)

    def _open(self, classifier: str, precision: str) -> Predictor:
        """The classifier, where the configuration says that it computes."""
        from genaug.labeling.open_inference import OnServer
        from genaug.labeling.predictor import InProcess
        from genaug.vision.batching.dynamic_batcher import Model
        from genaug.vision.models.classifiers import read_record

        record, model = read_record(self._store, classifier), Model(classifier, precision)
        window, labeling = self._settings.inference.window, self._settings.labeling
        if labeling.predictor == "open-inference":
            name = labeling.open_inference.model
            server, wanted = self._model_server()
            return OnServer(server, model, record, name=name, window=window, wanted=wanted)
        return InProcess(self._server(), model, record, window=window)

    def _model_server(self) -> tuple[ModelServer, Wanted]:
        from genaug.labeling.open_inference import ModelServer
        from genaug.labeling.wanted import Wanted

        with self._lock:
            if self._elsewhere is None or self._wanted is None:
                self._wanted = Wanted(self._store)
                self._elsewhere = ModelServer(
                    self._settings.labeling.open_inference,
                    queue=self._settings.inference.queue,
                    authority=self._settings.tls.authority,
                )
            return self._elsewhere, self._wanted

    def _server(self) -> DynamicBatcher:
        from genaug.vision.batching.dynamic_batcher import serving

        with self._lock:
            if self._inference is None:
                self._inference = serving(self._store, self._settings, name="labeling")
            return self._inference


def register(server: grpc.Server, settings: Settings) -> LabelingServicer:
    """Add the service to `server`."""
    servicer = LabelingServicer(settings)
    labeling_service_pb2_grpc.add_LabelingServiceServicer_to_server(servicer, server)
    return servicer


def to_answer(image_id: str, index: int, seen: Seen, predictor: Predictor, *, top_k: int) -> pb.LabelImagesResponse:
    """The answer for one image, with its `top_k` most probable classes (0: all)."""
    answer = pb.LabelImagesResponse(
        id=image_id, index=index, status=common_pb2.ItemStatus(reason=seen.status, message=seen.message)
    )
    if seen.probabilities is None:
        return answer
    order = (-seen.probabilities).argsort(kind="stable")[: top_k or None]
    for at in order:
        answer.top.add(class_name=predictor.classes[at], probability=float(seen.probabilities[at]))
    threshold = predictor.thresholds.get(answer.top[0].class_name)
    answer.sure = seen.status == "OK" and threshold is not None and answer.top[0].probability >= threshold
    return answer


def to_response(event: Done | Labelled) -> pb.LabelBatchResponse:
    """Progress or result as the stream says it."""
    from genaug.labeling.label import Done

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
