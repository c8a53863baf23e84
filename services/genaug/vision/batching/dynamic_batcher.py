"""Dynamic batching inside a service: images of many callers share the batches of one model thread.

An image passes three stages: a thread pool decodes and resizes it; the one model thread of the device gathers a batch
for a classifier, a full one or the images that came within `max_delay_s`; its future carries the result to the caller.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from genaug.schema.common import Precision
from genaug.shared.errors import GenaugError, InvalidArgument, ResourceExhausted, Unavailable
from genaug.shared.metrics import BATCH_IMAGES, QUEUE_DEPTH
from genaug.shared.settings import InferenceSettings, Settings
from genaug.shared.store import Store
from genaug.vision.images.pixels import Pixels, fitted, is_constant, with_pixels
from genaug.vision.lru_cache import LoadingCache
from genaug.vision.models.classifiers import TrainedClassifier, load

log = logging.getLogger(__name__)

Status = Literal["OK", "CONSTANT", "UNREADABLE", "TOO_LARGE", "TOO_SMALL", "FAILED", "SEVERAL_FRAMES"]
STATUSES: tuple[Status, ...] = get_args(Status)
"""Statuses of an image's result; other wire formats number them by their index, so that new ones come last."""


@dataclass(frozen=True)
class ModelKey:
    """A classifier, and the number format that it computes in."""

    name: str
    """ "classifiers/{digest}"."""
    precision: Precision


@dataclass(frozen=True)
class ImageResult:
    """A classifier's result for one image. Features and probabilities are None where it cannot be classified."""

    status: Status = "OK"
    """CONSTANT, an image of one color, has features and probabilities too."""
    message: str = ""
    """Problem with the image."""
    probabilities: NDArray[np.float32] | None = None
    """Calibrated, [classes]."""
    features: NDArray[np.float32] | None = None
    """In the classifier's feature space, as `TrainedClassifier.extract_features` gives them."""
    penultimate: NDArray[np.float32] | None = None
    """[features of the penultimate layer]."""


@dataclass
class _QueuedImage:
    model: ModelKey
    data: bytes
    future: Future[ImageResult] = field(default_factory=Future)
    pixels: Pixels | None = None
    is_constant: bool = False
    ready_time: float = 0.0


class DynamicBatcher:
    """Inference of several classifiers in batches that callers share.

    The lock of `_changed` guards the queues and counters. Decoding, loading and inference run without it, so that
    `submit` never waits for them.

    Args:
        load: Loads a classifier.
        limits: Sizes of batches, queue and memory.
        name: For metrics and thread listings.
    """

    def __init__(self, load: Callable[[ModelKey], TrainedClassifier], limits: InferenceSettings, *, name: str) -> None:
        self._limits = limits
        self._name = name
        self._models: LoadingCache[ModelKey, TrainedClassifier] = LoadingCache(
            load, memory_bytes=limits.memory_mb << 20
        )
        self._changed = threading.Condition()
        self._ready: dict[ModelKey, deque[_QueuedImage]] = {}
        self._waiting = 0
        self._closed = False
        self._seconds_per_image = 0.05
        self._decoders = ThreadPoolExecutor(limits.decoders, thread_name_prefix=f"{name}-decode")
        self._thread = threading.Thread(target=self._work, name=f"{name}-model", daemon=True)
        self._thread.start()

    def classifier(self, model: ModelKey) -> TrainedClassifier:
        """The classifier itself, for work other than batches of images; loaded unless it is in memory.

        Raises:
            NotFound, FailedPrecondition: see `genaug.vision.models.classifiers.load`.
        """
        return self._models.get(model)

    def submit(self, model: ModelKey, data: bytes) -> Future[ImageResult]:
        """Queue one encoded image; cancelling the future frees its place.

        The future raises errors of loading the classifier. Problems of the image alone are in the `ImageResult`.

        Raises:
            ResourceExhausted: reason BUSY; the queue is full. Its metadata has the seconds until a retry.
            Unavailable: the server is ending.
        """
        image = _QueuedImage(model, data)
        with self._changed:
            if self._closed:
                raise Unavailable("the server is ending; try again", reason="ENDING")
            if self._waiting >= self._limits.queue:
                seconds = min(60.0, max(0.1, self._waiting * self._seconds_per_image))
                raise ResourceExhausted(
                    f"{self._waiting} images wait for the model; try again in {seconds:.1f} s",
                    reason="BUSY",
                    retry_seconds=f"{seconds:.3f}",
                )
            self._waiting += 1
            QUEUE_DEPTH.labels(self._name).set(self._waiting)
        image.future.add_done_callback(self._release_place)
        self._decoders.submit(self._decode, image)
        return image.future

    def close(self) -> None:
        """Refuse more images; those in the queue are still classified."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def _release_place(self, future: Future[ImageResult]) -> None:
        with self._changed:
            self._waiting -= 1
            QUEUE_DEPTH.labels(self._name).set(self._waiting)
            self._changed.notify()

    def _decode(self, image: _QueuedImage) -> None:
        """Decode and resize an image on a thread of the pool, and queue it for the model thread."""
        if image.future.cancelled():
            return
        try:
            # Loads the classifier if it is not in memory, so that the model thread need not wait for the store.
            model = self._models.get(image.model)
            image.pixels, image.is_constant = with_pixels(
                image.data,
                lambda pixels: (
                    fitted(pixels, image_size=model.image_size, channels=model.channels, pre_resize=model.pre_resize),
                    is_constant(pixels),
                ),
                window=model.window,
            )
        except InvalidArgument as error:
            status = next((status for status in STATUSES if status == error.reason), None)
            _resolve(image, error if status is None else ImageResult(status, error.message))
            return
        # Raised in this image's caller, whatever it is: the pool's thread must go on.
        except Exception as error:
            _resolve(image, error)
            return
        # The encoded bytes may be much larger than the pixels, and are not needed again.
        image.data = b""
        with self._changed:
            image.ready_time = time.monotonic()
            self._ready.setdefault(image.model, deque()).append(image)
            self._changed.notify()

    def _work(self) -> None:
        while batch := self._next_batch():
            # From here on a caller can no longer cancel: the result will be set.
            running = [image for image in batch if image.future.set_running_or_notify_cancel()]
            if not running:
                continue
            start = time.monotonic()
            try:
                results = self._predict(running)
            # Raised in the callers; the model thread must go on.
            except Exception as error:
                log.error("a batch failed", exc_info=None if isinstance(error, GenaugError) else error)
                for image in running:
                    image.future.set_exception(error)
                continue
            self._seconds_per_image = (time.monotonic() - start) / len(running)
            BATCH_IMAGES.labels(self._name).observe(len(running))
            for image, result in zip(running, results, strict=True):
                image.future.set_result(result)

    def _predict(self, images: Sequence[_QueuedImage]) -> list[ImageResult]:
        model = self._models.get(images[0].model)
        features = model.extract_features(np.stack([image.pixels for image in images if image.pixels is not None]))
        penultimate, probabilities = model.classify(features)
        return [
            ImageResult("CONSTANT" if image.is_constant else "OK", "", p, f, last)
            for image, p, f, last in zip(images, probabilities, features, penultimate, strict=True)
        ]

    def _next_batch(self) -> list[_QueuedImage]:
        """Wait for the images of one batch, all of one classifier; empty once the batcher is closed and drained."""
        with self._changed:
            while True:
                self._drop_cancelled()
                # The classifier of the image that has waited longest: under load each gets its turn.
                model = min(self._ready, key=lambda model: self._ready[model][0].ready_time, default=None)
                if model is None:
                    if self._closed and not self._waiting:
                        return []
                    # While closing: until images that are still being decoded are ready or cancelled.
                    self._changed.wait(0.5 if self._closed else None)
                    continue
                queue, size = self._ready[model], self._batch_size(model)
                delay = queue[0].ready_time + self._limits.max_delay_s - time.monotonic()
                # Waiting a little fills batches; an image that has waited `max_delay_s` goes with those that are there.
                if len(queue) < size and delay > 0 and not self._closed:
                    self._changed.wait(delay)
                    continue
                batch = [queue.popleft() for _ in range(min(size, len(queue)))]
                if not queue:
                    del self._ready[model]
                return batch

    def _drop_cancelled(self) -> None:
        for model, queue in list(self._ready.items()):
            remaining = deque(image for image in queue if not image.future.cancelled())
            if remaining:
                self._ready[model] = remaining
            else:
                del self._ready[model]

    def _batch_size(self, model: ModelKey) -> int:
        # Only a look: a classifier that has left memory since is loaded by its batch, not under the lock.
        classifier = self._models.peek(model)
        return min(self._limits.max_batch, classifier.minibatch_size) if classifier else self._limits.max_batch


def _resolve(image: _QueuedImage, result: ImageResult | Exception) -> None:
    """Set a result outside the model thread, unless the future was cancelled meanwhile."""
    if image.future.set_running_or_notify_cancel():
        if isinstance(result, ImageResult):
            image.future.set_result(result)
        else:
            image.future.set_exception(result)


def serving(store: Store, settings: Settings, *, name: str) -> DynamicBatcher:
    """The dynamic batcher of a service, over the classifiers of a store."""
    return DynamicBatcher(
        lambda model: load(store, model.name, device=settings.device, precision=model.precision),
        settings.inference,
        name=name,
    )
