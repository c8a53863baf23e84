from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.chart.conftest import CHART, TEMPLATE, VALUES, Render, containers, environment, pods
from tests.chart.schema import problems
from tests.servers import ROOT

from genaug.shared.settings import environment_names
from genaug.shared.store import ROLES

ALL = pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
SECRET_WORDS = re.compile(r"secret|password|token", re.IGNORECASE)


@ALL
def test_kubernetes_knows_every_field(render: Render, values: Path) -> None:
    assert [one for manifest in render(values) for one in problems(manifest)] == []


def test_the_schemas_find_what_is_wrong(render: Render) -> None:
    deployment = next(one for one in render(VALUES[-1]) if one["kind"] == "Deployment")
    deployment["spec"]["replica"] = 1
    deployment["spec"]["template"]["spec"]["containers"][0]["ports"] = "grpc"
    del deployment["spec"]["selector"]
    found = "\n".join(problems(deployment))
    assert "spec.replica: Extra inputs are not permitted" in found
    assert "ports: Input should be a valid list" in found
    assert "spec.selector: Field required" in found


@ALL
def test_pods_are_restricted(render: Render, values: Path) -> None:
    for name, template in pods(render(values)).items():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["runAsUser"] == 10001, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert all("hostPath" not in volume for volume in spec.get("volumes", [])), name
        for container in containers(template):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"], name
            assert not context["allowPrivilegeEscalation"], name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["limits"]["memory"], name
            assert not container["image"].endswith(":latest"), name


@ALL
def test_a_token_of_kubernetes_is_mounted_for_the_orchestrator_alone(render: Render, values: Path) -> None:
    manifests = render(values)
    mounted = {name for name, template in pods(manifests).items() if template["spec"]["automountServiceAccountToken"]}
    assert mounted == {"StatefulSet/genaug-orchestrator"}
    bindings = [one for one in manifests if one["kind"] == "RoleBinding"]
    assert [one["subjects"][0]["name"] for one in bindings] == ["genaug-orchestrator"]
    assert not [one for one in manifests if one["kind"].startswith("Cluster")]
    role = next(one for one in manifests if one["kind"] == "Role")
    assert {(r, v) for rule in role["rules"] for r in rule["resources"] for v in rule["verbs"]} == {
        *(("jobs", verb) for verb in ("get", "create", "delete")),
        ("cronjobs", "get"),
        ("pods", "list"),
    }


@ALL
def test_secrets_come_from_secrets_alone(render: Render, values: Path) -> None:
    for name, template in pods(render(values)).items():
        for container in containers(template):
            for variable, value in environment(container).items():
                if SECRET_WORDS.search(variable) and not variable.endswith("TOKENS_FILE"):
                    assert isinstance(value, dict), f"{name}: {variable}"
                    assert "secretKeyRef" in value, f"{name}: {variable}"


@ALL
def test_every_variable_names_a_setting(render: Render, values: Path) -> None:
    known = set(environment_names())
    for template in pods(render(values)).values():
        for container in containers(template):
            assert {name for name in environment(container) if name.startswith("GENAUG_")} <= known


def test_each_process_has_the_identity_of_its_step(render: Render) -> None:
    found = {}
    for name, template in pods(render(CHART / "ci" / "minimal-values.yaml")).items():
        for container in containers(template):
            key = environment(container).get("GENAUG_STORE__ACCESS_KEY_ID")
            if key:
                found[name.split("/")[1], container["name"]] = key["secretKeyRef"]["key"].removesuffix("-access-key-id")
    assert found.pop(("genaug-minio", "minio"), None) is None
    provision = next(key for key in found if key[0].startswith("genaug-provision"))
    assert found.pop(provision) == "root-user"
    assert found == {
        **{
            (f"genaug-{service}", service): service
            for service in ("generation", "labeling", "selection", "assembly", "orchestrator")
        },
        **{(f"genaug-{step}", step): step for step in ("finetune", "train", "evaluate", "report")},
        ("genaug-evaluate", "plan"): "orchestrator",
        ("genaug-evaluate", "train"): "train",
    }
    assert set(found.values()) == set(ROLES)


def test_the_roles_are_those_of_the_store(render: Render) -> None:
    secret = next(
        one
        for one in render(CHART / "ci" / "minimal-values.yaml")
        if one["kind"] == "Secret" and one["metadata"]["name"] == "genaug-store"
    )
    made = {key.removesuffix("-access-key-id") for key in secret["data"] if key.endswith("-access-key-id")}
    assert made == set(ROLES)


def model_server(render: Render, *settings: str) -> dict[str, Any]:
    return pods(render(CHART / "ci" / "minimal-values.yaml", "modelServer.enabled=true", *settings))


def test_labeling_asks_the_model_server_and_nobody_else_may(render: Render) -> None:
    manifests = render(CHART / "ci" / "minimal-values.yaml", "modelServer.enabled=true")
    (service,) = [one for one in manifests if one["kind"] == "Service" and "model-server" in one["metadata"]["name"]]
    ports = {one["name"]: one["port"] for one in service["spec"]["ports"]}
    asked = {
        name: found["GENAUG_LABELING__OPEN_INFERENCE__ADDRESS"]
        for name, template in pods(manifests).items()
        for container in containers(template)
        if (found := environment(container)).get("GENAUG_LABELING__PREDICTOR") == "open-inference"
    }
    assert asked == {"Deployment/genaug-labeling": f"{service['metadata']['name']}.ns.svc:{ports['grpc']}"}
    policies = {one["metadata"]["name"]: one["spec"] for one in manifests if one["kind"] == "NetworkPolicy"}
    (rule,) = policies["genaug-model-server"]["ingress"]
    assert rule["ports"] == [{"port": ports["grpc"]}]
    (caller,) = rule["from"]
    assert caller["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "labeling"
    assert not [one for one in render(CHART / "ci" / "minimal-values.yaml") if "model-server" in str(one)]


def test_what_runs_models_has_no_credentials(render: Render) -> None:
    template = model_server(render)["Deployment/genaug-model-server"]
    server, sync = containers(template)
    assert not [name for name in environment(server) if name.startswith("GENAUG_STORE")]
    assert environment(sync)["GENAUG_STORE__ACCESS_KEY_ID"]["secretKeyRef"]["key"] == "labeling-access-key-id"
    # The management API, which loads code, is on no port of the pod.
    assert {port["containerPort"] for port in server["ports"]} == {7070, 8080, 8082}


def test_the_model_server_is_ready_when_its_models_are_and_drains(render: Render) -> None:
    given = ("modelServer.precision=BFLOAT16", "modelServer.classifiers={classifiers/" + "a" * 32 + "}")
    template = model_server(render, *given, "modelServer.pods.gracePeriodSeconds=12")["Deployment/genaug-model-server"]
    server, sync = containers(template)
    assert "readinessProbe" not in server, "/ping says ready while a worker loads, or dies again and again"
    assert sync["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert {"--precision=BFLOAT16", f"--classifier=classifiers/{'a' * 32}"} <= set(sync["args"])
    assert server["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "7"]
    for container in (server, sync):
        assert {"name": "models", "mountPath": "/models"} in container["volumeMounts"]


def test_everything_is_denied_first(render: Render) -> None:
    policies = [one for one in render(VALUES[0]) if one["kind"] == "NetworkPolicy"]
    deny = next(one for one in policies if one["metadata"]["name"] == "genaug-default-deny")
    assert deny["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(deny["spec"])


def test_one_services_overlay_leaves_the_others_alone(render: Render) -> None:
    manifests = pods(
        render(
            CHART / "ci" / "minimal-values.yaml",
            "services.generation.gpu.count=2",
            "services.generation.image.digest=sha256:" + "a" * 64,
            "services.generation.shmSize=1Gi",
            "defaults.nodeSelector.zone=b",
        )
    )
    generation = manifests["Deployment/genaug-generation"]["spec"]
    labeling = manifests["Deployment/genaug-labeling"]["spec"]
    assert generation["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert generation["containers"][0]["image"] == "genaug-generation@sha256:" + "a" * 64
    assert "nvidia.com/gpu" not in labeling["containers"][0]["resources"]["limits"]
    assert {"name": "shm", "mountPath": "/dev/shm"} in generation["containers"][0]["volumeMounts"]
    assert generation["nodeSelector"] == labeling["nodeSelector"] == {"zone": "b"}


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("services.generation.replica=3", "services.generation"),
        ("stor.url=s3://x", "stor"),
        ("jobs.train.gpu.cuont=1", "jobs.train.gpu"),
        ("modelServer.pods.replica=3", "modelServer.pods"),
        ("store.url=http://x", "store.url"),
        ("defaults.threads=many", "defaults.threads"),
    ],
)
def test_a_typo_fails_with_its_path(helm: str, setting: str, named: str) -> None:
    command = [helm, *TEMPLATE, str(CHART), "--set", "minio.enabled=true", "--set", setting]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode != 0
    assert named.split(".")[0] in found.stderr
    assert named.split(".")[-1] in found.stderr


def test_without_a_store_the_error_says_what_to_do(helm: str) -> None:
    found = subprocess.run([helm, *TEMPLATE, str(CHART)], capture_output=True, text=True, check=False)
    assert "store.url: say where the object store is, or set minio.enabled" in found.stderr


def test_every_value_is_in_the_schema_and_in_the_readme() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    assert set(values) == set(schema["properties"]) - {"global"}
    assert set(values["defaults"]) == set(schema["$defs"]["component"]["properties"])
    readme = (CHART / "README.md").read_text()
    assert all(f"`{key}" in readme for key in values)


@pytest.fixture
def copy(tmp_path: Path, helm: str) -> Path:
    """What `make chart` writes, written anew."""
    rendered = subprocess.run(
        [helm, *TEMPLATE, str(CHART), "--namespace", "genaug", "--values", str(ROOT / "k8s/values.yaml")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (tmp_path / "examples").mkdir()
    (tmp_path / "genaug.yaml").write_text(rendered)
    subprocess.run([sys.executable, str(ROOT / "helm/evaluation_job.py"), str(tmp_path)], check=True)
    for name in ("Chart.yaml", "values.yaml"):
        (tmp_path / name).write_text((CHART / name).read_text())
    subprocess.run([sys.executable, str(ROOT / "helm/document.py"), str(tmp_path)], check=True)
    return tmp_path


def test_what_follows_from_the_chart_has_been_written(copy: Path) -> None:
    for written, name in (
        ("k8s", "genaug.yaml"),
        ("k8s", "examples/evaluation-job.yaml"),
        ("helm/genaug", "README.md"),
    ):
        assert (ROOT / written / name).read_text() == (copy / name).read_text(), f"run `make chart`: {written}/{name}"
