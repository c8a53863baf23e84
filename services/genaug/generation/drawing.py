"""The drawing server: requests of many callers share the one device, and each other's rows, step by step.

Images wait by caller. Before each step the worker lets in as many as the rows have room for, caller by caller in turn;
after each step those that are finished leave, and those whose caller has left are dropped. Rows have one shape, always,
so nobody's images depend on who else is drawing.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from genaug.generation.denoise import Cohort, Denoiser, step
from genaug.generation.draw import cancelled, checked_bucket, draw
from genaug.generation.generators import Generator, Loader
from genaug.generation.generators.transforms import Transforms
from genaug.generation.receipts import Drawn, Sampler, Steps, Wanted
from genaug.shared.errors import GenaugError, ResourceExhausted, Unavailable
from genaug.shared.metrics import BATCH_IMAGES, QUEUE_DEPTH
from genaug.shared.settings import GenerationSettings
from genaug.shared.store import Store
from genaug.vision.devices import describe, pick_device

log = logging.getLogger(__name__)

# Seconds that one generator keeps the device while another is waited for.
_TURN = 5.0
# Seconds between two looks of a caller at how far its images are.
_LOOK = 0.1
# Seconds that closing waits for what is being drawn.
_FAREWELL = 5.0
# Finished images that a caller may leave unread before no more of its own are begun, as buckets.
_UNREAD = 2


@dataclass(eq=False)
class _Call:
    number: int
    client: str
    generator: Denoiser
    sampler: Sampler
    bucket: int
    active: Callable[[], bool]
    pending: deque[Wanted]
    steps_total: int
    out: queue.SimpleQueue[Drawn | Exception] = field(default_factory=queue.SimpleQueue)
    steps_done: int = 0
    started: bool = False
    served: float = 0.0
    """When images of it were last let in."""
    left: bool = False
    """Whether its caller is gone, or was told of an error."""

    def key(self) -> Hashable:
        """What its next image needs in place."""
        variant = self.generator.variant(self.pending[0].class_name, self.sampler)
        return self.generator.name, id(self.generator), self.bucket, variant

    def take(self, most: int) -> list[Wanted]:
        """Its next images of one variant, at most `most`."""
        key, taken = self.key(), [self.pending.popleft()]
        while self.pending and len(taken) < most and self.key() == key:
            taken.append(self.pending.popleft())
        return taken


@dataclass
class _Flight:
    """What the device is at: images of one variant of one generator."""

    key: Hashable
    generator: Denoiser
    bucket: int
    since: float
    """When its turn began."""
    cohorts: list[tuple[Cohort, _Call]] = field(default_factory=list)

    @property
    def room(self) -> int:
        """Images that may still be let in."""
        return self.bucket - sum(len(cohort) for cohort, _ in self.cohorts)


class DrawingServer:
    """Draws for many callers at once.

    Args:
        store: Where generators and bases lie.
        settings: Sizes of the queue and of memory.
        device: "auto", "cpu", "cuda", …
        threads: CPU threads of the process; 0 for torch's default.
        clock: Seconds that turns are measured in.
    """

    def __init__(
        self, store: Store, settings: GenerationSettings, *, device: str, threads: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._clock = clock
        self._settings = settings
        chosen = pick_device(device)
        self.device = describe(chosen)
        """What it draws on, for receipts."""
        self._loader = Loader(store, device=chosen, memory_bytes=settings.memory_mb << 20)
        if threads:
            torch.set_num_threads(threads)
        self._changed = threading.Condition()
        self._clients: OrderedDict[str, deque[_Call]] = OrderedDict()
        self._numbers = itertools.count()
        self._closed = False
        self._seconds_per_image = 1.0
        self._thread = threading.Thread(target=self._work, name="generation", daemon=True)
        self._thread.start()

    def load(self, name: str) -> Generator:
        """The generator "generators/{digest}", loaded if it is not.

        Raises:
            NotFound, FailedPrecondition: see `genaug.generation.generators.load_generator`.
        """
        return self._loader.generator(name)

    def draw(
        self,
        generator: Generator,
        wanted: Sequence[Wanted],
        *,
        sampler: Sampler,
        client: str,
        active: Callable[[], bool],
        bucket: int = 0,
    ) -> Iterator[Drawn | Steps]:
        """Yield the images of `wanted`, in order, as they finish, and in between how far they are.

        Leaving the iterator frees the device within a step. A reader that is slow holds up nobody but itself.

        Args:
            generator: From `load`.
            wanted: Images of classes that are the generator's.
            sampler: How.
            client: Whose request it is: clients have their turns, however many requests each has.
            active: Asked between steps; once false, drawing stops.
            bucket: Another bucket than the generator's, from a receipt.

        Raises:
            InvalidArgument: the generator cannot draw so.
            ResourceExhausted: reason BUSY; too many requests wait already.
            Cancelled: `active()` turned false.
            Unavailable: the server is ending.
        """
        if isinstance(generator, Transforms):
            yield from draw(generator, wanted, sampler=sampler, active=active)
            return
        generator.check(sampler)
        size = checked_bucket(bucket or generator.bucket_at(sampler.image_size))
        call = self._enter(generator, wanted, sampler, client, active, size)
        try:
            missing, told = len(wanted), Steps(0, 0, 0)
            while missing:
                try:
                    event = call.out.get(timeout=_LOOK)
                except queue.Empty:
                    event = None
                    if not self._thread.is_alive():
                        raise Unavailable("the server is ending; try again", reason="CLOSING") from None
                if isinstance(event, Exception):
                    raise event
                # What was finished is handed over first.
                if event is None and not active():
                    raise cancelled()
                if (now := self._steps(call)) != told:
                    told = now
                    yield now
                if event is not None:
                    missing -= 1
                    yield event
        finally:
            with self._changed:
                call.left = True
                self._changed.notify()

    def close(self) -> None:
        """Refuse more; what is being drawn is finished, what waits is refused."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        # A thread that is within torch when the interpreter ends takes the process down with an abort.
        self._thread.join(_FAREWELL)

    def _enter(
        self, generator: Denoiser, wanted: Sequence[Wanted], sampler: Sampler, client: str, active: Callable[[], bool],
        bucket: int,
    ) -> _Call:  # fmt: skip
        with self._changed:
            if self._closed:
                raise Unavailable("the server is ending; try again", reason="CLOSING")
            waiting = [call for calls in self._clients.values() for call in calls if call.pending]
            if len(waiting) >= self._settings.queue:
                seconds = min(600.0, max(1.0, self._seconds_per_image * sum(len(call.pending) for call in waiting)))
                raise ResourceExhausted(
                    f"{len(waiting)} requests wait for the generator's device; try again in {seconds:.0f} s",
                    reason="BUSY",
                    retry_seconds=f"{seconds:.0f}",
                )
            total = len(wanted) * sampler.steps
            number = next(self._numbers)
            call = _Call(number, client, generator, sampler, bucket, active, deque(wanted), total)
            self._clients.setdefault(client, deque()).append(call)
            self._count()
            self._changed.notify()
            return call

    def _steps(self, call: _Call) -> Steps:
        with self._changed:
            earlier = (one for calls in self._clients.values() for one in calls)
            ahead = 0 if call.started else sum(not one.started and one.number < call.number for one in earlier)
        return Steps(min(call.steps_done, call.steps_total), call.steps_total, ahead)

    def _work(self) -> None:
        flight: _Flight | None = None
        turn: Hashable = None
        with torch.inference_mode():
            while True:
                with self._changed:
                    self._forget()
                    if self._closed and (flight is None or not flight.cohorts):
                        self._refuse_all()
                        return
                    if flight is None or not flight.cohorts:
                        flight = self._next_flight(flight)
                    taken = self._let_in(flight) if flight and not self._closed else []
                    if flight is None or not (taken or flight.cohorts):
                        # Nobody is there, or all who are have yet to read what they got.
                        self._changed.wait(_LOOK if self._clients else None)
                        continue
                fresh = not flight.cohorts
                for call, wanted in taken:
                    self._begin(flight, call, wanted)
                if fresh and flight.key != turn:
                    # Loading a base is no part of its turn.
                    turn, flight.since = flight.key, self._clock()
                self._step(flight)

    def _forget(self) -> None:
        """Let go of requests that are left or have nothing pending."""
        for client in list(self._clients):
            kept = deque(call for call in self._clients[client] if call.pending and not _gone(call))
            if kept:
                self._clients[client] = kept
            else:
                del self._clients[client]
        self._count()

    def _next_flight(self, last: _Flight | None) -> _Flight | None:
        """The variant of the request that was served longest ago; another than the last one's, where one waits."""
        waiting = (one for calls in self._clients.values() for one in calls)
        calls = sorted(waiting, key=lambda one: (one.served, one.number))
        ready = [call for call in calls if self._reads(call)]
        if not ready:
            return None
        overdue = last is not None and self._clock() - last.since > _TURN
        if last is not None and not overdue and any(call.key() == last.key for call in ready):
            return last
        chosen = next((call for call in ready if last is None or call.key() != last.key), ready[0])
        return _Flight(chosen.key(), chosen.generator, chosen.bucket, self._clock())

    def _let_in(self, flight: _Flight) -> list[tuple[_Call, list[Wanted]]]:
        """Images to begin now: clients in turn, each as many as its share of the room."""
        taken: list[tuple[_Call, list[Wanted]]] = []
        room = flight.room
        while room > 0:
            waiting = [
                (client, call) for client, calls in self._clients.items() if (call := self._matching(calls, flight))
            ]
            if not waiting:
                break
            others = any(
                call.pending and call.key() != flight.key for calls in self._clients.values() for call in calls
            )
            if others and flight.cohorts and self._clock() - flight.since > _TURN:
                break
            client, call = waiting[0]
            some = call.take(max(1, room // len(waiting)))
            call.started, call.served = True, self._clock()
            room -= len(some)
            taken.append((call, some))
            # Next time it is the last in turn; so is this request among the client's.
            calls = self._clients.pop(client)
            calls.remove(call)
            calls.append(call)
            self._clients[client] = calls
        return taken

    def _matching(self, calls: deque[_Call], flight: _Flight) -> _Call | None:
        return next((call for call in calls if call.pending and self._reads(call) and call.key() == flight.key), None)

    @staticmethod
    def _reads(call: _Call) -> bool:
        return bool(call.pending) and call.out.qsize() <= _UNREAD * call.bucket

    def _begin(self, flight: _Flight, call: _Call, wanted: list[Wanted]) -> None:
        try:
            flight.cohorts.append((Cohort(flight.generator, wanted, call.sampler), call))
        # Whatever it is, it belongs to this request's caller.
        except Exception as error:
            _fail([call], error)

    def _step(self, flight: _Flight) -> None:
        flight.cohorts = [(cohort, call) for cohort, call in flight.cohorts if not _gone(call)]
        if not flight.cohorts:
            return
        start, under_way = time.monotonic(), flight.cohorts
        try:
            step(flight.generator, [cohort for cohort, _ in under_way], bucket=flight.bucket)
            drawn = [(call, cohort.drawn(flight.bucket)) for cohort, call in under_way if cohort.finished]
        except Exception as error:
            log.error("a step failed", exc_info=None if isinstance(error, GenaugError) else error)
            _fail([call for _, call in under_way], error)
            flight.cohorts = []
            return
        flight.cohorts = [(cohort, call) for cohort, call in under_way if not cohort.finished]
        # Before the images: who has read the last one is told of all steps.
        for cohort, call in under_way:
            call.steps_done += _steps_done(cohort, cohort.position) - _steps_done(cohort, cohort.position - 1)
        for call, images in drawn:
            for image in images:
                call.out.put(image)
        count = sum(len(cohort) for cohort, _ in under_way)
        BATCH_IMAGES.labels("generation").observe(count)
        taken = (time.monotonic() - start) / count * max(cohort.steps for cohort, _ in under_way)
        self._seconds_per_image += 0.1 * (taken - self._seconds_per_image)

    def _refuse_all(self) -> None:
        for calls in self._clients.values():
            _fail(calls, Unavailable("the server is ending; try again", reason="CLOSING"))

    def _count(self) -> None:
        QUEUE_DEPTH.labels("generation").set(
            sum(len(call.pending) for calls in self._clients.values() for call in calls)
        )


def _steps_done(cohort: Cohort, position: int) -> int:
    """Work in all is counted in the sampler's steps, whatever the scheduler makes of them."""
    return round(len(cohort) * cohort.sampler.steps * position / cohort.steps)


def _gone(call: _Call) -> bool:
    return call.left or not call.active()


def _fail(calls: Sequence[_Call] | deque[_Call], error: Exception) -> None:
    """Tell callers of an error, once each, and forget what they still wanted."""
    if isinstance(error, torch.OutOfMemoryError):
        error = ResourceExhausted(
            "the device has too little memory for this image size and bucket; ask for smaller images",
            reason="DEVICE_FULL",
        )
    for call in {id(call): call for call in calls}.values():
        call.pending.clear()
        call.left = True
        call.out.put(error)
