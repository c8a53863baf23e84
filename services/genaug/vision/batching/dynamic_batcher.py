"""The inference server inside a service: images of many callers share the passes of one model thread.

An image goes through three hands: a pool decodes it and brings it to the classifier's size; the one model thread of the
device gathers what waits for a classifier, a full pass or what came within `max_delay_s`; its caller takes the answer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from genaug.shared.errors import GenaugError, InvalidArgument, ResourceExhausted, Unavailable
from genaug.shared.metrics import BATCH_IMAGES, QUEUE_DEPTH
from genaug.shared.settings import InferenceSettings, Settings
from genaug.shared.store import Store
from genaug.vision.images.pixels import Pixels, decode, fitted, is_constant
from genaug.vision.models.classifiers import Classifier, load
from genaug.vision.shelf import Shelf

log = logging.getLogger(__name__)

Status = Literal["OK", "CONSTANT", "UNREADABLE", "TOO_LARGE", "TOO_SMALL", "FAILED"]
STATUSES: tuple[Status, ...] = ("OK", "CONSTANT", "UNREADABLE", "TOO_LARGE", "TOO_SMALL", "FAILED")
"""What may become of an image; an index into this is its number on other wires."""


@dataclass(frozen=True)
class Model:
    """Which classifier, and what it computes in."""

    name: str
    """ "classifiers/{digest}"."""
    precision: str


@dataclass(frozen=True)
class Seen:
    """What a classifier made of one image. Without features or probabilities where the image could not be seen."""

    status: Status = "OK"
    """CONSTANT is seen too: one colour, which is no photograph."""
    message: str = ""
    """What is wrong with the image."""
    probabilities: NDArray[np.float32] | None = None
    """Calibrated, [classes]."""
    features: NDArray[np.float32] | None = None
    """In the classifier's feature space, as `Classifier.see` gives them."""
    penultimate: NDArray[np.float32] | None = None
    """[features of the penultimate layer]."""


@dataclass
class _Item:
    model: Model
    data: bytes
    future: Future[Seen] = field(default_factory=Future)
    pixels: Pixels | None = None
    constant: bool = False
    ready: float = 0.0


class DynamicBatcher:
    """Answers images with classifiers, several at once, in passes that callers share.

    Args:
        load: Loads a classifier.
        limits: Sizes of passes, queue and memory.
        name: For metrics and thread listings.
    """

    def __init__(self, load: Callable[[Model], Classifier], limits: InferenceSettings, *, name: str) -> None:
        self._limits = limits
        self._name = name
        self._models: Shelf[Model, Classifier] = Shelf(load, memory_bytes=limits.memory_mb << 20)
        self._changed = threading.Condition()
        self._ready: dict[Model, deque[_Item]] = {}
        self._waiting = 0
        self._closed = False
        self._seconds_per_image = 0.05
        self._decoders = ThreadPoolExecutor(limits.decoders, thread_name_prefix=f"{name}-decode")
        self._thread = threading.Thread(target=self._work, name=f"{name}-model", daemon=True)
        self._thread.start()

    def classifier(self, model: Model) -> Classifier:
        """The classifier itself, for work that is not a pass of images. Loaded by whoever asks first.

        Raises:
            NotFound, FailedPrecondition: see `genaug.vision.models.classifiers.load`.
        """
        return self._models.get(model)

    def submit(self, model: Model, data: bytes) -> Future[Seen]:
        """Ask for one encoded image; cancelling the future frees its place.

        The future raises what loading the classifier raises. What is wrong with the image alone is in `Seen`.

        Raises:
            ResourceExhausted: reason BUSY; the queue is full. Says after how many seconds to try again.
            Unavailable: the server is ending.
        """
        item = _Item(model, data)
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
        item.future.add_done_callback(self._left)
        self._decoders.submit(self._decode, item)
        return item.future

    def close(self) -> None:
        """Refuse more; what waits is still answered."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def _left(self, future: Future[Seen]) -> None:
        with self._changed:
            self._waiting -= 1
            QUEUE_DEPTH.labels(self._name).set(self._waiting)
            self._changed.notify()

    def _decode(self, item: _Item) -> None:
        """On a thread of the pool: the image at its classifier's size, or its answer where it cannot be seen."""
        if item.future.cancelled():
            return
        try:
            model = self._models.get(item.model)
            pixels = decode(item.data)
            item.constant = is_constant(pixels)
            item.pixels = fitted(pixels, image_size=model.image_size, channels=model.channels, detail=model.detail)
        except InvalidArgument as error:
            status = next((one for one in STATUSES if one == error.reason), None)
            _answer(item, error if status is None else Seen(status, error.message))
            return
        # Whatever it is, it belongs to this image's caller.
        except Exception as error:
            _answer(item, error)
            return
        item.data = b""
        with self._changed:
            item.ready = time.monotonic()
            self._ready.setdefault(item.model, deque()).append(item)
            self._changed.notify()

    def _work(self) -> None:
        while items := self._next():
            kept = [item for item in items if item.future.set_running_or_notify_cancel()]
            if not kept:
                continue
            start = time.monotonic()
            try:
                answers = self._see(kept)
            # Carried to the callers.
            except Exception as error:
                log.error("a pass failed", exc_info=None if isinstance(error, GenaugError) else error)
                for item in kept:
                    item.future.set_exception(error)
                continue
            self._seconds_per_image = (time.monotonic() - start) / len(kept)
            BATCH_IMAGES.labels(self._name).observe(len(kept))
            for item, answer in zip(kept, answers, strict=True):
                item.future.set_result(answer)

    def _see(self, items: Sequence[_Item]) -> list[Seen]:
        model = self._models.get(items[0].model)
        features = model.extract_features(np.stack([item.pixels for item in items if item.pixels is not None]))
        penultimate, probabilities = model.classify(features)
        return [
            Seen("CONSTANT" if item.constant else "OK", "", p, f, last)
            for item, p, f, last in zip(items, probabilities, features, penultimate, strict=True)
        ]

    def _next(self) -> list[_Item]:
        """Images of one classifier, whose first has waited longest: as many as one pass takes; empty at the end."""
        with self._changed:
            while True:
                self._forget_cancelled()
                model = min(self._ready, key=lambda one: self._ready[one][0].ready, default=None)
                if model is None:
                    if self._closed and not self._waiting:
                        return []
                    self._changed.wait(0.5 if self._closed else None)
                    continue
                waiting, size = self._ready[model], self._pass_size(model)
                left = waiting[0].ready + self._limits.max_delay_s - time.monotonic()
                if len(waiting) < size and left > 0 and not self._closed:
                    self._changed.wait(left)
                    continue
                taken = [waiting.popleft() for _ in range(min(size, len(waiting)))]
                if not waiting:
                    del self._ready[model]
                return taken

    def _forget_cancelled(self) -> None:
        for model, waiting in list(self._ready.items()):
            kept = deque(item for item in waiting if not item.future.cancelled())
            if kept:
                self._ready[model] = kept
            else:
                del self._ready[model]

    def _pass_size(self, model: Model) -> int:
        # One that has left memory since is loaded by the pass, not under the lock.
        found = self._models.peek(model)
        return min(self._limits.max_batch, found.pass_size) if found else self._limits.max_batch


def _answer(item: _Item, answer: Seen | Exception) -> None:
    """Answer outside the model's thread, unless the caller has left meanwhile."""
    if item.future.set_running_or_notify_cancel():
        if isinstance(answer, Seen):
            item.future.set_result(answer)
        else:
            item.future.set_exception(answer)


def serving(store: Store, settings: Settings, *, name: str) -> DynamicBatcher:
    """The inference server of a service, over the classifiers of a store."""
    return DynamicBatcher(
        lambda model: load(store, model.name, device=settings.device, precision=model.precision),
        settings.inference,
        name=name,
    )
