"""Runs in a cluster whose pods are killed at random moments: services, Jobs, the orchestrator, the store.

    python benchmarks/kill_cluster.py examples/quickstart.yaml --kills 20 --namespace genaug

Needs kubectl, and GENAUG_ENDPOINT and GENAUG_AUTH__TOKEN of a release with `minio.enabled`. Half of the kills are
immediate, the others are evictions as `kubectl drain` makes them. New runs are started until so many pods were killed.
Prints one JSON line: kills by component, runs, images expected and found in the store (each looked at), Jobs that were
started more than once for the same request, and the seconds of the runs.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import socket
import subprocess
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from genaug.client import Client
from genaug.schema.runfile import apply_overrides, load_yaml, parse_spec
from genaug.shared.digests import sha256
from genaug.shared.errors import GenaugError
from genaug.shared.manifest import read_rows
from genaug.shared.settings import StoreSettings
from genaug.shared.store import Store
from genaug.v1 import run_pb2

UNFINISHED = (run_pb2.Run.STATE_PENDING, run_pb2.Run.STATE_RUNNING)
# The gateway holds our own watch; the store is one of the rarer.
WEIGHTS = {"minio": 1, "gateway": 1, "orchestrator": 2}


def kubectl(*args: str, stdin: str = "") -> str:
    process = subprocess.run(["kubectl", *args], input=stdin, capture_output=True, text=True, check=False)
    return process.stdout if process.returncode == 0 else ""


def pods(namespace: str) -> dict[str, list[str]]:
    """Names of running pods by component."""
    names: dict[str, list[str]] = {}
    for pod in json.loads(kubectl("-n", namespace, "get", "pods", "-o", "json") or '{"items": []}')["items"]:
        component = pod["metadata"]["labels"].get("app.kubernetes.io/component", "")
        if pod["status"]["phase"] == "Running" and component not in ("", "provision", "test"):
            names.setdefault(component, []).append(pod["metadata"]["name"])
    return names


def kill(namespace: str, chance: random.Random) -> str:
    """Kill one pod of a component that is drawn; return the component."""
    running = pods(namespace)
    if not running:
        return ""
    components = sorted(running)
    component = chance.choices(components, [WEIGHTS.get(name, 3) for name in components])[0]
    name = chance.choice(running[component])
    if chance.random() < 0.5:
        done = kubectl("-n", namespace, "delete", "pod", name, "--grace-period=0", "--force")
    else:
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction"
        done = kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    return component if done else ""


def patiently(ask):
    """Ask again while the server is away."""
    for _ in range(90):
        try:
            return ask()
        except GenaugError as error:
            if error.code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"):
                raise
            time.sleep(2)
    return ask()


@contextmanager
def store_of(namespace: str, release: str):
    """The release's store, through a port of our own."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    forward = subprocess.Popen(
        ["kubectl", "-n", namespace, "port-forward", f"svc/{release}-minio", f"{port}:9000"], stdout=subprocess.DEVNULL
    )
    secret = json.loads(kubectl("-n", namespace, "get", "secret", f"{release}-store", "-o", "json"))["data"]
    user, password = (
        base64.b64decode(secret[f"report-{part}"]).decode() for part in ("access-key-id", "secret-access-key")
    )
    time.sleep(3)
    try:
        yield Store.open(
            StoreSettings(
                url="s3://genaug",
                endpoint=f"http://127.0.0.1:{port}",
                access_key_id=user,
                secret_access_key=password,
            ),
            "report",
        )
    finally:
        forward.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--namespace", default="genaug")
    parser.add_argument("--release", default="genaug")
    args = parser.parse_args()
    chance = random.Random(args.seed)  # noqa: S311
    killed: Counter[str] = Counter()
    names, seconds, resumed = [], [], 0
    client = Client()
    while sum(killed.values()) < args.kills:
        seed = args.seed + len(names)
        values = apply_overrides(
            load_yaml(args.file.read_text()),
            [
                f"generator.seed={seed}",
                f"generation.seed={seed}",
            ],
        )
        spec = parse_spec(values, run_pb2.RunSpec)
        spec.ClearField("import")
        start = time.monotonic()
        run = patiently(lambda spec=spec: client.create_run(spec))
        names.append(run.name)
        while True:
            time.sleep(chance.uniform(3, 10))
            if sum(killed.values()) < args.kills:
                component = kill(args.namespace, chance)
                killed[component] += bool(component)
            run = patiently(lambda run=run: client.get_run(run.name))
            if run.state not in UNFINISHED:
                print(run.name, run_pb2.Run.State.Name(run.state), run.error, dict(killed), flush=True)
                if run.state == run_pb2.Run.STATE_SUCCEEDED:
                    break
                resumed += 1
                run = patiently(lambda run=run: client.resume_run(run.name))
        seconds.append(round(time.monotonic() - start))
    expected = intact = 0
    with store_of(args.namespace, args.release) as store:
        for name in names:
            run = patiently(lambda name=name: client.get_run(name))
            step = next(step for step in run.steps if step.name == "generate")
            batches = {result for result in step.results if result.startswith("batches/")}
            rows = [row for batch in sorted(batches) for row in read_rows(store, f"{batch}/manifest.parquet")]
            expected += len(rows)
            intact += sum(sha256(store.get(row.uri)) == row.content_sha256 for row in rows)
    jobs = json.loads(kubectl("-n", args.namespace, "get", "jobs", "-o", "json"))["items"]
    requests = Counter(job["metadata"].get("annotations", {}).get("genaug.io/request", "") for job in jobs)
    requests.pop("", None)
    twice = {key: count for key, count in requests.items() if count > 1}
    print(
        json.dumps(
            {
                "kills": dict(+killed),
                "runs": names,
                "resumed": resumed,
                "images_expected": expected,
                "images_found": intact,
                "requests_with_several_jobs": twice,
                "seconds": seconds,
            }
        )
    )


if __name__ == "__main__":
    main()
