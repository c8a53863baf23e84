from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tests.servers import HANG_S

from genaug.labeling.open_inference import ModelServer, OnServer, to_results
from genaug.labeling.predictor import CANARY
from genaug.schema.classifiers import Classifier
from genaug.schema.common import Precision
from genaug.shared.errors import FailedPrecondition, ResourceExhausted
from genaug.shared.settings import OpenInferenceSettings
from genaug.v1 import open_inference_pb2 as pb
from genaug.vision.batching.dynamic_batcher import ModelKey

MODEL = ModelKey("classifiers/" + "a" * 32, Precision.FLOAT32)
PREFIX = "test.Inference"
Answer = Callable[[pb.ModelInferRequest, grpc.ServicerContext], pb.ModelInferResponse]
RECORD = Classifier(classes=("a", "b"), thresholds={"a": 0.5})


def scores(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    """Answer each image with its length as a probability."""
    data = request.inputs[0].contents.bytes_contents
    values = [value for image in data for value in (len(image) / 1000, 1 - len(image) / 1000)]
    tensor = pb.ModelInferResponse.InferOutputTensor
    return pb.ModelInferResponse(
        model_name=request.model_name,
        outputs=[
            tensor(
                name="scores",
                datatype="FP32",
                shape=[len(data), 2],
                contents=pb.InferTensorContents(fp32_contents=values),
            ),
            tensor(
                name="status",
                datatype="INT64",
                shape=[len(data)],
                contents=pb.InferTensorContents(int64_contents=[2 if image == b"bad" else 0 for image in data]),
            ),
        ],
    )


class Server:
    """A model server with a settable answer."""

    def __init__(self) -> None:
        self.requests: list[pb.ModelInferRequest] = []
        self.answer: Answer = lambda request, _: scores(request)
        self._server = grpc.server(ThreadPoolExecutor(16))
        handler = grpc.unary_unary_rpc_method_handler(
            self._infer,
            request_deserializer=pb.ModelInferRequest.FromString,
            response_serializer=pb.ModelInferResponse.SerializeToString,
        )
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(PREFIX, {"ModelInfer": handler})])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _infer(self, request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        self.requests.append(request)
        return self.answer(request, context)

    def stop(self) -> None:
        self._server.stop(0)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genaug.labeling.open_inference._PAUSES", (0.01, 0.05))


@pytest.fixture
def ask(server: Server) -> Iterator[Callable[..., OnServer]]:
    opened: list[ModelServer] = []

    def build(*, queue: int = 100, **changes: object) -> OnServer:
        settings = OpenInferenceSettings(
            **{
                "address": server.address,
                "service_prefix": PREFIX,
                "patience_s": HANG_S,
                "deadline_s": HANG_S,
                **changes,
            }
        )
        opened.append(ModelServer(settings, queue=queue))
        return OnServer(opened[-1], MODEL, RECORD, name=settings.model, window=16)

    yield build
    for client in opened:
        client.close()


def test_images_are_answered_in_order_by_the_model_of_that_digest(server: Server, ask) -> None:
    results = list(ask(images=4).predict(b"x" * n for n in range(1, 31)))
    assert [round(float(result.probabilities[0]) * 1000) for result in results] == list(range(1, 31))
    assert {request.model_name for request in server.requests} == {"a" * 32 + "-float32"}
    assert max(len(request.inputs[0].contents.bytes_contents) for request in server.requests) <= 4
    assert all(list(request.inputs[0].shape)[1] == 1 for request in server.requests)


def test_a_bad_image_is_named_by_its_status(ask) -> None:
    results = list(ask().predict(iter([b"good", b"bad", b"good"])))
    assert [result.status for result in results] == ["OK", "UNREADABLE", "OK"]
    assert results[1].probabilities is None


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL", "CANCELLED", "NOT_FOUND", "UNKNOWN"])
def test_a_failure_that_passes_is_retried(server: Server, ask, code: str) -> None:
    def answer(request, context):
        if len(server.requests) <= 2:
            context.abort(grpc.StatusCode[code], "busy")
        return scores(request)

    server.answer = answer
    results = list(ask().predict(iter([b"one", b"three"])))
    assert [result.status for result in results] == ["OK", "OK"]


def test_an_image_that_spoils_its_request_is_found_and_its_neighbours_are_kept(server: Server, ask) -> None:
    def answer(request, context):
        if b"poison" in request.inputs[0].contents.bytes_contents:
            context.abort(grpc.StatusCode.UNAVAILABLE, "prediction failed")
        return scores(request)

    server.answer = answer
    results = list(ask(images=8).predict(iter([b"a", b"poison", b"b", b"c"])))
    assert [result.status for result in results] == ["OK", "FAILED", "OK", "OK"]
    assert "UNAVAILABLE" in results[1].message
    assert any(CANARY in request.inputs[0].contents.bytes_contents for request in server.requests)


def test_a_server_that_is_only_full_fails_no_image(server: Server, ask) -> None:
    at_once = threading.Semaphore(2)

    def answer(request, context):
        if not at_once.acquire(blocking=False):
            context.abort(grpc.StatusCode.INTERNAL, "no worker is available")
        try:
            time.sleep(0.01)
            return scores(request)
        finally:
            at_once.release()

    server.answer = answer
    results = list(ask(images=1, requests=16).predict(iter([b"x"] * 150)))
    assert [result.status for result in results] == ["OK"] * 150


def test_no_image_is_blamed_for_one_of_two_servers_that_does_not_have_the_model(server: Server, ask) -> None:
    """Requests that alternate could send an image to the broken server, and the canary to the working one."""
    other = Server()

    def lacks(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        context.abort(grpc.StatusCode.INTERNAL, "no worker")

    other.answer = lacks
    addresses = f"{server.address},{other.address}", f"{other.address},{server.address}"
    for both in addresses:
        results = list(ask(address=f"ipv4:{both}", images=1, requests=4).predict(iter([b"a"] * 100)))
        assert [result.status for result in results] == ["OK"] * 100
    assert len(other.requests) > 20
    other.stop()


def test_a_server_that_stays_away_is_an_error_in_the_end(server: Server, ask) -> None:
    server.stop()
    with pytest.raises(FailedPrecondition) as caught:
        list(ask(patience_s=0.3).predict(iter([b"a", b"b"])))
    assert caught.value.reason == "MODEL_SERVER_AWAY"


def test_another_service_is_refused_at_once(ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genaug.labeling.open_inference._PAUSES", (2 * HANG_S, 2 * HANG_S))
    with pytest.raises(FailedPrecondition, match="service_prefix"):
        list(ask(service_prefix="other.Service").predict(iter([b"a"])))


def test_a_request_past_its_deadline_is_retried(server: Server, ask) -> None:
    def answer(request, context):
        if len(server.requests) == 1:
            assert answered.wait(HANG_S)
        return scores(request)

    answered = threading.Event()
    server.answer = answer
    assert [result.status for result in ask(deadline_s=0.2).predict(iter([b"a"]))] == ["OK"]
    answered.set()
    assert len(server.requests) >= 2


def test_a_full_queue_refuses(server: Server, ask) -> None:
    def answer(request, context):
        assert refused.wait(HANG_S)
        return scores(request)

    refused = threading.Event()
    server.answer = answer
    on = ask(queue=1, requests=1)
    first = on._server.submit("m", 2, b"a")
    with pytest.raises(ResourceExhausted) as caught:
        on._server.submit("m", 2, b"b")
    assert caught.value.metadata["retry_seconds"]
    refused.set()
    assert first.result().status == "OK"


def test_too_large_an_image_has_a_status_of_its_own(server: Server, ask) -> None:
    assert [result.status for result in ask().predict(iter([b"x" * 4_000_001]))] == ["TOO_LARGE"]
    assert server.requests == []


def response(scores: list[float], *, raw: bool = False, datatype: str = "FP32") -> pb.ModelInferResponse:
    tensor = pb.ModelInferResponse.InferOutputTensor(name="scores", datatype=datatype, shape=[len(scores) // 2, 2])
    if not raw:
        tensor.contents.fp32_contents.extend(scores)
    answer = pb.ModelInferResponse(outputs=[tensor])
    if raw:
        answer.raw_output_contents.append(np.array(scores, "<f4").tobytes())
    return answer


def test_scores_may_come_raw_and_without_a_status() -> None:
    for raw in (False, True):
        results = to_results(response([0.25, 0.75, 0.5, 0.5], raw=raw), images=2, classes=2)
        assert [result.probabilities.tolist() for result in results] == [[0.25, 0.75], [0.5, 0.5]]
        assert {result.status for result in results} == {"OK"}


@pytest.mark.parametrize(
    "wrong", [response([0.5, 0.5]), response([]), pb.ModelInferResponse(), response([1, 2, 3, 4], datatype="FP64")]
)
def test_another_models_answer_is_refused(wrong: pb.ModelInferResponse) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        to_results(wrong, images=2, classes=2)
    assert caught.value.reason == "WRONG_MODEL"
