"""The system on a real cluster. The tests share one release and go in order: the last takes it down."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from tests.e2e.conftest import RELEASE, Cluster
from tests.servers import GENAUG, Home, wait_until

from genaug.client import Client
from genaug.shared.errors import Unauthenticated
from genaug.shared.protojson import to_dict
from genaug.shared.settings import Settings
from genaug.v1 import run_pb2

pytestmark = pytest.mark.timeout(900)
SERVICES = ("generation", "labeling", "selection", "assembly", "orchestrator", "gateway")


def outside(cluster: Cluster, endpoint: str, *arguments: str | Path, folder: Path) -> str:
    """A command as somebody outside the cluster gives it."""
    home = Home(folder, {"GENAUG_ENDPOINT": endpoint, "GENAUG_AUTH__TOKEN": cluster.token()})
    command = [str(GENAUG), *map(str, arguments)]
    found = subprocess.run(command, env=home.env(), capture_output=True, text=True, check=False)
    assert found.returncode == 0, f"{found.stdout}\n{found.stderr}\n{cluster.state()}"
    return found.stdout


def of_run(run: dict) -> dict:
    return {key: run[key] for key in ("name", "evaluation")} | {
        step["name"]: step.get("results", []) for step in run["steps"]
    }


def test_a_run_from_outside_is_the_run_embedded(cluster: Cluster, endpoint: str, run_file, tmp_path: Path) -> None:
    file = run_file("outside")
    found = json.loads(
        outside(cluster, endpoint, "run", "create", "-f", file, "--wait", "-o", "json", folder=tmp_path / "outside")
    )
    embedded = Home(tmp_path / "embedded").json("run", "create", "-f", file, "--wait")
    assert of_run(found) == of_run(embedded)
    assert all(len(jobs) == 1 for jobs in cluster.jobs().values())


def test_an_evaluation_by_kubectl_prints_its_table(cluster: Cluster, client: Client) -> None:
    run = next(iter(client.list_runs())).name
    spec = f"name: by-kubectl\nrun: {run}\nevaluation: {{classifier: {{backbone: SMALL_CNN}}, updates: 40, seeds: 2}}\n"
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{RELEASE}-evaluation"}}
    cluster.kubectl(
        "apply",
        "--server-side",
        "--force-conflicts",
        "-f",
        "-",
        stdin=json.dumps(config | {"data": {"evaluation.yaml": spec}}),
    )
    cluster.kubectl("create", "job", f"--from=cronjob/{RELEASE}-evaluate", "my-eval")
    cluster.kubectl("wait", "--for=condition=complete", "job/my-eval", "--timeout=300s")
    log = cluster.kubectl("logs", "job/my-eval", "-c", "evaluate")
    assert "sealed images" in log
    assert "synthetic-x1" in log
    assert "o evidence" in log or "help" in log or "hurt" in log
    assert "by-kubectl" in [one.spec.name for one in client.list_evaluations()]


def test_a_job_without_a_request_is_not_tried_again(cluster: Cluster) -> None:
    cluster.kubectl("create", "job", f"--from=cronjob/{RELEASE}-train", "no-request")
    cluster.kubectl("wait", "--for=condition=failed", "job/no-request", "--timeout=120s")
    assert len(cluster.get("pods", "-l", "batch.kubernetes.io/job-name=no-request")["items"]) == 1
    assert "NO_REQUEST" in cluster.kubectl("logs", "job/no-request")


def test_who_has_no_token_is_refused(endpoint: str) -> None:
    for token in ("", "nobody-0123456789"):
        with Client(endpoint, token=token, settings=Settings()) as stranger, pytest.raises(Unauthenticated):
            list(stranger.list_runs())


def test_a_run_outlives_upgrade_and_kills(cluster: Cluster, client: Client, run_file) -> None:
    run = client.create_run(run_file("upgraded", 1500))
    wait_until(lambda: any("finetune" in one for one in cluster.jobs()), what=f"a Job\n{cluster.state()}")
    # An upgrade that starts every pod anew, and the orchestrator killed besides.
    cluster.install("upgrade", "--set", "defaults.podAnnotations.upgraded=yes", "--set", "config.jobs.parallelism=1")
    cluster.kubectl("delete", "pod", f"{RELEASE}-orchestrator-0", "--grace-period=0", "--force")
    run = followed(client, run.name)
    assert run.state == run_pb2.Run.STATE_SUCCEEDED, f"{run.error}\n{cluster.state()}"
    assert {key: jobs for key, jobs in cluster.jobs().items() if len(jobs) > 1} == {}


def followed(client: Client, name: str) -> run_pb2.Run:
    """The run at its end; the server may be away meanwhile, which the client waits for."""
    return list(client.watch_run(name))[-1]


def test_networks_are_closed(cluster: Cluster) -> None:
    """A pod that is not of the release reaches none of the services but the gateway."""
    image = cluster.get("deployment", f"{RELEASE}-gateway")["spec"]["template"]["spec"]["containers"][0]["image"]
    code = (
        "import socket, sys\n"
        "def open(host, port):\n"
        "    try: socket.create_connection((host, port), 5); return True\n"
        "    except OSError: return False\n"
        f"print({{name: open('{RELEASE}-' + name, 9000 if name == 'minio' else 50051)"
        f" for name in {(*SERVICES, 'minio')!r}}})"
    )
    overrides = {
        "spec": {
            "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "stranger",
                    "image": image,
                    "command": ["python3", "-c", "import time; time.sleep(5)\n" + code],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        }
    }
    cluster.kubectl("run", "stranger", f"--image={image}", "--restart=Never", "--overrides", json.dumps(overrides))
    cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/stranger", "--timeout=120s")
    found = json.loads(cluster.kubectl("logs", "stranger").replace("'", '"').replace("T", "t").replace("F", "f"))
    assert found == {name: name == "gateway" for name in (*SERVICES, "minio")}


def test_a_run_is_labelled_by_the_model_server(cluster: Cluster, client: Client, run_file, tmp_path: Path) -> None:
    """TorchServe in pods of its own, one of which goes while it is asked: the labels are those of a run embedded."""
    # Room for it on a node of two cores, where the pods of before and after stand side by side.
    small = [f"services.{name}.resources.requests.cpu=50m" for name in ("generation", "labeling", "selection")]
    settings = ("modelServer.enabled=true", "modelServer.pods.resources.requests.cpu=50m", *small)
    cluster.install("upgrade", *(text for setting in settings for text in ("--set", setting)))
    file = run_file("served", 160)
    run = client.create_run(file)
    pod = ("pod", "-l", "app.kubernetes.io/component=model-server")
    wait_until(lambda: loaded(cluster), what=f"a labeler on the model server\n{cluster.state()}", seconds=300)
    cluster.kubectl("delete", *pod, "--wait=false")
    run = followed(client, run.name)
    assert run.state == run_pb2.Run.STATE_SUCCEEDED, f"{run.error}\n{cluster.state()}"
    embedded = Home(tmp_path / "embedded").json("run", "create", "-f", file, "--wait")
    assert of_run(to_dict(run)) == of_run(embedded)
    (server,) = [one for one in cluster.get("pods", *pod[1:])["items"] if not one["metadata"].get("deletionTimestamp")]
    environment = server["spec"]["containers"][0]["env"]
    assert not [one["name"] for one in environment if one["name"].startswith("GENAUG_STORE")]
    cluster.install("upgrade", *(text for setting in small for text in ("--set", setting)))
    assert not cluster.get("deployments", *pod[1:])["items"]


def loaded(cluster: Cluster) -> bool:
    """Whether the model server says that it loaded a classifier."""
    return "classifier loaded" in cluster.kubectl(
        "logs", f"deployment/{RELEASE}-model-server", "-c", "sync", "--tail=-1", check=False
    )


def test_helm_test_runs_a_tiny_run(cluster: Cluster) -> None:
    assert "Phase:          Succeeded" in cluster.helm("test", "--timeout", "8m")


def test_what_was_made_outlives_the_release(cluster: Cluster, client: Client) -> None:
    before = {run.name: run.state for run in client.list_runs()}
    told = cluster.helm("uninstall", "--wait")
    assert "kept due to the resource policy" in told
    kept = {one["metadata"]["name"] for one in cluster.get("pvc")["items"]}
    assert kept == {f"{RELEASE}-minio", f"{RELEASE}-orchestrator"}
    cluster.install()
    with cluster.forwarded() as endpoint, Client(endpoint, token=cluster.token(), settings=Settings()) as again:
        assert {run.name: run.state for run in again.list_runs()} == before
