"""A release of the chart on the cluster of the current kubeconfig context, in a namespace of its own.

GENAUG_E2E_VALUES names a values file that says where the images are; without it they are `genaug-*:{appVersion}`.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.servers import ROOT, free_port, listens, missing, wait_until

from genaug.client import Client
from genaug.shared.settings import Settings

CHART = ROOT / "helm" / "genaug"
RELEASE = "genaug"


@dataclass(frozen=True)
class Cluster:
    """kubectl and helm in one namespace."""

    namespace: str
    values: tuple[str, ...]

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        command = ["kubectl", "-n", self.namespace, *arguments]
        found = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        assert found.returncode == 0 or not check, f"{' '.join(arguments)}\n{found.stdout}\n{found.stderr}"
        return found.stdout

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def helm(self, verb: str, *arguments: str) -> str:
        command = ["helm", verb, RELEASE, *arguments, "--namespace", self.namespace]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert found.returncode == 0, f"{found.stdout}\n{found.stderr}\n{self.state()}"
        return found.stdout

    def install(self, verb: str = "install", *more: str) -> None:
        """Install or upgrade, until all is ready."""
        settings = ("--set", "minio.enabled=true", "--wait", "--timeout", "8m")
        self.helm(verb, str(CHART), *self.values, *settings, *more)

    def state(self) -> str:
        return self.kubectl("get", "pods,jobs", check=False) + self.kubectl(
            "get", "events", "--sort-by=.lastTimestamp", check=False
        )

    def token(self) -> str:
        found = self.get("secret", f"{RELEASE}-auth")["data"]["token"]
        return base64.b64decode(found).decode()

    def jobs(self) -> dict[str, list[str]]:
        """Names of the Jobs of each request."""
        found: dict[str, list[str]] = {}
        for job in self.get("jobs")["items"]:
            request = job["metadata"].get("annotations", {}).get("genaug.io/request")
            if request:
                found.setdefault(request, []).append(job["metadata"]["name"])
        return found

    @contextmanager
    def forwarded(self) -> Iterator[str]:
        """The gateway at a port of ours; forwarded anew when its pod goes."""
        port = free_port()
        over = threading.Event()
        running: list[subprocess.Popen[bytes]] = []

        def forward() -> None:
            command = ["kubectl", "-n", self.namespace, "port-forward", f"svc/{RELEASE}-gateway", f"{port}:50051"]
            while not over.is_set():
                with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                    running[:] = [process]
                    process.wait()
                over.wait(1)

        thread = threading.Thread(target=forward, daemon=True)
        thread.start()
        wait_until(lambda: listens(port), what=f"the gateway\n{self.state()}")
        try:
            yield f"127.0.0.1:{port}"
        finally:
            over.set()
            for process in running:
                process.terminate()
            thread.join(10)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    for tool in ("kubectl", "helm"):
        if shutil.which(tool) is None:
            missing(tool)
    if subprocess.run(["kubectl", "get", "nodes"], capture_output=True, check=False).returncode:
        missing("a Kubernetes cluster (the current kubeconfig context)")
    values = os.environ.get("GENAUG_E2E_VALUES")
    namespace = f"genaug-e2e-{secrets.token_hex(3)}"
    found = Cluster(namespace, ("--values", values) if values else ())
    subprocess.run(["kubectl", "create", "namespace", namespace], check=True, capture_output=True)
    # Pods that are not `restricted` would be refused.
    found.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    try:
        found.install()
        yield found
    finally:
        subprocess.run(["kubectl", "delete", "namespace", namespace, "--wait=false"], check=False, capture_output=True)


@pytest.fixture(scope="session")
def endpoint(cluster: Cluster) -> Iterator[str]:
    with cluster.forwarded() as found:
        yield found


@pytest.fixture
def client(cluster: Cluster, endpoint: str) -> Iterator[Client]:
    with Client(endpoint, token=cluster.token(), settings=Settings()) as found:
        yield found


RUN = """
name: NAME
dataset: digits
import:
  format: digits
  keep: {"0": 60, "1": 60, "2": 40, "3": 40}
  split: [0.5, 0.2, 0.3]
classes: ["0", "1", "2", "3"]
generator: {class_conditional: {train_steps: TRAIN, batch_size: 32, base_channels: 16}}
generation: {steps: 8, rounds: 2}
labeling: {updates: 60}
selection: {classes: ["0", "1"]}
scenarios:
  - {name: real}
  - {name: synthetic-x1, synthetic: 1}
evaluation: {updates: 60, seeds: 2, resamples: 300}
"""


@pytest.fixture
def run_file(tmp_path: Path):
    def write(name: str, train_steps: int = 150) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(RUN.replace("NAME", name).replace("TRAIN", str(train_steps)))
        return path

    return write
