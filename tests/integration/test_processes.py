"""Each service in a process of its own, on its own port, over MinIO and Postgres: the same digests as embedded."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.servers import GENAUG, Home, Minio, free_port, wait_until

SERVICES = ("generation", "labeling", "selection", "assembly", "orchestrator")


@pytest.fixture(scope="module")
def addresses() -> dict[str, str]:
    return {service: f"127.0.0.1:{free_port()}" for service in SERVICES}


@pytest.fixture(scope="module")
def cluster(
    addresses: dict[str, str], minio: Minio, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Home]:
    """Five processes; the home's commands call the orchestrator's address for runs, and assembly's for datasets."""
    folder = tmp_path_factory.mktemp("cluster")
    minio.make_bucket("genaug")
    home = Home(
        folder,
        minio.environment("genaug")
        | {"GENAUG_DATABASE__URL": postgres, "GENAUG_AUTH__TOKEN": "t0ken"}
        | {f"GENAUG_ENDPOINTS__{name.upper()}": addresses[name] for name in SERVICES if name != "orchestrator"},
    )
    (folder / "logs").mkdir()
    processes = []
    try:
        for service, address in addresses.items():
            with (folder / "logs" / f"{service}.log").open("wb") as log:
                command = [GENAUG, "serve", service, "--address", address]
                processes.append(subprocess.Popen(command, env=home.env(), stdout=log, stderr=log))
        for service, address in addresses.items():
            wait_until(lambda address=address: serving(address), what=f"{service}: {home.log()}")
        yield home
    finally:
        for process in processes:
            process.terminate()
        codes = [process.wait(30) for process in processes]
    assert codes == [0] * 5, home.log()


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
    for service, address in addresses.items():
        name = f"genaug.v1.{service.capitalize()}Service"
        assert serving(address, name)
        with grpc.insecure_channel(address) as channel:
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            (answer,) = list(stub.ServerReflectionInfo(iter([request])))
        listed = {found.name for found in answer.list_services_response.service}
        assert {found for found in listed if found.startswith("genaug.")} == {name}


def test_a_run_across_them_has_the_digests_of_an_embedded_one(
    cluster: Home, addresses: dict[str, str], run: dict, run_file: Path, tmp_path: Path
) -> None:
    calls = tmp_path / "across.py"
    calls.write_text(ACROSS)
    command = [sys.executable, calls, addresses["assembly"], addresses["orchestrator"], run_file]
    found = subprocess.run(command, env=cluster.env(), capture_output=True, text=True, timeout=280)
    assert found.returncode == 0, f"{found.stdout}\n{found.stderr}\n{cluster.log()}"
    assert found.stdout.split() == [run["name"], run["evaluation"], *step_results(run)]


def step_results(run: dict) -> list[str]:
    return [result for step in run["steps"] for result in step.get("results", [])]


def test_a_call_without_the_token_is_refused(cluster: Home, addresses: dict[str, str]) -> None:
    stranger = Home(cluster.folder)
    found = stranger.run("dataset", "list", "--endpoint", addresses["assembly"], code=1)
    assert "NO_TOKEN" in found.stderr


ACROSS = """
import sys
from pathlib import Path
from genaug.assembly.importers import ImportOptions, open_source
from genaug.client import Client
from genaug.shared.runfile import load_yaml, parse_spec
from genaug.v1 import run_pb2

assembly, orchestrator, file = sys.argv[1:]
spec = parse_spec(load_yaml(Path(file).read_text()), run_pb2.RunSpec)
source = getattr(spec, "import")
with Client(assembly) as client:
    client.import_dataset("digits", open_source(ImportOptions(format="digits", keep=dict(source.keep))),
                          format="digits", split=source.split, folds=5, seed=42)
with Client(orchestrator) as client:
    run = client.create_run(spec)
    for run in client.watch_run(run.name):
        pass
    assert run.state == run_pb2.Run.STATE_SUCCEEDED, run
    print(run.name, run.evaluation, *(result for step in run.steps for result in step.results))
"""
