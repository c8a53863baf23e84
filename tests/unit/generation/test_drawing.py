from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import Stores
from tests.servers import HANG_S, wait_until
from tests.unit.generation.conftest import World, put_adapter
from tests.unit.generation.test_draw import Painter

from genaug.generation.denoise import Rows
from genaug.generation.draw import draw
from genaug.generation.drawing import DrawingServer
from genaug.generation.generators.class_conditional import ClassConditional, build_network, new_config
from genaug.generation.receipts import Drawn, Sampler, Steps, Wanted
from genaug.shared.errors import (
    Cancelled,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from genaug.shared.settings import GenerationSettings
from genaug.vision.images import Pixels

FAST = Sampler(steps=2, guidance_scale=1)


class Slow(Painter):
    """A painter that waits in each of its steps until it is let go."""

    def __init__(self, name: str = "0") -> None:
        super().__init__()
        self.name = "generators/" + name * 32
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)
        self.log: list[str] = []
        self.begun_at: list[int] = []
        """Steps done before each beginning."""

    def begin(self, wanted: Sequence[Wanted], sampler: Sampler) -> Any:
        self.begun_at.append(len(self.asked))
        return super().begin(wanted, sampler)

    def predict(self, rows: Rows, sampler: Sampler) -> torch.Tensor:
        self.entered.release()
        assert self.open.wait(HANG_S)
        self.log.append(self.name[-1])
        return super().predict(rows, sampler)


Make = Callable[..., DrawingServer]


@pytest.fixture
def make(stores: Stores) -> Iterator[Make]:
    made: list[DrawingServer] = []

    def build(*, clock: Callable[[], float] = time.monotonic, **limits: Any) -> DrawingServer:
        limits = {"settings": GenerationSettings(**limits)}
        made.append(DrawingServer(stores("generation"), **limits, device="cpu", threads=1, clock=clock))
        return made[-1]

    yield build
    for server in made:
        server.close()
        server._thread.join(HANG_S)
        assert not server._thread.is_alive()


def wanted(count: int, *, name: str = "a", first: int = 0) -> list[Wanted]:
    return [Wanted(name, 0, first + index) for index in range(count)]


@dataclass
class Caller:
    """A request on a thread of its own."""

    server: DrawingServer
    generator: Any
    wanted: Sequence[Wanted]
    client: str = "one"
    sampler: Sampler = FAST
    active: Callable[[], bool] = lambda: True
    images: list[Drawn] = field(default_factory=list)
    steps: list[Steps] = field(default_factory=list)
    error: Exception | None = None

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            for event in self.server.draw(
                self.generator, self.wanted, sampler=self.sampler, client=self.client, active=self.active
            ):
                (self.steps if isinstance(event, Steps) else self.images).append(event)  # type: ignore[arg-type]
        except Exception as error:
            self.error = error

    def result(self) -> list[Drawn]:
        self.thread.join(HANG_S)
        assert not self.thread.is_alive(), "it hangs"
        if self.error:
            raise self.error
        return self.images


def waits(server: DrawingServer, requests: int) -> None:
    """Until so many requests are there."""
    wait_until(lambda: sum(map(len, server._clients.values())) >= requests, what="requests")


def test_images_come_in_order_with_steps_that_grow_to_their_total(make: Make) -> None:
    for count in (1, 4, 11):
        events = list(
            make().draw(Painter(), wanted(count), sampler=Sampler(steps=3), client="one", active=lambda: True)
        )
        images = [one for one in events if isinstance(one, Drawn)]
        told = [one for one in events if isinstance(one, Steps)]
        assert [one.wanted for one in images] == wanted(count)
        assert [one.done for one in told] == sorted(one.done for one in told)
        assert (told[-1].done, told[-1].total, told[-1].position) == (3 * count, 3 * count, 0)


@pytest.mark.parametrize("scheduler", ["HeunDiscreteScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler"])
def test_steps_are_the_samplers_whatever_its_scheduler_makes_of_them(make: Make, scheduler: str) -> None:
    sampler = Sampler(steps=5, scheduler=scheduler)
    events = list(make().draw(Painter(), wanted(3), sampler=sampler, client="one", active=lambda: True))
    told = [one.done for one in events if isinstance(one, Steps)]
    assert told == sorted(told)
    assert told[-1] == 15


@pytest.fixture(scope="module")
def small() -> ClassConditional:
    config = new_config(classes=["a", "b"], image_size=8, channels=1, base_channels=8)
    torch.manual_seed(0)
    return ClassConditional("generators/" + "1" * 32, config, build_network(config), device=torch.device("cpu"))


REQUESTS = st.lists(
    st.tuples(
        st.sampled_from("xyz"),
        st.sampled_from("ab"),
        st.integers(0, 3),
        st.integers(1, 9),
        st.integers(1, 3),
        st.sampled_from([1.0, 2.0]),
        st.sampled_from(["DPMSolverMultistepScheduler", "EulerAncestralDiscreteScheduler"]),
    ),
    min_size=2,
    max_size=5,
)


@given(REQUESTS)
@settings(max_examples=8)
def test_images_drawn_among_others_are_those_drawn_alone(make: Make, small: ClassConditional, asked: Any) -> None:
    server, callers = make(), []
    for client, name, first, count, steps, guidance, scheduler in asked:
        sampler = Sampler(steps=steps, guidance_scale=guidance, scheduler=scheduler)
        callers.append(Caller(server, small, wanted(count, name=name, first=first), client, sampler))
    for caller in callers:
        alone = draw(small, caller.wanted, sampler=caller.sampler, active=lambda: True)
        for one, other in zip(caller.result(), alone, strict=True):
            assert one.wanted == other.wanted
            assert np.array_equal(one.pixels, other.pixels)


def test_callers_of_two_adapters_on_one_base_get_what_they_would_alone(make: Make, stores: Stores, base: Path) -> None:
    server = make()
    generators = [server.load(put_adapter(stores, base, seed=seed)) for seed in (1, 2)]
    sampler = Sampler(steps=3, guidance_scale=3.0)
    asked = [("lies", 5), ("stands", 3), ("lies", 9), ("stands", 1)]
    callers = [
        Caller(server, generators[number % 2], wanted(count, name=name, first=number), f"{number}", sampler)
        for number, (name, count) in enumerate(asked)
    ]
    found = [caller.result() for caller in callers]
    for caller, images in zip(callers, found, strict=True):
        alone = list(draw(caller.generator, caller.wanted, sampler=sampler, active=lambda: True))
        assert len(images) == len(alone)
        assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(images, alone, strict=True))


def test_callers_share_rows(make: Make) -> None:
    server, painter = make(), Slow()
    first = Caller(server, painter, wanted(1))
    painter.entered.acquire()
    rest = [Caller(server, painter, wanted(1), client) for client in "abc"]
    waits(server, 3)
    painter.open.set()
    for caller in (first, *rest):
        assert len(caller.result()) == 1
    assert painter.begun == [[0]] * 4
    assert len(painter.asked) == 3, "the three begin beside the first one's last step, and need one more"


def test_who_comes_late_begins_beside_those_under_way(make: Make) -> None:
    """Continuous: nobody waits until others have finished where there is room."""
    server, painter = make(), Slow()
    long = Caller(server, painter, wanted(2), sampler=Sampler(steps=50, guidance_scale=1))
    painter.entered.acquire()
    short = Caller(server, painter, wanted(1), "two")
    waits(server, 1)
    painter.open.set()
    assert len(short.result()) == 1
    assert len(long.result()) == 2
    assert len(painter.asked) == 50, "the short one shared steps of the long one"
    assert painter.begun_at == [0, 1], "after the first of its steps"


@pytest.mark.parametrize("how", ["inactive", "closed", "raises"])
def test_a_caller_who_leaves_frees_the_device_within_a_step(make: Make, how: str) -> None:
    server, painter = make(), Slow()
    left = threading.Event()
    events = server.draw(
        painter,
        wanted(100),
        sampler=Sampler(steps=1000, guidance_scale=1),
        client="one",
        active=lambda: not left.is_set(),
    )
    painter.open.set()
    next(events)
    if how == "inactive":
        left.set()
        with pytest.raises(Cancelled):
            list(events)
    elif how == "closed":
        events.close()  # type: ignore[attr-defined]
    else:
        with pytest.raises(ZeroDivisionError):
            events.throw(ZeroDivisionError())  # type: ignore[attr-defined]
    taken = len(painter.asked)
    assert len(Caller(server, painter, wanted(1), "two").result()) == 1
    assert len(painter.asked) <= taken + 1 + FAST.steps, "one step was under way"


def test_what_was_finished_reaches_a_caller_who_is_cancelled(make: Make) -> None:
    server, painter = make(), Slow()
    left = threading.Event()
    events = server.draw(painter, wanted(40), sampler=FAST, client="one", active=lambda: not left.is_set())
    painter.open.set()
    images: list[Drawn] = []

    def read() -> None:
        for event in events:
            if isinstance(event, Drawn):
                images.append(event)
                left.set()

    with pytest.raises(Cancelled):
        read()
    assert len(images) >= 4, "its first bucket was finished together"


def test_one_with_many_images_does_not_keep_out_those_with_one(make: Make) -> None:
    server, painter = make(), Slow()
    painter.bucket = 8
    many = Caller(server, painter, wanted(200), "many")
    painter.entered.acquire()
    few = [Caller(server, painter, wanted(1, first=1000 + number), f"few {number}") for number in range(5)]
    waits(server, 6)
    painter.open.set()
    for caller in few:
        assert len(caller.result()) == 1
    assert len(many.result()) == 200
    begun = [index for some in painter.begun for index in some]
    assert sorted(index for index in begun[8:16] if index >= 1000) == list(range(1000, 1005)), "in the next bucket"


def test_clients_have_turns_not_requests(make: Make) -> None:
    server, painter = make(), Slow()
    first = Caller(server, painter, wanted(4), "greedy")
    painter.entered.acquire()
    greedy = []
    for _ in range(10):
        greedy.append(Caller(server, painter, wanted(4), "greedy"))
        waits(server, len(greedy))
    modest = Caller(server, painter, wanted(4, first=100), "modest")
    waits(server, 11)
    painter.open.set()
    modest.result()
    for caller in (first, *greedy):
        caller.result()
    order = [indices[0] >= 100 for indices in painter.begun]
    drawn_before = sum(len(one) for one in painter.begun[: len(order) - 1 - order[::-1].index(True)])
    assert drawn_before <= 4 + 8, "half of the room is the modest one's, however many requests stand before it"


def test_a_slow_reader_holds_up_nobody_else_and_fills_no_memory(make: Make) -> None:
    server, painter = make(), Slow()
    painter.open.set()
    slow = server.draw(painter, wanted(100), sampler=FAST, client="slow", active=lambda: True)
    # The reader of the first call has gone for coffee.
    next(slow)
    for _ in range(20):
        assert len(Caller(server, painter, wanted(5), "quick").result()) == 5
    begun = sum(len(one) for one in painter.begun) - 20 * 5
    assert begun <= 4 * painter.bucket
    assert len([one for one in slow if isinstance(one, Drawn)]) == 100


@pytest.fixture
def _unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast callers read, which depends on the machine, decides nothing."""
    monkeypatch.setattr("genaug.generation.drawing._UNREAD", 1000)


@pytest.mark.usefixtures("_unread")
def test_two_generators_take_turns(make: Make) -> None:
    server, one, other = make(clock=itertools.count(0, 60).__next__), Slow("1"), Slow("2")
    one.log = other.log = log = []
    callers = [Caller(server, one, wanted(40), "one"), Caller(server, other, wanted(40), "two")]
    wait_until(lambda: one.entered.acquire(blocking=False) or other.entered.acquire(blocking=False), what="a step")
    waits(server, 2)
    one.open.set()
    other.open.set()
    for caller in callers:
        assert len(caller.result()) == 40
    assert "".join(log) in ("1122" * 10, "2211" * 10), "a bucket of two steps each"


@pytest.mark.usefixtures("_unread")
def test_a_third_generator_is_not_kept_waiting_by_two_with_many_images(make: Make) -> None:
    server, painters = make(clock=itertools.count(0, 60).__next__), [Slow(name) for name in "123"]
    log: list[str] = []
    for painter in painters:
        painter.log = log
    callers = [
        Caller(server, painter, wanted(images), painter.name)
        # Of more than one bucket each: whichever begins first, some of it waits with the others.
        for painter, images in zip(painters, (80, 80, 8), strict=True)
    ]
    wait_until(lambda: any(painter.entered.acquire(blocking=False) for painter in painters), what="a step")
    waits(server, 3)
    for painter in painters:
        painter.open.set()
    assert [len(caller.result()) for caller in callers] == [80, 80, 8]
    assert "3" in "".join(log)[:20], "while the others have most of theirs before them"


@pytest.mark.usefixtures("_unread")
def test_a_generator_keeps_the_device_for_its_turn(make: Make) -> None:
    """Weights are not exchanged after each bucket."""
    server, one, other = make(clock=lambda: 0.0), Slow("1"), Slow("2")
    one.log = other.log = log = []
    first = Caller(server, one, wanted(40), "one")
    one.entered.acquire()
    second = Caller(server, other, wanted(40), "two")
    waits(server, 2)
    one.open.set()
    other.open.set()
    first.result()
    second.result()
    assert "".join(log) == "1" * 20 + "2" * 20


class Failing(Slow):
    """Fails where it is told to."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.open.set()
        self.where = where

    def begin(self, wanted: Sequence[Wanted], sampler: Sampler) -> Any:
        self._fail("begin", wanted[0].index)
        return super().begin(wanted, sampler)

    def predict(self, rows: Rows, sampler: Sampler) -> torch.Tensor:
        self._fail("predict", 99)
        return super().predict(rows, sampler)

    def pixels(self, samples: torch.Tensor, sampler: Sampler) -> list[Pixels]:
        self._fail("pixels", 99)
        return super().pixels(samples, sampler)

    def _fail(self, where: str, index: int) -> None:
        if where == self.where and index == 99:
            raise FailedPrecondition("broken", reason="BROKEN_GENERATOR")


@pytest.mark.parametrize("where", ["begin", "predict", "pixels"])
def test_an_error_reaches_its_caller_and_the_thread_lives_on(make: Make, where: str) -> None:
    server, failing = make(), Failing(where)
    with pytest.raises(FailedPrecondition, match="broken"):
        Caller(server, failing, wanted(6, first=99)).result()
    assert len(Caller(server, Painter(), wanted(3)).result()) == 3


def test_an_error_of_one_caller_touches_nobody_else(make: Make) -> None:
    server, painter = make(), Failing("begin")
    painter.open.clear()
    first = Caller(server, painter, wanted(1), "first")
    painter.entered.acquire()
    bad = Caller(server, painter, wanted(2, first=99), "bad")
    waits(server, 1)
    good = Caller(server, painter, wanted(2), "good")
    waits(server, 2)
    painter.open.set()
    with pytest.raises(FailedPrecondition):
        bad.result()
    assert len(good.result()) == 2
    assert len(first.result()) == 1


def test_too_little_memory_says_what_to_do(make: Make) -> None:
    class Full(Painter):
        def predict(self, rows: Rows, sampler: Sampler) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ResourceExhausted, match="smaller images") as caught:
        Caller(make(), Full(), wanted(2)).result()
    assert caught.value.reason == "DEVICE_FULL"


def test_a_full_queue_refuses_and_says_when_to_come_back(make: Make) -> None:
    server, painter = make(queue=3), Slow()
    first = Caller(server, painter, wanted(4))
    painter.entered.acquire()
    waiting = [Caller(server, painter, wanted(4), client) for client in "abc"]
    waits(server, 3)
    with pytest.raises(ResourceExhausted) as caught:
        Caller(server, painter, wanted(1), "late").result()
    assert caught.value.reason == "BUSY"
    assert float(caught.value.metadata["retry_seconds"]) >= 1
    painter.open.set()
    assert [len(caller.result()) for caller in (first, *waiting)] == [4] * 4
    assert len(Caller(server, painter, wanted(1), "late").result()) == 1


def test_those_who_wait_see_the_queue_shrink(make: Make) -> None:
    server, painter = make(), Slow()
    callers = [Caller(server, painter, wanted(4), "0")]
    painter.entered.acquire()
    for number in range(1, 4):
        callers.append(Caller(server, painter, wanted(4), f"{number}"))
        waits(server, number)
    wait_until(lambda: len(callers[3].steps) > 0, what="word of the queue")
    assert callers[3].steps[0].position == 2
    painter.open.set()
    for caller in callers:
        caller.result()
        positions = [one.position for one in caller.steps]
        assert positions == sorted(positions, reverse=True)
        assert positions[-1] == 0


def test_closing_finishes_what_is_drawn_and_refuses_the_rest(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genaug.generation.drawing._FAREWELL", 0)
    server, painter = make(), Slow()
    drawing = Caller(server, painter, wanted(4), "one")
    painter.entered.acquire()
    waiting = Caller(server, painter, wanted(4), "two")
    waits(server, 1)
    server.close()
    with pytest.raises(Unavailable):
        Caller(server, painter, wanted(1), "three").result()
    painter.open.set()
    assert len(drawing.result()) == 4
    with pytest.raises(Unavailable):
        waiting.result()
    assert painter.begun == [[0, 1, 2, 3]]


def test_closing_an_idle_server_ends_its_thread(make: Make) -> None:
    server = make()
    server.close()
    server._thread.join(HANG_S)
    assert not server._thread.is_alive()


@pytest.mark.parametrize("bucket", [-1, 2000])
def test_a_shape_that_is_none_of_ours_is_refused(make: Make, bucket: int) -> None:
    events = make().draw(Painter(), wanted(1), sampler=FAST, client="one", active=lambda: True, bucket=bucket)
    with pytest.raises(InvalidArgument, match=r"receipt\.bucket"):
        next(events)


def test_a_receipt_may_ask_for_its_own_shape(make: Make) -> None:
    painter = Painter()
    events = make().draw(painter, wanted(3), sampler=FAST, client="one", active=lambda: True, bucket=16)
    assert {one.bucket for one in events if isinstance(one, Drawn)} == {16}
    assert painter.asked == [16, 16]


def test_a_generator_is_loaded_once_and_one_that_is_not_there_is_the_askers_error(make: Make, world: World) -> None:
    server, name = make(), world.finetune(kind="KIND_TRANSFORMS")
    with pytest.raises(NotFound):
        server.load("generators/" + "0" * 32)
    with ThreadPoolExecutor(4) as callers:
        assert len({id(one) for one in callers.map(server.load, [name] * 4)}) == 1


def test_an_unknown_kind_is_refused(make: Make, stores: Stores) -> None:
    store, name = stores("finetune"), "generators/" + "0" * 32
    facts = {"classes": ["a"], "image_size": 8, "channels": 1}
    store.put_new(f"{name}/model.safetensors", b"")
    store.put_new_json(f"{name}/config.json", {**facts, "kind": "KIND_OF_TOMORROW"})
    store.put_new_json(f"{name}/generator.json", facts)
    with pytest.raises(FailedPrecondition, match="KIND_OF_TOMORROW"):
        make().load(name)


def test_a_device_that_is_not_there_is_refused(stores: Stores) -> None:
    with pytest.raises(FailedPrecondition, match="device"):
        DrawingServer(stores("generation"), GenerationSettings(), device="cuda:99")


def test_transforms_do_not_wait_for_the_device(make: Make, world: World) -> None:
    server, painter = make(), Slow()
    drawing = Caller(server, painter, wanted(1))
    painter.entered.acquire()
    transforms = server.load(world.finetune(kind="KIND_TRANSFORMS"))
    assert len(Caller(server, transforms, wanted(3, name="lies")).result()) == 3
    painter.open.set()
    drawing.result()
