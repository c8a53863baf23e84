"""Ordered, batched feature extraction with a feature cache."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import islice
from typing import Protocol

import numpy as np
from typing_extensions import override

from genaug.shared.errors import Cancelled, NotFound, ResourceExhausted
from genaug.shared.store import Store
from genaug.vision.batching.dynamic_batcher import STATUSES, DynamicBatcher, ImageResult, ModelKey
from genaug.vision.features.feature_index import Shard, cut, read_shard, shard_key, write_shard
from genaug.vision.models.classifiers import TrainedClassifier

# Seconds between two attempts to submit to a full queue.
_RETRY = 0.02
# Seconds between two checks whether a waiting caller is still active.
_POLL = 0.2

IsActive = Callable[[], bool]
"""Whether the caller is still there; False cancels its work."""


class ImageEncoder(Protocol):
    """A classifier of encoded images, in this process or on a model server."""

    @property
    def cached(self) -> CachedEncoder | None:
        """The same classifier on stored features; None where its results have no features."""

    def predict(self, images: Iterator[bytes], *, is_active: IsActive = lambda: True) -> OrderedResults:
        """Classify encoded images, in their order.

        Args:
            images: Encoded images; read on another thread.
            is_active: See `IsActive`.

        Raises:
            Cancelled: the caller is no longer active.
            ResourceExhausted: too many images wait already; the metadata has the seconds until a retry.
            Unavailable: the model server cannot be reached.
        """


class CachedEncoder:
    """A classifier on stored features instead of images."""

    def __init__(self, classifier: TrainedClassifier) -> None:
        self._classifier = classifier
        self.space = classifier.feature_space
        """Feature space of the shards that it reads."""

    def holds(self, store: Store, uris: Sequence[str]) -> bool:
        """Whether the store has the shard of these images."""
        return store.exists(shard_key(self.space, uris))

    def predict(self, store: Store, uris: Sequence[str], indices: Sequence[int] | None = None) -> list[ImageResult]:
        """Classify the images of a shard.

        Args:
            store: Source of the shard.
            uris: All images of the shard.
            indices: Images to classify; None for all.

        Raises:
            NotFound: there is no such shard.
        """
        shard = read_shard(store, self.space, uris)
        if shard is None:
            raise NotFound(f"{shard_key(self.space, uris)} is not in the store; try again")
        chosen = np.arange(len(uris)) if indices is None else np.asarray(indices, np.int64)
        return self.predict_shard(Shard(shard.features[chosen], shard.statuses[chosen]))

    def predict_shard(self, shard: Shard) -> list[ImageResult]:
        """Classify features of its space; the statuses of their images stay."""
        results = [ImageResult(STATUSES[status]) for status in shard.statuses]
        # A shard without any features does not know their dimensions either.
        present = [index for index, result in enumerate(results) if result.status in ("OK", "CONSTANT")]
        if present:
            penultimate, probabilities = self._classifier.classify(shard.features[present])
            for index, p, last in zip(present, probabilities, penultimate, strict=True):
                results[index] = ImageResult(results[index].status, "", p, shard.features[index], last)
        return results


class LocalEncoder(ImageEncoder):
    """A classifier behind the dynamic batcher of this process: an `ImageEncoder`.

    Args:
        server: The batcher.
        model: The classifier.
        window: Images of one call that are in progress at once.
    """

    def __init__(self, server: DynamicBatcher, model: ModelKey, *, window: int) -> None:
        self._server = server
        self._model = model
        self._window = window

    @property
    @override
    def cached(self) -> CachedEncoder:
        return CachedEncoder(self._server.classifier(self._model))

    @override
    def predict(self, images: Iterator[bytes], *, is_active: IsActive = lambda: True) -> OrderedResults:
        return OrderedResults(
            images, lambda data: self._server.submit(self._model, data), window=self._window, is_active=is_active
        )


class OrderedResults(Iterator[ImageResult]):
    """Results in the order of `images`, of which at most `window` are in progress; `close` cancels those.

    A thread reads `images`, no faster than results are taken.

    Args:
        images: Encoded images.
        submit: Submits one image.
        window: Images in progress at once.
        is_active: Checked while a result is waited for.

    Raises:
        ResourceExhausted: the queue is full at the first image. Later images wait until it has room.
        Cancelled: the caller is no longer active.
        Exception: from reading `images`, or from a result.
    """

    def __init__(
        self,
        images: Iterator[bytes],
        submit: Callable[[bytes], Future[ImageResult]],
        *,
        window: int,
        is_active: IsActive = lambda: True,
    ) -> None:
        self._images = images
        self._submit = submit
        self._is_active = is_active
        self._room = threading.Semaphore(window)
        self._stopped = threading.Event()
        self._futures: queue.SimpleQueue[Future[ImageResult] | None] = queue.SimpleQueue()
        threading.Thread(target=self._feed, name="feeder", daemon=True).start()

    def __next__(self) -> ImageResult:
        future = self._futures.get()
        if future is None:
            # The end again, for another `next`.
            self._futures.put(None)
            raise StopIteration
        try:
            result = self._wait(future)
        except BaseException:
            self.close()
            raise
        self._room.release()
        return result

    def _wait(self, future: Future[ImageResult]) -> ImageResult:
        while True:
            try:
                return future.result(_POLL)
            except TimeoutError:
                if future.done():
                    # The result itself is a TimeoutError.
                    raise
                if not self._is_active():
                    future.cancel()
                    raise Cancelled("the caller has left", reason="CANCELLED") from None

    def close(self) -> None:
        """Submit no more images, and cancel those in progress."""
        self._stopped.set()
        self._room.release()
        self._cancel_waiting()

    def _cancel_waiting(self) -> None:
        with suppress(queue.Empty):
            while True:
                future = self._futures.get_nowait()
                if future is not None:
                    future.cancel()
        self._futures.put(None)

    def _feed(self) -> None:
        first = True
        try:
            for data in self._images:
                self._room.acquire()
                future = self._submit_when_room(data, retry=not first)
                if future is None:
                    break
                first = False
                self._futures.put(future)
            self._futures.put(None)
        # Raised in the reader of the results.
        except BaseException as error:
            failed: Future[ImageResult] = Future()
            failed.set_exception(error)
            self._futures.put(failed)
            self._futures.put(None)
        if self._stopped.is_set():
            self._cancel_waiting()

    def _submit_when_room(self, data: bytes, *, retry: bool) -> Future[ImageResult] | None:
        while not self._stopped.is_set():
            try:
                return self._submit(data)
            except ResourceExhausted:
                if not retry:
                    raise
                self._stopped.wait(_RETRY)
        return None


def predict_all(
    store: Store, uris: Sequence[str], encoder: ImageEncoder, *, is_active: IsActive = lambda: True
) -> Iterator[list[ImageResult]]:
    """Classify stored images, shard by shard: from existing shards, else from the images, writing their shards.

    Args:
        store: Source of images and shards.
        uris: Keys of the images.
        encoder: The classifier.
        is_active: See `IsActive`.

    Yields:
        The results of each shard's images.

    Raises:
        NotFound: an image is not in the store, or a shard was deleted meanwhile.
        Cancelled: the caller is no longer active. The shards of yielded results are written already.
    """
    cached = encoder.cached
    parts = list(cut(uris))
    stored = [cached is not None and cached.holds(store, part) for part in parts]
    missing = [uri for part, is_stored in zip(parts, stored, strict=True) if not is_stored for uri in part]
    # One stream over all missing images, so that batches are full across shards.
    results = encoder.predict(store.read_ahead(missing), is_active=is_active)
    try:
        for part, is_stored in zip(parts, stored, strict=True):
            if not is_active():
                raise Cancelled("the caller has left", reason="CANCELLED")
            if cached and is_stored:
                yield cached.predict(store, part)
                continue
            computed = list(islice(results, len(part)))
            if cached:
                write_shard(store, cached.space, part, to_shard(computed))
            yield computed
    finally:
        results.close()


def to_shard(results: Sequence[ImageResult]) -> Shard:
    """Turn results into a shard of their features."""
    shape = next((result.features.shape for result in results if result.features is not None), (1,))
    features = np.full((len(results), *shape), np.nan, np.float32)
    for index, result in enumerate(results):
        if result.features is not None:
            features[index] = result.features
    return Shard(features, np.array([STATUSES.index(result.status) for result in results], np.int8))
