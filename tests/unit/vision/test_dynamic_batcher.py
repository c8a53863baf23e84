from __future__ import annotations

import dataclasses
import io
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.servers import HANG_S, wait_until
from tests.shapes import SMALL, shape

from genaug.schema.common import Precision
from genaug.schema.datasets import Window
from genaug.shared.errors import Cancelled, FailedPrecondition, ResourceExhausted, Unavailable
from genaug.shared.settings import InferenceSettings
from genaug.vision.batching.dynamic_batcher import DynamicBatcher, ImageResult, ModelKey
from genaug.vision.features.image_encoder import LocalEncoder, OrderedResults, to_shard
from genaug.vision.images.pixels import encode_png
from genaug.vision.models.classifiers import TrainedClassifier
from genaug.vision.models.networks import build_network

MODEL = ModelKey("classifiers/" + "a" * 32, Precision.FLOAT32)
OTHER = ModelKey("classifiers/" + "b" * 32, Precision.FLOAT32)


def classifier(seed: int = 0) -> TrainedClassifier:
    network = build_network(SMALL, channels=1, classes=3, seed=seed)
    return TrainedClassifier(("a", "b", "c"), network, temperature=1.5, name=MODEL.name)


def images(count: int) -> list[bytes]:
    return [encode_png(shape("lies", seed=number)) for number in range(count)]


class Gate:
    """A classifier that waits in each batch until the gate opens, and records their sizes."""

    def __init__(self) -> None:
        self.model = classifier()
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)
        self.batches: list[int] = []
        network = self.model.network
        self.extract_features, network.extract_features = network.extract_features, self._gated  # type: ignore[method-assign]

    def _gated(self, pixels: np.ndarray) -> np.ndarray:
        self.batches.append(len(pixels))
        self.entered.release()
        assert self.open.wait(HANG_S)
        return self.extract_features(pixels)


@pytest.fixture
def make() -> Iterator[object]:
    made: list[DynamicBatcher] = []

    def build(load=lambda _: classifier(), **limits) -> DynamicBatcher:
        made.append(DynamicBatcher(load, InferenceSettings(**limits), name="test"))
        return made[-1]

    yield build
    for server in made:
        server.close()


def test_answers_are_the_classifiers_own(make) -> None:
    server, data = make(max_batch=4), images(11)
    found = [server.submit(MODEL, one).result() for one in data]
    expected = classifier().predict(np.stack([shape("lies", seed=number) for number in range(11)]))
    np.testing.assert_array_equal(np.stack([one.probabilities for one in found]), expected)
    assert {one.status for one in found} == {"OK"}


def test_deep_images_are_rendered_by_the_classifiers_window(make) -> None:
    """A PNG with 12 of 16 bits per value, as clients send it."""
    grey = shape("lies", seed=1)[:, :, 0]
    sink = io.BytesIO()
    Image.fromarray(np.rint(grey / 255 * 4095).astype(np.uint16)).save(sink, "PNG")
    windowed = dataclasses.replace(classifier(), window=Window(low=0, high=4095))
    deep = make(load=lambda _: windowed).submit(MODEL, sink.getvalue()).result()
    plain = make().submit(MODEL, encode_png(grey[:, :, None])).result()
    np.testing.assert_array_equal(deep.probabilities, plain.probabilities)
    refused = make().submit(MODEL, sink.getvalue()).result()
    assert refused.status == "UNREADABLE"
    assert "more than 8 bits" in refused.message


def test_several_frames_have_a_status(make) -> None:
    sink = io.BytesIO()
    frames = [Image.new("L", (8, 8), value) for value in (1, 200)]
    frames[0].save(sink, "TIFF", save_all=True, append_images=frames[1:])
    assert make().submit(MODEL, sink.getvalue()).result().status == "SEVERAL_FRAMES"


def test_an_answer_does_not_depend_on_who_shares_the_batch(make) -> None:
    data = images(8)
    full, single = make(max_batch=8, max_delay_s=10), make(max_batch=1)
    together = [future.result() for future in [full.submit(MODEL, one) for one in data]]
    alone = [single.submit(MODEL, one).result() for one in data]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.features, other.features)
        np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_callers_share_batches(make) -> None:
    gate = Gate()
    server = make(lambda _: gate.model, max_batch=16, max_delay_s=0.01)
    first = server.submit(MODEL, images(1)[0])
    gate.entered.acquire()
    with ThreadPoolExecutor(8) as callers:
        rest = [future.result() for future in [callers.submit(server.submit, MODEL, one) for one in images(8)]]
        wait_until(lambda: sum(map(len, server._ready.values())) == 8, what="images")
        gate.open.set()
        assert all(one.result().status == "OK" for one in [first, *rest])
    assert gate.batches == [1, 8]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", "UNREADABLE"),
        (images(1)[0][:60], "UNREADABLE"),
        (encode_png(np.full((8, 8, 1), 7, np.uint8)), "CONSTANT"),
        (encode_png(np.zeros((2, 8, 1), np.uint8)), "TOO_SMALL"),
    ],
)
def test_a_bad_image_spoils_no_neighbour(make, data: bytes, status: str) -> None:
    server, good = make(max_batch=4), images(3)
    futures = [server.submit(MODEL, one) for one in (good[0], data, *good[1:])]
    found = [future.result() for future in futures]
    assert [one.status for one in found] == ["OK", status, "OK", "OK"]
    assert (found[1].probabilities is None) == (status != "CONSTANT")
    assert bool(found[1].message) == (status != "CONSTANT")


def test_a_full_queue_refuses_and_says_when_to_come_back(make) -> None:
    gate = Gate()
    server = make(lambda _: gate.model, queue=3)
    waiting = [server.submit(MODEL, one) for one in images(3)]
    with pytest.raises(ResourceExhausted) as caught:
        server.submit(MODEL, images(1)[0])
    assert caught.value.reason == "BUSY"
    assert float(caught.value.metadata["retry_seconds"]) > 0
    gate.open.set()
    assert [one.result().status for one in waiting] == ["OK"] * 3
    assert server.submit(MODEL, images(1)[0]).result().status == "OK"


def test_cancelling_frees_the_place(make) -> None:
    gate = Gate()
    server = make(lambda _: gate.model, queue=4, max_batch=1)
    first = server.submit(MODEL, images(1)[0])
    gate.entered.acquire()
    waiting = [server.submit(MODEL, one) for one in images(3)]
    assert all(one.cancel() for one in waiting)
    again = [server.submit(MODEL, one) for one in images(3)]
    gate.open.set()
    assert [one.result().status for one in [first, *again]] == ["OK"] * 4
    assert gate.batches == [1, 1, 1, 1], "what was cancelled was not seen"


def test_a_classifier_that_cannot_be_loaded_is_its_callers_error(make) -> None:
    def load(model: ModelKey) -> TrainedClassifier:
        if model == OTHER:
            raise FailedPrecondition("damaged", reason="BAD_WEIGHTS")
        return classifier()

    server = make(load)
    bad, good = server.submit(OTHER, images(1)[0]), server.submit(MODEL, images(1)[0])
    with pytest.raises(FailedPrecondition):
        bad.result()
    assert good.result().status == "OK"


def test_a_batch_that_fails_is_told_to_its_callers_alone(make) -> None:
    model, broken = classifier(), classifier()

    def fail(pixels: np.ndarray) -> np.ndarray:
        raise RuntimeError("out of memory")

    broken.network.extract_features = fail  # type: ignore[method-assign]
    server = make(lambda key: broken if key == OTHER else model)
    with pytest.raises(RuntimeError):
        server.submit(OTHER, images(1)[0]).result()
    assert server.submit(MODEL, images(1)[0]).result().status == "OK"


def test_several_classifiers_at_once(make) -> None:
    loaded = {MODEL: classifier(), OTHER: classifier(seed=1)}
    server = make(loaded.__getitem__)
    futures = [server.submit(model, one) for one in images(6) for model in (MODEL, OTHER)]
    found = np.stack([future.result().probabilities for future in futures])
    pixels = np.stack([shape("lies", seed=number) for number in range(6)])
    np.testing.assert_array_equal(found[::2], loaded[MODEL].predict(pixels))
    np.testing.assert_array_equal(found[1::2], loaded[OTHER].predict(pixels))


def test_closing_answers_what_waits_and_refuses_more() -> None:
    server = DynamicBatcher(lambda _: classifier(), InferenceSettings(max_delay_s=5), name="test")
    waiting = [server.submit(MODEL, one) for one in images(3)]
    server.close()
    assert [one.result(0).status for one in waiting] == ["OK"] * 3
    with pytest.raises(Unavailable):
        server.submit(MODEL, images(1)[0])


@given(count=st.integers(0, 30), window=st.integers(1, 8), seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_answers_come_in_order_and_the_window_holds(count: int, window: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    under_way = [0, 0]
    lock = threading.Lock()
    with ThreadPoolExecutor(8) as pool:

        def work(data: bytes, seconds: float) -> ImageResult:
            time.sleep(seconds)
            return ImageResult(message=data.decode())

        def submit(data: bytes) -> Future[ImageResult]:
            with lock:
                under_way[0] += 1
                under_way[1] = max(under_way)
            return pool.submit(work, data, rng.random() / 500)

        answers = []
        for answer in OrderedResults(iter([str(n).encode() for n in range(count)]), submit, window=window):
            answers.append(int(answer.message))
            with lock:
                under_way[0] -= 1
    assert answers == list(range(count))
    # The one whose answer is being handed over has left the window already.
    assert under_way[1] <= window + 1


def test_a_slow_reader_is_not_overrun() -> None:
    read: list[int] = []

    def source() -> Iterator[bytes]:
        for number in range(1000):
            read.append(number)
            yield b""

    def submit(data: bytes) -> Future[ImageResult]:
        future: Future[ImageResult] = Future()
        future.set_result(ImageResult())
        return future

    for answered, _ in enumerate(OrderedResults(source(), submit, window=5), start=1):
        assert len(read) <= answered + 6
    assert len(read) == 1000


def test_closing_cancels_what_is_under_way() -> None:
    futures: list[Future[ImageResult]] = []

    def submit(data: bytes) -> Future[ImageResult]:
        futures.append(Future())
        return futures[-1]

    answers = OrderedResults(iter(images(50)), submit, window=4)
    wait_until(lambda: len(futures) == 4, what="images")
    answers.close()
    wait_until(lambda: all(future.cancelled() for future in futures), what="the cancelling")
    assert len(futures) == 4
    with pytest.raises(CancelledError):
        futures[0].result(0)


def test_a_caller_who_leaves_frees_what_waits() -> None:
    futures: list[Future[ImageResult]] = []

    def submit(data: bytes) -> Future[ImageResult]:
        futures.append(Future())
        return futures[-1]

    answers = OrderedResults(iter(images(3)), submit, window=4, is_active=lambda: False)
    with pytest.raises(Cancelled):
        next(answers)
    wait_until(lambda: all(future.cancelled() for future in futures), what="the cancelling")


def test_what_reading_raises_reaches_the_reader() -> None:
    def source() -> Iterator[bytes]:
        yield b""
        raise FailedPrecondition("gone")

    def submit(data: bytes) -> Future[ImageResult]:
        future: Future[ImageResult] = Future()
        future.set_result(ImageResult())
        return future

    answers = OrderedResults(source(), submit, window=2)
    assert next(answers).status == "OK"
    with pytest.raises(FailedPrecondition):
        next(answers)


def test_the_first_image_is_refused_and_later_ones_wait(make) -> None:
    gate = Gate()
    server = make(lambda _: gate.model, queue=2, max_batch=1)
    blocker = [server.submit(MODEL, one) for one in images(2)]
    served = LocalEncoder(server, MODEL, window=4)
    with pytest.raises(ResourceExhausted):
        next(served.predict(iter(images(1))))
    gate.open.set()
    for one in blocker:
        one.result()
    assert len(list(served.predict(iter(images(20))))) == 20


def test_what_was_kept_is_recalled_as_it_was_seen(make) -> None:
    served = LocalEncoder(make(), MODEL, window=8)
    seen = list(served.predict(iter([*images(3), b"none", encode_png(np.full((8, 8, 1), 7, np.uint8))])))

    shard = to_shard(seen)
    recalled = served.cached.predict_shard(shard)
    assert (
        [one.status for one in recalled] == [one.status for one in seen] == ["OK", "OK", "OK", "UNREADABLE", "CONSTANT"]
    )
    for one, other in zip(seen, recalled, strict=True):
        if one.probabilities is not None:
            np.testing.assert_array_equal(one.probabilities, other.probabilities)
            np.testing.assert_array_equal(one.penultimate, other.penultimate)


def test_images_of_which_none_could_be_seen_are_recalled_too(make) -> None:
    encoder = LocalEncoder(make(), MODEL, window=4)
    shard = to_shard(list(encoder.predict(iter([b"none", b"neither"]))))
    assert [one.status for one in encoder.cached.predict_shard(shard)] == ["UNREADABLE", "UNREADABLE"]
