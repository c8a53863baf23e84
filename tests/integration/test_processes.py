"""Each service in a process of its own behind the gateway, over MinIO and Postgres: the same digests as embedded."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from tests.servers import GENAUG, ROOT, Home, Minio, free_port, wait_until

from genaug.v1 import assembly_service_pb2, assembly_service_pb2_grpc

SERVICES = ("generation", "labeling", "selection", "assembly", "orchestrator")
DASHBOARD = ROOT / "helm" / "genaug" / "files" / "dashboard.json"
TOKENS = """
often: {token: often-0123456789-often, requests_per_minute: 2}
"""


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, str]] = []
        """(trace id, service, name)"""

    def Export(self, request, context):
        for resource in request.resource_spans:
            service = next(one.value.string_value for one in resource.resource.attributes if one.key == "service.name")
            for scope in resource.scope_spans:
                self.spans += [(span.trace_id.hex(), service, span.name) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[Collector, str]]:
    server = grpc.server(ThreadPoolExecutor(4))
    found = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(found, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield found, f"http://127.0.0.1:{port}"
    server.stop(0)


@pytest.fixture(scope="module")
def addresses() -> dict[str, str]:
    return {service: f"127.0.0.1:{free_port()}" for service in (*SERVICES, "gateway")}


@pytest.fixture(scope="module")
def metrics(addresses: dict[str, str]) -> dict[str, str]:
    return {service: f"127.0.0.1:{free_port()}" for service in addresses}


@pytest.fixture(scope="module")
def cluster(
    addresses: dict[str, str],
    metrics: dict[str, str],
    collector: tuple[Collector, str],
    minio: Minio,
    postgres: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Home]:
    """Six processes; the home's commands call the gateway."""
    folder = tmp_path_factory.mktemp("cluster")
    tokens = folder / "tokens.yaml"
    tokens.write_text(TOKENS)
    minio.make_bucket("genaug")
    home = Home(
        folder,
        minio.environment("genaug")
        | {"GENAUG_DATABASE__URL": postgres, "GENAUG_AUTH__TOKEN": "t0ken", "GENAUG_AUTH__TOKENS_FILE": str(tokens)}
        | {"GENAUG_ENDPOINT": addresses["gateway"], "OTEL_EXPORTER_OTLP_ENDPOINT": collector[1]}
        | {f"GENAUG_ENDPOINTS__{name.upper()}": addresses[name] for name in SERVICES},
    )
    (folder / "logs").mkdir()
    processes = []
    try:
        for service, address in addresses.items():
            with (folder / "logs" / f"{service}.log").open("wb") as log:
                command = [GENAUG, "serve", service, "--address", address]
                environment = home.env() | {"GENAUG_SERVER__METRICS_ADDRESS": metrics[service]}
                processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        for service, address in addresses.items():
            wait_until(lambda address=address: serving(address), what=f"{service}: {home.log()}")
        yield home
    finally:
        for process in processes:
            process.terminate()
        codes = [process.wait(30) for process in processes]
    assert codes == [0] * 6, home.log()


def serving(address: str, service: str = "") -> bool:
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=2
            )
        except grpc.RpcError:
            return False
        return answer.status == health_pb2.HealthCheckResponse.SERVING


def test_each_serves_itself_alone(cluster: Home, addresses: dict[str, str]) -> None:
    for service, address in [(name, addresses[name]) for name in SERVICES]:
        name = f"genaug.v1.{service.capitalize()}Service"
        assert serving(address, name)
        with grpc.insecure_channel(address) as channel:
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            (answer,) = list(stub.ServerReflectionInfo(iter([request])))
        listed = {found.name for found in answer.list_services_response.service}
        assert {found for found in listed if found.startswith("genaug.")} == {name}


@pytest.fixture(scope="module")
def across(cluster: Home, run_file: Path) -> dict:
    """A run over the processes, as a command of somebody outside starts it."""
    return cluster.json("run", "create", "-f", run_file, "--wait")


def test_a_run_across_them_has_the_digests_of_an_embedded_one(across: dict, run: dict) -> None:
    assert (across["name"], across["evaluation"]) == (run["name"], run["evaluation"])
    assert step_results(across) == step_results(run)


def step_results(run: dict) -> list[str]:
    return [result for step in run["steps"] for result in step.get("results", [])]


def test_a_run_is_one_trace_from_the_command_to_its_jobs(across: dict, collector: tuple[Collector, str]) -> None:
    trace = across["traceparent"].split("-")[1]
    wanted = {
        ("genaug-cli", "genaug run create"),
        ("genaug-gateway", "genaug.v1.OrchestratorService/CreateRun"),
        ("genaug-orchestrator", "genaug.v1.OrchestratorService/CreateRun"),
        ("genaug-orchestrator", "run_job"),
        ("genaug-labeling", "genaug.v1.LabelingService/LabelBatch"),
        ("genaug-train", "job train"),
        ("genaug-evaluate", "job evaluate"),
        ("genaug-report", "job report"),
    }

    def arrived() -> bool:
        return wanted <= {(service, name) for one, service, name in collector[0].spans if one == trace}

    wait_until(arrived, what=f"spans of {trace}; {sorted(set(collector[0].spans))}")


def test_every_metric_of_the_dashboard_arrives(across: dict, metrics: dict[str, str]) -> None:
    texts = [urllib.request.urlopen(f"http://{one}/metrics").read().decode() for one in metrics.values()]
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = {name for panel in panels for t in panel["targets"] for name in re.findall(r"genaug_\w+", t["expr"])}
    for name in asked:
        assert any(re.search(rf"^{name}[{{ ]", text, re.MULTILINE) for text in texts), name


def test_logs_are_json_and_hold_no_secret(cluster: Home, across: dict) -> None:
    log = (cluster.folder / "logs" / "labeling.log").read_text()
    assert "t0ken" not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)


def test_a_call_without_the_token_is_refused(cluster: Home, addresses: dict[str, str]) -> None:
    stranger = Home(cluster.folder)
    for service in ("assembly", "gateway"):
        found = stranger.run("dataset", "list", "--endpoint", addresses[service], code=1)
        assert "NO_TOKEN" in found.stderr


def test_above_the_quota_a_call_is_refused_and_says_when_to_come_back(cluster: Home, addresses: dict[str, str]) -> None:
    with grpc.insecure_channel(addresses["gateway"]) as channel:
        stub = assembly_service_pb2_grpc.AssemblyServiceStub(channel)
        sent = (("authorization", "Bearer often-0123456789-often"),)
        for _ in range(2):
            stub.ListDatasets(assembly_service_pb2.ListDatasetsRequest(), metadata=sent)
        with pytest.raises(grpc.RpcError) as error:
            stub.ListDatasets(assembly_service_pb2.ListDatasetsRequest(), metadata=sent)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = rpc_status.from_call(error.value)
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    assert 0 < retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9 <= 30
