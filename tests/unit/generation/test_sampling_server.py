from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from tests.unit.generation.test_draw import FakeDenoiser

from genaug.generation.diffusion.denoise import Rows
from genaug.generation.generators.class_conditional.generator import ClassConditional, build_network, new_config
from genaug.generation.sampling.draw import draw
from genaug.generation.sampling.receipts import DrawnImage, DrawProgress, ImageRequest
from genaug.generation.sampling.sampling_server import SamplingServer
from genaug.schema.generators import ClassConditionalSpec, Generator
from genaug.schema.sampling import Sampler
from genaug.shared.errors import (
    Cancelled,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from genaug.shared.settings import GenerationSettings
from genaug.vision.images.pixels import Pixels

FAST = Sampler(steps=2, guidance_scale=1)


class Gated(FakeDenoiser):
    """A denoiser that waits in each step until `open` is set."""

    def __init__(self, name: str = "0") -> None:
        super().__init__()
        self.name = "generators/" + name * 32
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)
        self.log: list[str] = []
        self.begun_at: list[int] = []
        """Steps done before each cohort began."""

    def begin(self, requests: Sequence[ImageRequest], sampler: Sampler) -> Any:
        self.begun_at.append(len(self.batch_sizes))
        return super().begin(requests, sampler)

    def predict(self, rows: Rows, sampler: Sampler) -> torch.Tensor:
        self.entered.release()
        assert self.open.wait(HANG_S)
        self.log.append(self.name[-1])
        return super().predict(rows, sampler)


Make = Callable[..., SamplingServer]


@pytest.fixture
def make(stores: Stores) -> Iterator[Make]:
    servers: list[SamplingServer] = []

    def build(*, clock: Callable[[], float] = time.monotonic, **limits: Any) -> SamplingServer:
        limited = GenerationSettings(**limits)
        servers.append(SamplingServer(stores("generation"), limited, device="cpu", threads=1, clock=clock))
        return servers[-1]

    yield build
    for server in servers:
        server.close()
        server._thread.join(HANG_S)
        assert not server._thread.is_alive()


def requests(count: int, *, name: str = "a", first: int = 0) -> list[ImageRequest]:
    return [ImageRequest(name, 0, first + index) for index in range(count)]


@dataclass
class Caller:
    """A request on a thread of its own."""

    server: SamplingServer
    generator: Any
    requests: Sequence[ImageRequest]
    client: str = "one"
    sampler: Sampler = FAST
    is_active: Callable[[], bool] = lambda: True
    images: list[DrawnImage] = field(default_factory=list)
    progress: list[DrawProgress] = field(default_factory=list)
    error: Exception | None = None

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            for event in self.server.draw(
                self.generator, self.requests, sampler=self.sampler, client=self.client, is_active=self.is_active
            ):
                (self.progress if isinstance(event, DrawProgress) else self.images).append(event)  # type: ignore[arg-type]
        except Exception as error:
            self.error = error

    def result(self) -> list[DrawnImage]:
        self.thread.join(HANG_S)
        assert not self.thread.is_alive(), "it hangs"
        if self.error:
            raise self.error
        return self.images


def wait_for_calls(server: SamplingServer, count: int) -> None:
    """Wait until `count` calls are queued."""
    wait_until(lambda: sum(map(len, server._clients.values())) >= count, what="requests")


def test_images_come_in_order_with_steps_that_grow_to_their_total(make: Make) -> None:
    for count in (1, 4, 11):
        events = list(
            make().draw(FakeDenoiser(), requests(count), sampler=Sampler(steps=3), client="one", is_active=lambda: True)
        )
        steps = [event.steps for event in events if isinstance(event, DrawProgress)]
        assert [event.request for event in events if isinstance(event, DrawnImage)] == requests(count)
        assert steps == sorted(steps)
        last = [event for event in events if isinstance(event, DrawProgress)][-1]
        assert last == DrawProgress(3 * count, 3 * count, 0)


@pytest.mark.parametrize("scheduler", ["HeunDiscreteScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler"])
def test_progress_counts_the_samplers_steps_with_any_scheduler(make: Make, scheduler: str) -> None:
    sampler = Sampler(steps=5, scheduler=scheduler)
    events = list(make().draw(FakeDenoiser(), requests(3), sampler=sampler, client="one", is_active=lambda: True))
    steps = [event.steps for event in events if isinstance(event, DrawProgress)]
    assert steps == sorted(steps)
    assert steps[-1] == 15


@pytest.fixture(scope="module")
def small() -> ClassConditional:
    settings = ClassConditionalSpec(base_channels=8).completed(8)
    config = new_config(settings, classes=["a", "b"], image_size=8, channels=1)
    torch.manual_seed(0)
    return ClassConditional("generators/" + "1" * 32, config, build_network(config), device=torch.device("cpu"))


CALLS = st.lists(
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


def assert_equal(images: Iterable[DrawnImage], expected: Iterable[DrawnImage]) -> None:
    for image, other in zip(images, expected, strict=True):
        assert image.request == other.request
        assert np.array_equal(image.pixels, other.pixels)


@given(CALLS)
@settings(max_examples=8)
def test_images_drawn_among_others_equal_those_drawn_alone(make: Make, small: ClassConditional, calls: Any) -> None:
    server, callers = make(), []
    for client, name, first, count, steps, guidance, scheduler in calls:
        sampler = Sampler(steps=steps, guidance_scale=guidance, scheduler=scheduler)
        callers.append(Caller(server, small, requests(count, name=name, first=first), client, sampler))
    for caller in callers:
        alone = draw(small, caller.requests, sampler=caller.sampler, is_active=lambda: True)
        assert_equal(caller.result(), alone)


def test_images_of_two_adapters_on_one_base_equal_those_drawn_alone(make: Make, stores: Stores, base: Path) -> None:
    server = make()
    generators = [server.load(put_adapter(stores, base, seed=seed)) for seed in (1, 2)]
    sampler = Sampler(steps=3, guidance_scale=3.0)
    calls = [("lies", 5), ("stands", 3), ("lies", 9), ("stands", 1)]
    callers = [
        Caller(server, generators[number % 2], requests(count, name=name, first=number), f"{number}", sampler)
        for number, (name, count) in enumerate(calls)
    ]
    results = [caller.result() for caller in callers]
    for caller, images in zip(callers, results, strict=True):
        assert_equal(images, draw(caller.generator, caller.requests, sampler=sampler, is_active=lambda: True))


def test_callers_share_batches(make: Make) -> None:
    server, denoiser = make(), Gated()
    first = Caller(server, denoiser, requests(1))
    denoiser.entered.acquire()
    rest = [Caller(server, denoiser, requests(1), client) for client in "abc"]
    wait_for_calls(server, 3)
    denoiser.open.set()
    for caller in (first, *rest):
        assert len(caller.result()) == 1
    assert denoiser.begun == [[0]] * 4
    assert len(denoiser.batch_sizes) == 3, "the three begin beside the first one's last step, and need one more"


def test_a_late_call_joins_the_active_batch(make: Make) -> None:
    """Continuous batching: with room in the batch, no call waits until another has finished."""
    server, denoiser = make(), Gated()
    long = Caller(server, denoiser, requests(2), sampler=Sampler(steps=50, guidance_scale=1))
    denoiser.entered.acquire()
    short = Caller(server, denoiser, requests(1), "two")
    wait_for_calls(server, 1)
    denoiser.open.set()
    assert len(short.result()) == 1
    assert len(long.result()) == 2
    assert len(denoiser.batch_sizes) == 50, "the short call shared steps of the long one"
    assert denoiser.begun_at == [0, 1], "after the long one's first step"


@pytest.mark.parametrize("how", ["inactive", "closed", "raises"])
def test_a_caller_that_leaves_frees_the_device_within_a_step(make: Make, how: str) -> None:
    server, denoiser = make(), Gated()
    is_gone = threading.Event()
    events = server.draw(
        denoiser,
        requests(100),
        sampler=Sampler(steps=1000, guidance_scale=1),
        client="one",
        is_active=lambda: not is_gone.is_set(),
    )
    denoiser.open.set()
    next(events)
    if how == "inactive":
        is_gone.set()
        with pytest.raises(Cancelled):
            list(events)
    elif how == "closed":
        events.close()  # type: ignore[attr-defined]
    else:
        with pytest.raises(ZeroDivisionError):
            events.throw(ZeroDivisionError())  # type: ignore[attr-defined]
    steps = len(denoiser.batch_sizes)
    assert len(Caller(server, denoiser, requests(1), "two").result()) == 1
    assert len(denoiser.batch_sizes) <= steps + 1 + FAST.steps, "one step was under way"


def test_finished_images_reach_a_caller_that_is_cancelled(make: Make) -> None:
    server, denoiser = make(), Gated()
    is_gone = threading.Event()
    events = server.draw(denoiser, requests(40), sampler=FAST, client="one", is_active=lambda: not is_gone.is_set())
    denoiser.open.set()
    images: list[DrawnImage] = []

    def read() -> None:
        for event in events:
            if isinstance(event, DrawnImage):
                images.append(event)
                is_gone.set()

    with pytest.raises(Cancelled):
        read()
    assert len(images) >= 4, "its first bucket was finished together"


def test_a_call_of_many_images_does_not_keep_out_small_ones(make: Make) -> None:
    server, denoiser = make(), Gated()
    denoiser.bucket = 8
    many = Caller(server, denoiser, requests(200), "many")
    denoiser.entered.acquire()
    few = [Caller(server, denoiser, requests(1, first=1000 + number), f"few {number}") for number in range(5)]
    wait_for_calls(server, 6)
    denoiser.open.set()
    for caller in few:
        assert len(caller.result()) == 1
    assert len(many.result()) == 200
    begun = [index for cohort in denoiser.begun for index in cohort]
    assert sorted(index for index in begun[8:16] if index >= 1000) == list(range(1000, 1005)), "in the next bucket"


def test_turns_go_to_clients_not_to_requests(make: Make) -> None:
    server, denoiser = make(), Gated()
    first = Caller(server, denoiser, requests(4), "greedy")
    denoiser.entered.acquire()
    greedy = []
    for _ in range(10):
        greedy.append(Caller(server, denoiser, requests(4), "greedy"))
        wait_for_calls(server, len(greedy))
    modest = Caller(server, denoiser, requests(4, first=100), "modest")
    wait_for_calls(server, 11)
    denoiser.open.set()
    modest.result()
    for caller in (first, *greedy):
        caller.result()
    order = [indices[0] >= 100 for indices in denoiser.begun]
    drawn_before = sum(len(cohort) for cohort in denoiser.begun[: len(order) - 1 - order[::-1].index(True)])
    assert drawn_before <= 4 + 8, "half of the room is the modest client's, however many requests came before its own"


def test_a_slow_reader_delays_no_other_caller_and_fills_no_memory(make: Make) -> None:
    server, denoiser = make(), Gated()
    denoiser.open.set()
    slow = server.draw(denoiser, requests(100), sampler=FAST, client="slow", is_active=lambda: True)
    next(slow)
    for _ in range(20):
        assert len(Caller(server, denoiser, requests(5), "quick").result()) == 5
    begun = sum(map(len, denoiser.begun)) - 20 * 5
    assert begun <= 4 * denoiser.bucket
    assert sum(isinstance(event, DrawnImage) for event in slow) == 100


@pytest.fixture
def _unlimited_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns do not depend on how fast callers read, which depends on the machine."""
    monkeypatch.setattr("genaug.generation.sampling.sampling_server._MAX_UNREAD", 1000)


def overdue() -> Callable[[], float]:
    """A clock on which every turn is over at once."""
    return itertools.count(0, 60).__next__


@pytest.mark.usefixtures("_unlimited_reading")
def test_two_generators_take_turns(make: Make) -> None:
    server, one, other = make(clock=overdue()), Gated("1"), Gated("2")
    one.log = other.log = log = []
    callers = [Caller(server, one, requests(40), "one"), Caller(server, other, requests(40), "two")]
    wait_until(lambda: one.entered.acquire(blocking=False) or other.entered.acquire(blocking=False), what="a step")
    wait_for_calls(server, 2)
    one.open.set()
    other.open.set()
    for caller in callers:
        assert len(caller.result()) == 40
    assert "".join(log) in ("1122" * 10, "2211" * 10), "a bucket of two steps each"


@pytest.mark.usefixtures("_unlimited_reading")
def test_a_third_generator_is_not_starved_by_two_with_many_images(make: Make) -> None:
    server, denoisers = make(clock=overdue()), [Gated(name) for name in "123"]
    log: list[str] = []
    for denoiser in denoisers:
        denoiser.log = log
    callers = [
        Caller(server, denoiser, requests(images), denoiser.name)
        # More than one bucket each: whichever begins first, some of its images wait with the others'.
        for denoiser, images in zip(denoisers, (80, 80, 8), strict=True)
    ]
    wait_until(lambda: any(denoiser.entered.acquire(blocking=False) for denoiser in denoisers), what="a step")
    wait_for_calls(server, 3)
    for denoiser in denoisers:
        denoiser.open.set()
    assert [len(caller.result()) for caller in callers] == [80, 80, 8]
    assert "3" in "".join(log)[:20], "while most images of the others wait"


@pytest.mark.usefixtures("_unlimited_reading")
def test_a_generator_keeps_the_device_for_its_turn(make: Make) -> None:
    """Weights are not changed after each bucket."""
    server, one, other = make(clock=lambda: 0.0), Gated("1"), Gated("2")
    one.log = other.log = log = []
    first = Caller(server, one, requests(40), "one")
    one.entered.acquire()
    second = Caller(server, other, requests(40), "two")
    wait_for_calls(server, 2)
    one.open.set()
    other.open.set()
    first.result()
    second.result()
    assert "".join(log) == "1" * 20 + "2" * 20


class Failing(Gated):
    """Fails in one method, for index 99."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.open.set()
        self.where = where

    def begin(self, requests: Sequence[ImageRequest], sampler: Sampler) -> Any:
        self._fail("begin", requests[0].index)
        return super().begin(requests, sampler)

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
        Caller(server, failing, requests(6, first=99)).result()
    assert len(Caller(server, FakeDenoiser(), requests(3)).result()) == 3


def test_an_error_of_one_caller_reaches_no_other(make: Make) -> None:
    server, denoiser = make(), Failing("begin")
    denoiser.open.clear()
    first = Caller(server, denoiser, requests(1), "first")
    denoiser.entered.acquire()
    bad = Caller(server, denoiser, requests(2, first=99), "bad")
    wait_for_calls(server, 1)
    good = Caller(server, denoiser, requests(2), "good")
    wait_for_calls(server, 2)
    denoiser.open.set()
    with pytest.raises(FailedPrecondition):
        bad.result()
    assert len(good.result()) == 2
    assert len(first.result()) == 1


def test_too_little_memory_says_what_to_do(make: Make) -> None:
    class Full(FakeDenoiser):
        def predict(self, rows: Rows, sampler: Sampler) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ResourceExhausted, match="smaller images") as caught:
        Caller(make(), Full(), requests(2)).result()
    assert caught.value.reason == "DEVICE_FULL"


def test_a_full_queue_refuses_and_says_when_to_come_back(make: Make) -> None:
    server, denoiser = make(queue=3), Gated()
    first = Caller(server, denoiser, requests(4))
    denoiser.entered.acquire()
    waiting = [Caller(server, denoiser, requests(4), client) for client in "abc"]
    wait_for_calls(server, 3)
    with pytest.raises(ResourceExhausted) as caught:
        Caller(server, denoiser, requests(1), "late").result()
    assert caught.value.reason == "BUSY"
    assert float(caught.value.metadata["retry_seconds"]) >= 1
    denoiser.open.set()
    assert [len(caller.result()) for caller in (first, *waiting)] == [4] * 4
    assert len(Caller(server, denoiser, requests(1), "late").result()) == 1


def test_waiting_callers_see_the_queue_shrink(make: Make) -> None:
    server, denoiser = make(), Gated()
    callers = [Caller(server, denoiser, requests(4), "0")]
    denoiser.entered.acquire()
    for number in range(1, 4):
        callers.append(Caller(server, denoiser, requests(4), f"{number}"))
        wait_for_calls(server, number)
    wait_until(lambda: len(callers[3].progress) > 0, what="progress")
    assert callers[3].progress[0].queue_position == 2
    denoiser.open.set()
    for caller in callers:
        caller.result()
        positions = [progress.queue_position for progress in caller.progress]
        assert positions == sorted(positions, reverse=True)
        assert positions[-1] == 0


def test_closing_finishes_active_images_and_refuses_waiting_ones(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genaug.generation.sampling.sampling_server._CLOSE_TIMEOUT", 0)
    server, denoiser = make(), Gated()
    drawing = Caller(server, denoiser, requests(4), "one")
    denoiser.entered.acquire()
    waiting = Caller(server, denoiser, requests(4), "two")
    wait_for_calls(server, 1)
    server.close()
    with pytest.raises(Unavailable):
        Caller(server, denoiser, requests(1), "three").result()
    denoiser.open.set()
    assert len(drawing.result()) == 4
    with pytest.raises(Unavailable):
        waiting.result()
    assert denoiser.begun == [[0, 1, 2, 3]]


def test_closing_an_idle_server_ends_its_thread(make: Make) -> None:
    server = make()
    server.close()
    server._thread.join(HANG_S)
    assert not server._thread.is_alive()


@pytest.mark.parametrize("bucket", [-1, 2000])
def test_a_bucket_out_of_range_is_refused(make: Make, bucket: int) -> None:
    events = make().draw(FakeDenoiser(), requests(1), sampler=FAST, client="one", is_active=lambda: True, bucket=bucket)
    with pytest.raises(InvalidArgument, match=r"receipt\.bucket"):
        next(events)


def test_a_receipts_bucket_replaces_the_generators(make: Make) -> None:
    denoiser = FakeDenoiser()
    events = make().draw(denoiser, requests(3), sampler=FAST, client="one", is_active=lambda: True, bucket=16)
    assert {event.bucket for event in events if isinstance(event, DrawnImage)} == {16}
    assert denoiser.batch_sizes == [16, 16]


def test_a_generator_is_loaded_once_and_a_missing_one_is_refused(make: Make, world: World) -> None:
    server, name = make(), world.finetune(kind="transforms")
    with pytest.raises(NotFound):
        server.load("generators/" + "0" * 32)
    with ThreadPoolExecutor(4) as callers:
        assert len({id(generator) for generator in callers.map(server.load, [name] * 4)}) == 1


def test_an_unknown_kind_is_refused(make: Make, stores: Stores) -> None:
    store, name = stores("finetune"), "generators/" + "0" * 32
    config = {"kind": "KIND_OF_TOMORROW", "classes": ["a"], "image_size": 8, "channels": 1}
    store.put_new(f"{name}/model.safetensors", b"")
    store.put_new_json(f"{name}/config.json", config)
    store.put_new_json(f"{name}/generator.json", Generator.model_validate(config | {"name": name}).json_value())
    with pytest.raises(FailedPrecondition, match="KIND_OF_TOMORROW"):
        make().load(name)


def test_a_missing_device_is_refused(stores: Stores) -> None:
    with pytest.raises(FailedPrecondition, match="device"):
        SamplingServer(stores("generation"), GenerationSettings(), device="cuda:99")


def test_transforms_do_not_wait_for_the_device(make: Make, world: World) -> None:
    server, denoiser = make(), Gated()
    drawing = Caller(server, denoiser, requests(1))
    denoiser.entered.acquire()
    transforms = server.load(world.finetune(kind="transforms"))
    assert len(Caller(server, transforms, requests(3, name="lies")).result()) == 3
    denoiser.open.set()
    drawing.result()
