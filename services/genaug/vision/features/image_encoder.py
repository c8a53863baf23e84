"""Those who see images for a caller: many at a time, answered in order, and never twice where features are kept."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import islice
from typing import Protocol

import numpy as np

from genaug.shared.errors import Cancelled, NotFound, ResourceExhausted
from genaug.shared.store import Store
from genaug.vision.batching.dynamic_batcher import STATUSES, DynamicBatcher, Model, Seen
from genaug.vision.features.feature_index import Shard, cut, read_shard, shard_key, write_shard
from genaug.vision.models.classifiers import Classifier

# Seconds between two attempts at a full queue.
_AGAIN = 0.02
# Seconds between two looks at whether a caller who waits is still there.
_LOOK = 0.2

Until = Callable[[], bool]
"""Whether a caller is still there."""


class ImageEncoder(Protocol):
    """A classifier that sees encoded images, wherever it computes."""

    @property
    def memory(self) -> CachedEncoder | None:
        """What it makes of features that were kept; None where its answers hold none."""

    def predict(self, images: Iterator[bytes], *, until: Until = lambda: True) -> OrderedResults:
        """What it makes of encoded images, in their order.

        Args:
            images: Encoded images; read on another thread.
            until: Whether the caller is still there.

        Raises:
            Cancelled: `until` said no.
            ResourceExhausted: too many images wait already. Says after how many seconds to try again.
            Unavailable: the model server cannot be had.
        """


class CachedEncoder:
    """A classifier that answers from features that were kept, instead of from images.

    Args:
        classifier: It.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self.space = classifier.feature_space
        """Whose features it takes."""

    def holds(self, store: Store, uris: Sequence[str]) -> bool:
        """Whether the shard of these images is there."""
        return store.exists(shard_key(self.space, uris))

    def answers(self, store: Store, uris: Sequence[str], wanted: Sequence[int] | None = None) -> list[Seen]:
        """What it makes of a shard's images.

        Args:
            store: Where the shard is.
            uris: The images that it holds.
            wanted: Indices of those that are asked for; None for all.

        Raises:
            NotFound: the shard is not there.
        """
        shard = read_shard(store, self.space, uris)
        if shard is None:
            raise NotFound(f"{shard_key(self.space, uris)} is not in the store; try again")
        chosen = np.arange(len(uris)) if wanted is None else np.asarray(wanted, np.int64)
        return self.recall(Shard(shard.features[chosen], shard.statuses[chosen]))

    def recall(self, shard: Shard) -> list[Seen]:
        """What it makes of features of its space, and of what became of their images then."""
        answers = [Seen(STATUSES[status]) for status in shard.statuses]
        # A shard of which no image could be seen does not know how many features there are.
        there = [index for index, one in enumerate(answers) if one.status in ("OK", "CONSTANT")]
        if there:
            penultimate, probabilities = self._classifier.classify(shard.features[there])
            for index, p, last in zip(there, probabilities, penultimate, strict=True):
                answers[index] = Seen(answers[index].status, "", p, shard.features[index], last)
        return answers


class LocalEncoder:
    """A classifier behind the inference server of this process: an `ImageEncoder`.

    Args:
        server: The inference server.
        model: Which classifier.
        window: Images of one call that are under way.
    """

    def __init__(self, server: DynamicBatcher, model: Model, *, window: int) -> None:
        self._server = server
        self._model = model
        self._window = window

    @property
    def memory(self) -> CachedEncoder:
        return CachedEncoder(self._server.classifier(self._model))

    def predict(self, images: Iterator[bytes], *, until: Until = lambda: True) -> OrderedResults:
        return OrderedResults(images, lambda data: self._server.submit(self._model, data), window=self._window, until=until)


class OrderedResults(Iterator[Seen]):
    """OrderedResults in the order of `images`, of which at most `window` are under way; `close` cancels those.

    `images` are read on a thread of their own, and no faster than answers are taken.

    Args:
        images: Encoded images.
        submit: Asks for one.
        window: Images under way.
        until: Whether the caller is still there; looked at while an answer is waited for.

    Raises:
        ResourceExhausted: the first image found the queue full. Later ones wait for room.
        Cancelled: `until` said no.
        Exception: what reading `images` or an answer raises.
    """

    def __init__(
        self,
        images: Iterator[bytes],
        submit: Callable[[bytes], Future[Seen]],
        *,
        window: int,
        until: Until = lambda: True,
    ) -> None:
        self._images = images
        self._submit = submit
        self._until = until
        self._room = threading.Semaphore(window)
        self._stopped = threading.Event()
        self._futures: queue.SimpleQueue[Future[Seen] | None] = queue.SimpleQueue()
        threading.Thread(target=self._feed, name="feeder", daemon=True).start()

    def __next__(self) -> Seen:
        future = self._futures.get()
        if future is None:
            # Again, for whoever asks again.
            self._futures.put(None)
            raise StopIteration
        try:
            answer = self._wait(future)
        except BaseException:
            self.close()
            raise
        self._room.release()
        return answer

    def _wait(self, future: Future[Seen]) -> Seen:
        while True:
            try:
                return future.result(_LOOK)
            except TimeoutError:
                if future.done():
                    # The answer itself, not our patience.
                    raise
                if not self._until():
                    future.cancel()
                    raise Cancelled("the caller has left", reason="CANCELLED") from None

    def close(self) -> None:
        """Submit no more, and cancel what is under way."""
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
                future = self._submitted(data, patient=not first)
                if future is None:
                    break
                first = False
                self._futures.put(future)
            self._futures.put(None)
        # Carried to the reader of the answers.
        except BaseException as error:
            failed: Future[Seen] = Future()
            failed.set_exception(error)
            self._futures.put(failed)
            self._futures.put(None)
        if self._stopped.is_set():
            self._cancel_waiting()

    def _submitted(self, data: bytes, *, patient: bool) -> Future[Seen] | None:
        while not self._stopped.is_set():
            try:
                return self._submit(data)
            except ResourceExhausted:
                if not patient:
                    raise
                self._stopped.wait(_AGAIN)
        return None


def see_all(store: Store, uris: Sequence[str], eye: ImageEncoder, *, until: Until = lambda: True) -> Iterator[list[Seen]]:
    """What a classifier makes of a list of images, shard by shard: from shards that are there, else seen now and kept.

    Args:
        store: Where images and shards are.
        uris: Keys of the images.
        eye: The classifier.
        until: Whether the caller is still there.

    Raises:
        NotFound: an image is not in the store, or a shard was deleted meanwhile.
        Cancelled: `until` said no. Shards that were yielded are kept.
    """
    memory = eye.memory
    parts = list(cut(uris))
    kept = [memory is not None and memory.holds(store, part) for part in parts]
    missing = [uri for part, there in zip(parts, kept, strict=True) if not there for uri in part]
    answers = eye.predict(store.read_ahead(missing), until=until)
    try:
        for part, there in zip(parts, kept, strict=True):
            if not until():
                raise Cancelled("the caller has left", reason="CANCELLED")
            if memory and there:
                yield memory.answers(store, part)
                continue
            seen = list(islice(answers, len(part)))
            if memory:
                write_shard(store, memory.space, part, to_shard(seen))
            yield seen
    finally:
        answers.close()


def to_shard(seen: Sequence[Seen]) -> Shard:
    """The shard of what a classifier made of some images."""
    shape = next((one.features.shape for one in seen if one.features is not None), (1,))
    features = np.full((len(seen), *shape), np.nan, np.float32)
    for index, one in enumerate(seen):
        if one.features is not None:
            features[index] = one.features
    return Shard(features, np.array([STATUSES.index(one.status) for one in seen], np.int8))
