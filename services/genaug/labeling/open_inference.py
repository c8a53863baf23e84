"""A classifier on a model server that speaks the Open Inference Protocol 2 over gRPC: TorchServe, Triton, KServe.

Encoded images go as one BYTES tensor `images` [n, 1]; `scores` (FP32, [n, classes], calibrated probabilities) and
`status` (INT64, [n], indices into `STATUSES` of `genaug.vision.batching.dynamic_batcher`; all OK where the server sends
none) come back.

The status codes of such servers are unreliable: TorchServe says UNAVAILABLE for one bad image of a batch,
RESOURCE_EXHAUSTED for a worker that was killed, INTERNAL for a full queue. So a request that fails is retried; then
each of its images alone. An image that keeps failing is tried while no other request is in flight, between two requests
for a valid image, `CANARY`; if only the image fails, it is at fault. No other image is lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from genaug.client import bare_channel
from genaug.labeling.export import model_name
from genaug.labeling.predictor import CANARY
from genaug.schema.classifiers import Classifier
from genaug.shared.errors import FailedPrecondition, ResourceExhausted, Unavailable
from genaug.shared.metrics import BATCH_IMAGES, QUEUE_DEPTH
from genaug.shared.settings import OpenInferenceSettings
from genaug.v1 import open_inference_pb2 as pb
from genaug.vision.batching.dynamic_batcher import STATUSES, ImageResult, ModelKey, Status
from genaug.vision.features.image_encoder import IsActive, OrderedResults

log = logging.getLogger(__name__)

# A request's images, bytes: below the 6.5 MB at which TorchServe closes the call.
_MOST_BYTES = 4_000_000
# Seconds between two attempts, at first and at most.
_PAUSES = (0.2, 3.0)
# Attempts after which the images of a request are sent one by one, and after which an image is isolated.
_TOGETHER, _ALONE = 2, 3
# Codes of errors that do not pass, and concern every request.
_FINAL = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


@dataclass
class _Item:
    model: str
    classes: int
    data: bytes
    future: Future[ImageResult] = field(default_factory=Future)


class ModelServer:
    """Client of a model server for all callers of this process: their images share requests, several in flight.

    Args:
        settings: Its address, and the limits of requests.
        queue: Images of all callers that may wait.
        authority: Certificates to trust, for an address that begins with https://.
    """

    def __init__(self, settings: OpenInferenceSettings, *, queue: int, authority: str = "") -> None:
        if not settings.address:
            raise FailedPrecondition(
                "labeling.open_inference.address: say where the model server is, as host:port",
                reason="BAD_CONFIGURATION",
            )
        self._settings = settings
        self._queue = queue
        self._channel = bare_channel(settings.address, authority=authority, ours=False)
        # To one of several servers behind the address: an image and the canary must reach the same one.
        self._channel_to_one = bare_channel(settings.address, authority=authority, ours=False, spread=False)
        self._infer, self._infer_at_one = (
            channel.unary_unary(
                f"/{settings.service_prefix}/ModelInfer",
                request_serializer=pb.ModelInferRequest.SerializeToString,
                response_deserializer=pb.ModelInferResponse.FromString,
            )
            for channel in (self._channel, self._channel_to_one)
        )
        self._changed = threading.Condition()
        self._waiting: deque[_Item] = deque()
        self._held = 0
        self._closed = threading.Event()
        self._permits = threading.Semaphore(settings.requests)
        self._isolating = threading.Lock()
        self._threads = [
            threading.Thread(target=self._work, name=f"model-server-{number}", daemon=True)
            for number in range(settings.requests)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, model: str, classes: int, data: bytes) -> Future[ImageResult]:
        """Submit one encoded image; cancelling the future withdraws it unless it has been sent.

        Args:
            model: Its name on the server.
            classes: Number of scores expected.
            data: The image.

        Raises:
            ResourceExhausted: reason BUSY; too many images wait.
            Unavailable: this service is ending.
        """
        item = _Item(model, classes, data)
        with self._changed:
            if self._closed.is_set():
                raise Unavailable("the server is ending; try again", reason="ENDING")
            if self._held >= self._queue:
                raise ResourceExhausted(
                    f"{self._held} images wait for the model server; try again in a second",
                    reason="BUSY",
                    retry_seconds="1",
                )
            self._held += 1
            QUEUE_DEPTH.labels("model-server").set(self._held)
            self._waiting.append(item)
            self._changed.notify()
        item.future.add_done_callback(self._release)
        return item.future

    def close(self) -> None:
        """Send no more requests; waiting images fail with reason ENDING."""
        self._closed.set()
        with self._changed:
            waiting, self._waiting = list(self._waiting), deque()
            self._changed.notify_all()
        for item in waiting:
            if item.future.set_running_or_notify_cancel():
                item.future.set_exception(Unavailable("the server is ending; try again", reason="ENDING"))
        for thread in self._threads:
            thread.join(5)
        self._channel.close()
        self._channel_to_one.close()

    def _release(self, future: Future[ImageResult]) -> None:
        with self._changed:
            self._held -= 1
            QUEUE_DEPTH.labels("model-server").set(self._held)

    def _work(self) -> None:
        while items := self._next():
            active = [item for item in items if item.future.set_running_or_notify_cancel()]
            if not active:
                continue
            BATCH_IMAGES.labels("model-server").observe(len(active))
            try:
                for item, result in zip(active, self._infer_with_retries(active), strict=True):
                    item.future.set_result(result)
            # Raised in the callers.
            except Exception as error:
                for item in active:
                    if not item.future.done():
                        item.future.set_exception(error)

    def _next(self) -> list[_Item]:
        """Take the next images of one model that fit a request; none once the client is closed."""
        with self._changed:
            while not self._waiting:
                if self._closed.is_set():
                    return []
                self._changed.wait()
            items = [self._waiting.popleft()]
            size = len(items[0].data)
            while self._waiting and len(items) < self._settings.images:
                following = self._waiting[0]
                size += len(following.data)
                if following.model != items[0].model or size > _MOST_BYTES:
                    break
                items.append(self._waiting.popleft())
            return items

    def _infer_with_retries(self, items: Sequence[_Item]) -> list[ImageResult]:
        """Classify images of one model, retrying until `patience_s` has passed.

        Raises:
            FailedPrecondition: reason MODEL_SERVER_AWAY, MODEL_SERVER_REFUSES, or WRONG_MODEL.
        """
        if len(items[0].data) > _MOST_BYTES:
            return [ImageResult("TOO_LARGE", f"more than {_MOST_BYTES} bytes, which the model server takes")]
        end, pause = time.monotonic() + self._settings.patience_s, _PAUSES[0]
        attempts = 0
        while True:
            try:
                return self._infer_within_permits(items)
            except grpc.RpcError as error:
                code = error.code()
            attempts += 1
            log.info("model server failed", extra={"code": code.name, "images": len(items), "attempt": attempts})
            if code in _FINAL:
                raise FailedPrecondition(
                    f"the model server at {self._settings.address} answers {code.name}; check "
                    "labeling.open_inference.service_prefix and its access",
                    reason="MODEL_SERVER_REFUSES",
                )
            if len(items) > 1 and attempts >= _TOGETHER:
                return [self._infer_with_retries([item])[0] for item in items]
            if len(items) == 1 and attempts >= _ALONE:
                result = self._infer_isolated(items[0])
                if result is not None:
                    return [result]
            if time.monotonic() >= end or self._closed.wait(pause):
                # Not UNAVAILABLE: our own caller would retry, and wait for `patience_s` again each time.
                raise FailedPrecondition(
                    f"the model server at {self._settings.address} answers {code.name} for model {items[0].model!r}, "
                    f"for {self._settings.patience_s:g} s now; is the model loaded there?",
                    reason="MODEL_SERVER_AWAY",
                )
            pause = min(2 * pause, _PAUSES[1])

    def _infer_isolated(self, item: _Item) -> ImageResult | None:
        """Classify one image with no other request in flight, between two requests for the canary.

        Returns:
            FAILED if the canary is classified before and after it, but not the image; None if the server is at fault.
        """
        canary = _Item(item.model, item.classes, CANARY)
        with self._isolating, self._all_permits():
            try:
                self._infer_now([canary], at_one=True)
            except grpc.RpcError:
                return None
            try:
                return self._infer_now([item], at_one=True)[0]
            except grpc.RpcError as error:
                code = error.code()
            try:
                self._infer_now([canary], at_one=True)
            except grpc.RpcError:
                return None
            return ImageResult("FAILED", f"the model server answers {code.name} to this image, and well to others")

    @contextmanager
    def _all_permits(self) -> Iterator[None]:
        """Hold every permit, so that no other request of this process is in flight."""
        permits = 0
        try:
            for _ in range(self._settings.requests):
                self._permits.acquire()
                permits += 1
            yield
        finally:
            for _ in range(permits):
                self._permits.release()

    def _infer_within_permits(self, items: Sequence[_Item]) -> list[ImageResult]:
        with self._permits:
            return self._infer_now(items)

    def _infer_now(self, items: Sequence[_Item], *, at_one: bool = False) -> list[ImageResult]:
        tensor = pb.ModelInferRequest.InferInputTensor(
            name="images",
            datatype="BYTES",
            shape=[len(items), 1],
            contents=pb.InferTensorContents(bytes_contents=[item.data for item in items]),
        )
        request = pb.ModelInferRequest(model_name=items[0].model, model_version=self._settings.version, inputs=[tensor])
        response = (self._infer_at_one if at_one else self._infer)(request, timeout=self._settings.deadline_s)
        return to_results(response, images=len(items), classes=items[0].classes)


class OnServer:
    """A classifier on a model server: a `Predictor`. It gives no features.

    Args:
        server: The server.
        model: The classifier.
        record: Its record.
        name: Its name there, with {digest} and {precision}.
        window: Images of one call in flight.
        on_use: Called with the model at each image.
    """

    cached = None

    def __init__(
        self,
        server: ModelServer,
        model: ModelKey,
        record: Classifier,
        *,
        name: str,
        window: int,
        on_use: Callable[[ModelKey], None] = lambda model: None,
    ) -> None:
        self._server = server
        self._model = model
        self._on_use = on_use
        self._name = model_name(model, name)
        self._window = window
        self.classes: tuple[str, ...] = record.classes
        self.thresholds: Mapping[str, float] = record.thresholds

    def predict(self, images: Iterator[bytes], *, is_active: IsActive = lambda: True) -> OrderedResults:
        """Classify encoded images, in their order; see `ImageEncoder.predict`."""

        def submit(data: bytes) -> Future[ImageResult]:
            self._on_use(self._model)
            return self._server.submit(self._name, len(self.classes), data)

        return OrderedResults(images, submit, window=self._window, is_active=is_active)


def to_results(response: pb.ModelInferResponse, *, images: int, classes: int) -> list[ImageResult]:
    """Convert the response of a model server to results, one per image.

    Raises:
        FailedPrecondition: reason WRONG_MODEL; the response is not that of a classifier with this number of classes.
    """
    tensors = {
        tensor.name: values(tensor, response.raw_output_contents[index] if response.raw_output_contents else b"")
        for index, tensor in enumerate(response.outputs)
    }
    scores, statuses = tensors.get("scores"), tensors.get("status", np.zeros(images, np.int64))
    if scores is None or scores.size != images * classes or statuses.size != images:
        shapes = {tensor.name: list(tensor.shape) for tensor in response.outputs}
        raise FailedPrecondition(
            f"the model server answers {shapes} for {images} images of {classes} classes; is another model "
            f"registered as {response.model_name!r}?",
            reason="WRONG_MODEL",
        )
    rows = scores.reshape(images, classes).astype(np.float32)
    words: list[Status] = [STATUSES[status] if 0 <= status < len(STATUSES) else "FAILED" for status in statuses]
    return [
        ImageResult(status, "", probabilities)
        if status in ("OK", "CONSTANT")
        else ImageResult(status, "the model server says so")
        for status, probabilities in zip(words, rows, strict=True)
    ]


def values(tensor: pb.ModelInferResponse.InferOutputTensor, raw: bytes) -> NDArray[Any]:
    """Values of an FP32 or INT64 tensor, flat.

    Raises:
        FailedPrecondition: reason WRONG_MODEL; it has another type.
    """
    if tensor.datatype not in ("FP32", "INT64"):
        raise FailedPrecondition(
            f"the model server answers {tensor.datatype} for {tensor.name!r}, not FP32 or INT64", reason="WRONG_MODEL"
        )
    if raw:
        return np.frombuffer(raw, "<f4" if tensor.datatype == "FP32" else "<i8")
    contents = tensor.contents
    if tensor.datatype == "FP32":
        return np.array(contents.fp32_contents, np.float32)
    return np.array(contents.int64_contents, np.int64)
