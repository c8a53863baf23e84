"""Sampling server: continuous batching of many callers' images on one device.

Images wait in queues, one per client. Before each denoising step the device thread admits as many as the batch has room
for, client by client in turn; after each step finished images leave, and those of callers that are gone are dropped.
The network's batch always has the same shape, so an image does not depend on who else is drawing.

Threads: callers run `draw`; one device thread owns the active batch and all of torch. They share the queues and calls
under one lock, `_changed`, which is never held while torch computes or weights are loaded: meanwhile callers can join,
leave and read progress. Finished images are handed over through each call's own queue, without that lock.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from genaug.generation.diffusion.denoise import Cohort, Denoiser, step
from genaug.generation.generators import Generator, Loader
from genaug.generation.sampling.draw import DirectGenerator, cancelled, checked_bucket, draw
from genaug.generation.sampling.receipts import DrawnImage, DrawProgress, ImageRequest
from genaug.schema.sampling import Sampler
from genaug.shared.errors import GenaugError, ResourceExhausted, Unavailable
from genaug.shared.metrics import BATCH_IMAGES, QUEUE_DEPTH
from genaug.shared.settings import GenerationSettings
from genaug.shared.store import Store
from genaug.vision.devices import describe, pick_device

log = logging.getLogger(__name__)

# Seconds that one variant keeps the device while images of another wait: changing weights costs time.
_TURN = 5.0
# Seconds between two updates of a caller's progress, and between two checks that its client is still there.
_POLL = 0.1
# Seconds that closing waits for the images that are being drawn.
_CLOSE_TIMEOUT = 5.0
# Finished images, as buckets, that a caller may leave unread before no more of its images are started.
_MAX_UNREAD = 2


@dataclass(eq=False)
class _Call:
    """One caller's request."""

    number: int
    """Order of arrival."""
    client: str
    generator: Denoiser
    sampler: Sampler
    bucket: int
    is_active: Callable[[], bool]
    pending: deque[ImageRequest]
    """Images not started."""
    steps_total: int
    out: queue.SimpleQueue[DrawnImage | Exception] = field(default_factory=queue.SimpleQueue)
    steps_done: int = 0
    started: bool = False
    served: float = 0.0
    """Time when images of it were last admitted."""
    left: bool = False
    """Whether its caller has stopped reading, or was handed an error."""

    def key(self) -> Hashable:
        """Key of the weights and shapes that its next image needs."""
        variant = self.generator.variant(self.pending[0].class_name, self.sampler)
        return self.generator.name, id(self.generator), self.bucket, variant

    def take(self, most: int) -> list[ImageRequest]:
        """Remove and return its next images of one variant, at most `most`."""
        key, images = self.key(), [self.pending.popleft()]
        while self.pending and len(images) < most and self.key() == key:
            images.append(self.pending.popleft())
        return images

    @property
    def is_gone(self) -> bool:
        """Whether nobody reads its images."""
        return self.left or not self.is_active()

    @property
    def is_ready(self) -> bool:
        """Whether images can be started: some are pending, and its reader keeps up."""
        return bool(self.pending) and self.out.qsize() <= _MAX_UNREAD * self.bucket


@dataclass
class ActiveBatch:
    """Images that are being drawn, all of one variant of one generator. Only the device thread touches it."""

    key: Hashable
    generator: Denoiser
    bucket: int
    since: float
    """Start of the variant's turn."""
    cohorts: list[tuple[Cohort, _Call]] = field(default_factory=list)

    @property
    def room(self) -> int:
        """Images that may still be admitted."""
        return self.bucket - sum(len(cohort) for cohort, _ in self.cohorts)


class SamplingServer:
    """Draws for many callers at once.

    Args:
        store: Holds generators and bases.
        settings: Limits of the queue and of memory.
        device: "auto", "cpu", "cuda", …
        threads: CPU threads of the process; 0 for torch's default.
        clock: Monotonic time that turns are measured in, seconds.
    """

    def __init__(
        self, store: Store, settings: GenerationSettings, *, device: str, threads: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._clock = clock
        chosen = pick_device(device)
        self.device = describe(chosen)
        """Description of the device, for receipts."""
        self._loader = Loader(store, device=chosen, memory_bytes=settings.memory_mb << 20)
        if threads:
            torch.set_num_threads(threads)
        self._changed = threading.Condition()
        # Clients in the order of their turns, each with its calls in the order of theirs.
        self._clients: OrderedDict[str, deque[_Call]] = OrderedDict()
        self._numbers = itertools.count()
        self._closed = False
        self._seconds_per_image = 1.0
        self._thread = threading.Thread(target=self._work, name="generation", daemon=True)
        self._thread.start()

    def load(self, name: str) -> Generator:
        """Return the generator "generators/{digest}", loaded on first use.

        Raises:
            NotFound, FailedPrecondition: see `genaug.generation.generators.Loader.generator`.
        """
        return self._loader.generator(name)

    def draw(
        self,
        generator: Generator,
        requests: Sequence[ImageRequest],
        *,
        sampler: Sampler,
        client: str,
        is_active: Callable[[], bool],
        bucket: int = 0,
    ) -> Iterator[DrawnImage | DrawProgress]:
        """Yield the requested images, in order, as they finish, and progress in between.

        Closing the iterator frees the device within a step. A slow reader delays no other caller.

        Args:
            generator: From `load`.
            requests: Images of the generator's classes.
            sampler: Sampler settings.
            client: Key of the client: clients take turns, however many requests each has.
            is_active: Called between steps; drawing stops once it returns False.
            bucket: Bucket from a receipt, instead of the generator's.

        Raises:
            InvalidArgument: the generator cannot draw with these settings.
            ResourceExhausted: reason BUSY; too many requests wait.
            Cancelled: `is_active()` turned False.
            Unavailable: the server is closing.
        """
        if isinstance(generator, DirectGenerator):
            # Needs no device: it works on the caller's thread.
            yield from draw(generator, requests, sampler=sampler, is_active=is_active)
            return
        generator.check(sampler)
        size = checked_bucket(bucket or generator.bucket_at(sampler.image_size))
        call = self._enqueue(generator, requests, sampler, client, is_active, size)
        try:
            missing, reported = len(requests), DrawProgress()
            while missing:
                try:
                    event = call.out.get(timeout=_POLL)
                except queue.Empty:
                    event = None
                    if not self._thread.is_alive():
                        raise _closing() from None
                if isinstance(event, Exception):
                    raise event
                # Only once the queue is empty: finished images are handed over first.
                if event is None and not is_active():
                    raise cancelled()
                if (progress := self._progress(call)) != reported:
                    reported = progress
                    yield progress
                if event is not None:
                    missing -= 1
                    yield event
        finally:
            with self._changed:
                call.left = True
                self._changed.notify()

    def close(self) -> None:
        """Finish the images that are being drawn; refuse waiting requests and new ones."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        # The process aborts if the interpreter ends while a thread is inside torch.
        self._thread.join(_CLOSE_TIMEOUT)

    def _enqueue(
        self, generator: Denoiser, requests: Sequence[ImageRequest], sampler: Sampler, client: str,
        is_active: Callable[[], bool], bucket: int,
    ) -> _Call:  # fmt: skip
        with self._changed:
            if self._closed:
                raise _closing()
            waiting = [call for call in self._calls() if call.pending]
            if len(waiting) >= self._settings.queue:
                seconds = min(600.0, max(1.0, self._seconds_per_image * sum(len(call.pending) for call in waiting)))
                raise ResourceExhausted(
                    f"{len(waiting)} requests wait for the generator's device; try again in {seconds:.0f} s",
                    reason="BUSY",
                    retry_seconds=f"{seconds:.0f}",
                )
            steps_total = len(requests) * sampler.steps
            call = _Call(
                next(self._numbers), client, generator, sampler, bucket, is_active, deque(requests), steps_total
            )
            self._clients.setdefault(client, deque()).append(call)
            self._report_depth()
            self._changed.notify()
            return call

    def _calls(self) -> Iterator[_Call]:
        return itertools.chain.from_iterable(self._clients.values())

    def _progress(self, call: _Call) -> DrawProgress:
        with self._changed:
            earlier = (other for other in self._calls() if not other.started and other.number < call.number)
            position = 0 if call.started else sum(1 for _ in earlier)
        return DrawProgress(min(call.steps_done, call.steps_total), call.steps_total, position)

    def _work(self) -> None:
        """Loop of the device thread."""
        batch: ActiveBatch | None = None
        turn: Hashable = None
        with torch.inference_mode():
            while True:
                with self._changed:
                    self._drop_finished()
                    if self._closed and (batch is None or not batch.cohorts):
                        _fail(self._calls(), _closing())
                        return
                    # The variant can change only while no image is half drawn: its weights are in use.
                    if batch is None or not batch.cohorts:
                        batch = self._next_batch(batch)
                    admitted = self._admit(batch) if batch and not self._closed else []
                    if batch is None or not (admitted or batch.cohorts):
                        # No call waits, or no reader keeps up. Readers and vanished clients do not notify.
                        self._changed.wait(_POLL if self._clients else None)
                        continue
                was_empty = not batch.cohorts
                for call, images in admitted:
                    self._start(batch, call, images)
                if was_empty and batch.key != turn:
                    # The turn begins here: loading a base's weights is no part of it.
                    turn, batch.since = batch.key, self._clock()
                self._step(batch)

    def _drop_finished(self) -> None:
        """Forget calls that are gone or have nothing pending."""
        for client in list(self._clients):
            waiting = deque(call for call in self._clients[client] if call.pending and not call.is_gone)
            if waiting:
                self._clients[client] = waiting
            else:
                del self._clients[client]
        self._report_depth()

    def _next_batch(self, last: ActiveBatch | None) -> ActiveBatch | None:
        """An empty batch of the variant to draw next; None if no call is ready.

        The last variant goes on until its turn is over. Then the device goes to the call that was served longest ago
        among those of other variants, so that a third variant is not starved by two that alternate.
        """
        ready = sorted((call for call in self._calls() if call.is_ready), key=lambda call: (call.served, call.number))
        if not ready:
            return None
        overdue = last is not None and self._clock() - last.since > _TURN
        if last is not None and not overdue and any(call.key() == last.key for call in ready):
            return last
        chosen = next((call for call in ready if last is None or call.key() != last.key), ready[0])
        return ActiveBatch(chosen.key(), chosen.generator, chosen.bucket, since=self._clock())

    def _admit(self, batch: ActiveBatch) -> list[tuple[_Call, list[ImageRequest]]]:
        """Take the images to start now: clients in turn, each an equal share of the batch's room."""
        admitted: list[tuple[_Call, list[ImageRequest]]] = []
        room = batch.room
        while room > 0:
            waiting = [
                (client, call) for client, calls in self._clients.items() if (call := _next_call(calls, batch.key))
            ]
            if not waiting:
                break
            # Once the turn is over and another variant waits, the batch runs empty, so that weights can change.
            others = any(call.pending and call.key() != batch.key for call in self._calls())
            if others and batch.cohorts and self._clock() - batch.since > _TURN:
                break
            client, call = waiting[0]
            images = call.take(max(1, room // len(waiting)))
            call.started, call.served = True, self._clock()
            room -= len(images)
            admitted.append((call, images))
            # To the end of both queues: of its client's calls, and of the clients.
            calls = self._clients.pop(client)
            calls.remove(call)
            calls.append(call)
            self._clients[client] = calls
        return admitted

    def _start(self, batch: ActiveBatch, call: _Call, images: list[ImageRequest]) -> None:
        try:
            # May load weights, which can take seconds: the lock is not held.
            batch.cohorts.append((Cohort(batch.generator, images, call.sampler), call))
        # Any error here concerns this call alone: the other cohorts go on.
        except Exception as error:
            _fail([call], error)

    def _step(self, batch: ActiveBatch) -> None:
        """Take one denoising step, and hand over the images that it finishes."""
        active = batch.cohorts = [(cohort, call) for cohort, call in batch.cohorts if not call.is_gone]
        if not active:
            return
        start = time.monotonic()
        try:
            step(batch.generator, [cohort for cohort, _ in active], bucket=batch.bucket)
            drawn = [(call, cohort.drawn(batch.bucket)) for cohort, call in active if cohort.finished]
        # An error in a shared step may be any row's: all calls in the batch fail, and the thread lives on.
        except Exception as error:
            log.error("a step failed", exc_info=None if isinstance(error, GenaugError) else error)
            _fail([call for _, call in active], error)
            batch.cohorts = []
            return
        batch.cohorts = [(cohort, call) for cohort, call in active if not cohort.finished]
        # Before the images: a caller that has read its last image must have seen all steps.
        for cohort, call in active:
            call.steps_done += _steps_done(cohort, cohort.position) - _steps_done(cohort, cohort.position - 1)
        for call, images in drawn:
            for image in images:
                call.out.put(image)
        count = sum(len(cohort) for cohort, _ in active)
        BATCH_IMAGES.labels("generation").observe(count)
        seconds = (time.monotonic() - start) / count * max(cohort.steps for cohort, _ in active)
        # Moving average, for the time to come back that BUSY names.
        self._seconds_per_image += 0.1 * (seconds - self._seconds_per_image)

    def _report_depth(self) -> None:
        QUEUE_DEPTH.labels("generation").set(sum(len(call.pending) for call in self._calls()))


def _next_call(calls: Iterable[_Call], key: Hashable) -> _Call | None:
    return next((call for call in calls if call.is_ready and call.key() == key), None)


def _steps_done(cohort: Cohort, position: int) -> int:
    """Progress counts the sampler's steps: a scheduler may take more or fewer, such as two per step in Heun's."""
    return round(len(cohort) * cohort.sampler.steps * position / cohort.steps)


def _closing() -> Unavailable:
    return Unavailable("the server is ending; try again", reason="CLOSING")


def _fail(calls: Iterable[_Call], error: Exception) -> None:
    """Hand an error to callers, once each, and drop their pending images."""
    if isinstance(error, torch.OutOfMemoryError):
        error = ResourceExhausted(
            "the device has too little memory for this image size and bucket; ask for smaller images",
            reason="DEVICE_FULL",
        )
    for call in {id(call): call for call in calls}.values():
        call.pending.clear()
        call.left = True
        call.out.put(error)
