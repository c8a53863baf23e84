"""A real server on a free port, with a stub that misbehaves on demand."""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.servers import HANG_S, free_port, wait_until

from genaug.client import connect, translated
from genaug.shared import server as server_module
from genaug.shared.access import read_callers
from genaug.shared.errors import (
    Cancelled,
    FailedPrecondition,
    GenaugError,
    Internal,
    InvalidArgument,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from genaug.shared.server import ALIVE, Server, frames, is_local, page
from genaug.shared.settings import load_settings
from genaug.v1 import classifier_pb2, labeling_service_pb2, labeling_service_pb2_grpc


class StubService(labeling_service_pb2_grpc.LabelingServiceServicer):
    service_name = "genaug.v1.LabelingService"

    def __init__(self, warm: Exception | None = None) -> None:
        self._warm = warm

    def warm_up(self) -> None:
        if self._warm:
            raise self._warm

    def close(self) -> None:
        pass

    def GetClassifier(self, request, context):
        if request.name == "secret":
            raise ValueError("patient 4711 in /data/x.jpg")
        if request.name == "missing":
            raise NotFound("classifiers/x does not exist", reason="CLASSIFIER_NOT_FOUND", name="x")
        if len(request.name) > 1000:
            raise NotFound(f"{request.name} does not exist", name=request.name)
        return classifier_pb2.Classifier(name=request.name)

    def LabelBatch(self, request, context):
        yield labeling_service_pb2.LabelBatchResponse()
        raise InvalidArgument("halfway", reason="HALFWAY")


@pytest.fixture
def start(tmp_path, monkeypatch) -> Iterator:
    monkeypatch.chdir(tmp_path)
    servers = []

    def run(warm: Exception | None = None, **flags) -> str:
        settings = load_settings(**({"server": {"address": "127.0.0.1:0"}} | flags))

        def register(server, settings):
            stub = StubService(warm)
            labeling_service_pb2_grpc.add_LabelingServiceServicer_to_server(stub, server)
            return stub

        server = Server(settings, [register])
        server.start()
        servers.append(server)
        return server.address

    yield run
    for server in servers:
        server.stop(0)


def call(address: str, name: str, token: str = ""):
    with connect(address, token=token) as channel, translated(address):
        stub = labeling_service_pb2_grpc.LabelingServiceStub(channel)
        return stub.GetClassifier(labeling_service_pb2.GetClassifierRequest(name=name), timeout=HANG_S)


def health(address: str, service: str = "") -> int:
    with grpc.insecure_channel(address) as channel:
        return (
            health_pb2_grpc.HealthStub(channel)
            .Check(health_pb2.HealthCheckRequest(service=service), timeout=HANG_S)
            .status
        )


def test_answers_and_says_it_is_serving(start) -> None:
    address = start()
    assert call(address, "x").name == "x"
    assert health(address) == health_pb2.HealthCheckResponse.SERVING
    assert health(address, StubService.service_name) == health_pb2.HealthCheckResponse.SERVING


def test_an_error_arrives_as_it_was_raised(start) -> None:
    with pytest.raises(NotFound, match="classifiers/x does not exist") as caught:
        call(start(), "missing")
    assert caught.value.reason == "CLASSIFIER_NOT_FOUND"
    assert caught.value.metadata == {"name": "x"}


def test_an_error_that_quotes_a_long_value_arrives(start) -> None:
    with pytest.raises(NotFound, match=r"^datasets/äää") as caught:
        call(start(), "datasets/" + 50_000 * "ä")
    assert str(caught.value).endswith(" …")


def test_an_unexpected_error_keeps_its_text_to_itself(start, caplog) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(Internal) as caught:
        call(start(), "secret")
    assert "4711" not in str(caught.value)
    assert caught.value.metadata["request_id"] in str(caught.value)
    assert caught.value.metadata["request_id"] in [getattr(record, "request_id", "") for record in caplog.records]


class LateCall:
    """A call's context whose deadline passes when `late` is set; keeps the status that the call ends with."""

    def __init__(self, *, late: bool) -> None:
        self.late = late
        self.status: grpc.StatusCode | None = None

    def time_remaining(self) -> float:
        return 0.0 if self.late else 10.0

    def code(self) -> None: ...
    def set_trailing_metadata(self, metadata) -> None: ...

    def abort_with_status(self, status) -> None:
        self.status = status.code
        raise RuntimeError("aborted")  # as gRPC does


@pytest.mark.parametrize("streaming", [False, True])
def test_a_deadline_that_passed_before_the_call_begins(streaming: bool) -> None:
    context, calls = LateCall(late=True), []
    finish(context, lambda request, context: calls.append(request) or iter(()), streaming=streaming)
    assert context.status is grpc.StatusCode.DEADLINE_EXCEEDED
    assert not calls, "no work for a caller who has left"


@pytest.mark.parametrize("error", [ValueError("interrupted"), Cancelled("the caller has left")])
@pytest.mark.parametrize("late", [False, True])
def test_an_error_after_the_deadline_is_the_deadline(late: bool, error: Exception, caplog) -> None:
    def stop(request, context):
        context.late = late
        raise error

    context = LateCall(late=False)
    finish(context, stop, streaming=False)
    own = "CANCELLED" if isinstance(error, Cancelled) else "INTERNAL"
    assert context.status is grpc.StatusCode["DEADLINE_EXCEEDED" if late else own]
    assert ("interrupted" in caplog.text) is isinstance(error, ValueError), "a fault of ours is logged in any case"


def test_a_definite_answer_stands_after_the_deadline() -> None:
    def refuse(request, context):
        context.late = True
        raise NotFound("classifiers/x does not exist")

    context = LateCall(late=False)
    finish(context, refuse, streaming=False)
    assert context.status is grpc.StatusCode.NOT_FOUND


def finish(context: LateCall, behaviour, *, streaming: bool) -> None:
    """Let the server's interceptor answer one call with `behaviour`."""
    make = grpc.unary_stream_rpc_method_handler if streaming else grpc.unary_unary_rpc_method_handler
    interceptor = server_module._Interceptor(read_callers(load_settings().auth, local=True), {})
    details = SimpleNamespace(method="/genaug.v1.LabelingService/Any", invocation_metadata=())
    handler = interceptor.intercept_service(lambda details: make(behaviour), details)
    with pytest.raises(RuntimeError, match="aborted"):
        list(handler.unary_stream(None, context)) if streaming else handler.unary_unary(None, context)


def test_a_stream_can_fail_halfway(start) -> None:
    address = start()
    with connect(address) as channel:
        stream = labeling_service_pb2_grpc.LabelingServiceStub(channel).LabelBatch(
            labeling_service_pb2.LabelBatchRequest(), timeout=HANG_S
        )
        next(stream)
        with pytest.raises(InvalidArgument, match="halfway"), translated(address):
            next(stream)


def test_a_room_that_cannot_work_is_not_serving(start) -> None:
    address = start(warm=FailedPrecondition("no store"))
    assert health(address) == health_pb2.HealthCheckResponse.NOT_SERVING
    assert health(address, StubService.service_name) == health_pb2.HealthCheckResponse.NOT_SERVING


def test_a_room_that_cannot_work_takes_no_calls_and_says_why(start) -> None:
    """A store without conditional put must not be written, whoever asks."""
    address = start(
        warm=FailedPrecondition("store: a conditional put overwrote an object", reason="NO_CONDITIONAL_PUT")
    )
    with pytest.raises(FailedPrecondition, match="conditional put") as caught:
        call(address, "x")
    assert caught.value.reason == "NO_CONDITIONAL_PUT"
    address = start(warm=ValueError("patient 4711"))
    with pytest.raises(Internal) as hidden:
        call(address, "x")
    assert "4711" not in hidden.value.message


def test_where_nobody_looks_at_health_one_that_cannot_work_ends_all(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    def register(server, settings):
        stub = StubService(NotFound("no bucket", reason="NO_BUCKET"))
        labeling_service_pb2_grpc.add_LabelingServiceServicer_to_server(stub, server)
        return stub

    server = Server(load_settings(server={"address": "127.0.0.1:0"}), [register])
    with pytest.raises(NotFound, match="no bucket"):
        server.run(whole=True)
    with pytest.raises(Unavailable):
        call(server.address, "x")


def test_a_token_is_wanted_when_one_is_set(start) -> None:
    address = start(auth={"token": "right"})
    assert call(address, "x", token="right").name == "x"
    for token, reason in (("", "NO_TOKEN"), ("wrong", "BAD_TOKEN")):
        with pytest.raises(Unauthenticated) as caught:
            call(address, "x", token=token)
        assert caught.value.reason == reason
    assert health(address) == health_pb2.HealthCheckResponse.SERVING


def test_other_machines_need_a_token_or_a_word(start) -> None:
    with pytest.raises(FailedPrecondition, match="GENAUG_AUTH__TOKEN"):
        start(server={"address": "0.0.0.0:0"})
    start(server={"address": "0.0.0.0:0"}, auth={"mode": "none"})


def test_a_taken_address_is_named(start) -> None:
    address = start()
    with pytest.raises(FailedPrecondition, match=address):
        start(server={"address": address})


def test_nobody_there() -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        call("127.0.0.1:9", "x")


def test_a_server_that_is_not_genaug(start) -> None:
    from genaug.v1 import assembly_service_pb2, assembly_service_pb2_grpc

    address = start()
    with connect(address) as channel, pytest.raises(FailedPrecondition, match="is it genaug"), translated(address):
        assembly_service_pb2_grpc.AssemblyServiceStub(channel).GetDataset(assembly_service_pb2.GetDatasetRequest())


def test_pages_cover_everything_once() -> None:
    token, seen = "", []
    while True:
        found, token = page(range(7), page_size=3, page_token=token)
        seen += found
        if not token:
            break
    assert seen == list(range(7))
    for bad in ({"page_size": -1, "page_token": ""}, {"page_size": 1, "page_token": "x"}):
        with pytest.raises(InvalidArgument):
            page(range(7), **bad)


def test_frames_are_the_file() -> None:
    data = bytes(range(256)) * 10_000
    assert b"".join(frames(data)) == data
    assert max(map(len, frames(data))) <= 1024 * 1024


@pytest.mark.parametrize(
    ("address", "local"),
    [("unix:/x", True), ("127.0.0.1:1", True), ("[::1]:1", True), ("0.0.0.0:1", False), ("[::]:1", False)],
)
def test_local_addresses(address: str, local: bool) -> None:
    assert is_local(address) is local


def test_every_code_has_its_class() -> None:
    for kind in GenaugError.__subclasses__():
        assert hasattr(grpc.StatusCode, kind.code)


def test_health_has_a_port_of_its_own_that_answers_when_all_threads_are_taken(start) -> None:
    probed = f"127.0.0.1:{free_port()}"
    start(warm=Unavailable("no store"), server={"address": "127.0.0.1:0", "health_address": probed, "threads": 2})
    assert health(probed, ALIVE) == health_pb2.HealthCheckResponse.SERVING
    assert health(probed) == health_pb2.HealthCheckResponse.NOT_SERVING


def test_what_keeps_a_service_from_working_may_pass(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(server_module, "_RETRY_S", 0.05)
    stub = StubService(Unavailable("the store is away", reason="STORE_UNAVAILABLE"))

    def register(server, settings):
        labeling_service_pb2_grpc.add_LabelingServiceServicer_to_server(stub, server)
        return stub

    server = Server(load_settings(server={"address": "127.0.0.1:0"}), [register])
    stop = threading.Event()
    running = threading.Thread(target=lambda: server.run(stop))
    monkeypatch.setattr(server_module.signal, "signal", lambda *_: None)
    running.start()
    try:
        wait_until(lambda: StubService.service_name in server.refusals, what="a refusal")
        stub._warm = None
        wait_until(lambda: not server.refusals, what="the service")
        assert health(server.address) == health_pb2.HealthCheckResponse.SERVING
        assert call(server.address, "x").name == "x"
    finally:
        stop.set()
        running.join(HANG_S)


def test_tls_is_spoken_alone(start, tmp_path) -> None:
    key, certificate = tmp_path / "tls.key", tmp_path / "tls.crt"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    tls = {"certificate": str(certificate), "key": str(key)}
    address = start(server={"address": "localhost:0"}, tls=tls)
    with connect(f"https://{address}", authority=str(certificate)) as channel:
        stub = labeling_service_pb2_grpc.LabelingServiceStub(channel)
        assert stub.GetClassifier(labeling_service_pb2.GetClassifierRequest(name="x"), timeout=HANG_S).name == "x"
    with pytest.raises(Unavailable):
        call(address, "x")
    with pytest.raises(FailedPrecondition, match=r"tls\.authority: /none"):
        connect(f"https://{address}", authority="/none")
    with pytest.raises(FailedPrecondition, match="tls: /none"):
        start(tls={"certificate": "/none", "key": "/none"})
