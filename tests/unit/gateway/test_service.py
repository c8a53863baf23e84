from collections.abc import Iterator

import grpc
import pytest
from prometheus_client import REGISTRY
from tests.servers import wait_until

from genaug.client import connect, translated
from genaug.gateway.service import register
from genaug.shared.errors import InvalidArgument, NotFound, Unauthenticated, Unavailable
from genaug.shared.server import Server
from genaug.shared.settings import AuthSettings, EndpointSettings, ServerSettings, Settings
from genaug.v1 import generation_service_pb2 as generation
from genaug.v1 import generation_service_pb2_grpc as generation_grpc
from genaug.v1 import orchestrator_service_pb2 as orchestrator
from genaug.v1 import orchestrator_service_pb2_grpc as orchestrator_grpc
from genaug.v1 import run_pb2

TOKEN = "a-token-0123456789"


class StubService(orchestrator_grpc.OrchestratorServiceServicer):
    service_name = "genaug.v1.OrchestratorService"

    def __init__(self) -> None:
        self.left = False

    def warm_up(self) -> None: ...
    def close(self) -> None: ...

    def GetRun(self, request, context):
        if request.name == "runs/none":
            raise NotFound("runs/none does not exist", reason="RUN_NOT_FOUND")
        return run_pb2.Run(name=request.name)

    def WatchRun(self, request, context) -> Iterator[orchestrator.WatchRunResponse]:
        try:
            while context.is_active():
                yield orchestrator.WatchRunResponse(run=run_pb2.Run(name=request.name))
        finally:
            self.left = True


@pytest.fixture
def service() -> StubService:
    return StubService()


@pytest.fixture
def endpoint(service: StubService) -> Iterator[str]:
    auth = AuthSettings(mode="token", token=TOKEN)

    def add(server: grpc.Server, settings: Settings) -> StubService:
        orchestrator_grpc.add_OrchestratorServiceServicer_to_server(service, server)
        return service

    behind = Server(Settings(server=ServerSettings(address="127.0.0.1:0"), auth=auth), [add])
    behind.start()
    away = dict.fromkeys(("generation", "labeling", "selection", "assembly"), "127.0.0.1:1")
    settings = Settings(
        server=ServerSettings(address="127.0.0.1:0"),
        auth=auth,
        endpoints=EndpointSettings(orchestrator=behind.address, **away),
    )
    gateway = Server(settings, [register])
    gateway.start()
    yield gateway.address
    gateway.stop(0)
    behind.stop(0)


def stub(endpoint: str, token: str = TOKEN) -> orchestrator_grpc.OrchestratorServiceStub:
    return orchestrator_grpc.OrchestratorServiceStub(connect(endpoint, token=token))


def test_answers_and_errors_come_through_as_they_are(endpoint: str) -> None:
    assert stub(endpoint).GetRun(orchestrator.GetRunRequest(name="runs/a")).name == "runs/a"
    with pytest.raises(NotFound) as error, translated(endpoint):
        stub(endpoint).GetRun(orchestrator.GetRunRequest(name="runs/none"))
    assert error.value.reason == "RUN_NOT_FOUND"


def test_an_error_behind_the_gateway_is_counted_as_one(endpoint: str) -> None:
    with pytest.raises(NotFound), translated(endpoint):
        stub(endpoint).GetRun(orchestrator.GetRunRequest(name="runs/none"))
    labels = {"method": "/genaug.v1.OrchestratorService/GetRun", "code": "NOT_FOUND"}
    # Once by the gateway, once by the service; both are in this process.
    assert REGISTRY.get_sample_value("genaug_call_seconds_count", labels) >= 2


def test_leaving_a_stream_ends_it_behind_the_gateway(endpoint: str, service: StubService) -> None:
    call = stub(endpoint).WatchRun(orchestrator.WatchRunRequest(name="runs/a"))
    assert next(call).run.name == "runs/a"
    call.cancel()
    wait_until(lambda: service.left, what="the end of the stream")


def test_who_is_not_known_goes_no_further(endpoint: str) -> None:
    with pytest.raises(Unauthenticated), translated(endpoint):
        stub(endpoint, token="nobody").GetRun(orchestrator.GetRunRequest(name="runs/a"))


def test_a_service_that_is_away_is_said_to_be(endpoint: str) -> None:
    # The gateway tries again; this caller does not.
    request, metadata = generation.GetGeneratorRequest(name="generators/a"), [("authorization", f"Bearer {TOKEN}")]
    with grpc.insecure_channel(endpoint) as channel:
        found = generation_grpc.GenerationServiceStub(channel)
        with pytest.raises(Unavailable), translated(endpoint):
            found.GetGenerator(request, metadata=metadata)


def test_a_gateway_that_does_not_know_the_services_does_not_start() -> None:
    with pytest.raises(InvalidArgument, match=r"endpoints\.generation"):
        Server(Settings(server=ServerSettings(address="127.0.0.1:0")), [register])
