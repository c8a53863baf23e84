from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from pydantic import Field
from tests.chart.conftest import CHART, TEMPLATE, VALUES, Render, containers, environment, mounted_config, pods
from tests.chart.schema import problems
from tests.servers import ROOT

from genaug.shared.settings import Settings, environment_names, load_settings
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
def test_settings_are_in_the_file_and_only_credentials_in_the_environment(render: Render, values: Path) -> None:
    credentials = {"STORE__ACCESS_KEY_ID", "STORE__SECRET_ACCESS_KEY", "AUTH__TOKEN", "DATABASE__URL"}
    assert {f"GENAUG_{name}" for name in credentials} <= set(environment_names())
    for name, template in pods(render(values)).items():
        for container in containers(template):
            variables = {name for name in environment(container) if name.startswith("GENAUG_")}
            assert variables <= {f"GENAUG_{name}" for name in credentials | {"CONFIG"}}
            assert ("GENAUG_CONFIG" in variables) == (name != "StatefulSet/genaug-minio"), name
            sources = {volume["name"]: volume.get("configMap") for volume in template["spec"]["volumes"]}
            assert "GENAUG_CONFIG" not in variables or sources["config"] == {"name": "genaug-config"}, name


# Containers that are not named as the component whose settings they read.
OTHER_COMPONENTS = {
    "plan": "orchestrator",
    "torchserve": "model-server",
    "sync": "model-server",
    "provision": "genaug",
    "test": "genaug",
}


@ALL
def test_genaug_reads_the_file_of_every_container(
    render: Render, values: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "genaug.yaml"
    monkeypatch.setenv("GENAUG_CONFIG", str(file))
    manifests = render(values)
    for name, template in pods(manifests).items():
        for container in containers(template):
            file.write_text(mounted_config(manifests, container))
            if not file.read_text():
                assert name == "StatefulSet/genaug-minio"
                continue
            mounts = {mount["mountPath"]: mount.get("subPath") for mount in container["volumeMounts"]}
            component = OTHER_COMPONENTS.get(container["name"], container["name"])
            assert mounts["/etc/genaug/genaug.yaml"] == f"{component}.yaml", name
            settings = load_settings()
            assert settings.store.url.startswith("s3://"), name
            assert settings.jobs.runner == "kubernetes", name
            assert not [secret for secret in (settings.store.access_key_id, settings.auth.token) if secret], name
            grace = template["spec"].get("terminationGracePeriodSeconds", 30)
            if container.get("args", [""])[0] == "serve":
                assert settings.server.grace_s < grace, name
                ports = {port["name"]: port["containerPort"] for port in container["ports"]}
                assert settings.server.address.endswith(f":{ports['grpc']}")
                assert settings.server.health_address.endswith(f":{ports['health']}")
                assert settings.server.metrics_address.endswith(f":{ports['metrics']}")


def settings_of(render: Render, *arguments: str) -> dict[str, dict[str, Any]]:
    """The contents of genaug.yaml, by component."""
    manifests = render(CHART / "ci" / "minimal-values.yaml", *arguments)
    (config,) = [manifest for manifest in manifests if manifest["metadata"]["name"] == "genaug-config"]
    return {name.removesuffix(".yaml"): yaml.safe_load(text) for name, text in config["data"].items()}


def test_config_is_for_all_and_a_components_own_overrides_it(render: Render) -> None:
    found = settings_of(
        render, "config.threads=3", "config.inference.queue=7", "jobs.train.config.threads=5", "config.store.region=x"
    )
    assert {name: config["threads"] for name, config in found.items() if config["threads"] != 3} == {"train": 5}
    assert {config["inference"]["queue"] for config in found.values()} == {7}
    assert {tuple(sorted(config["store"].items())) for config in found.values()} == {
        (("endpoint", "http://genaug-minio.ns.svc:9000"), ("region", "x"), ("url", "s3://genaug"))
    }


def test_a_setting_restarts_the_pods_that_read_it(render: Render) -> None:
    def checksums(*arguments: str) -> dict[str, str]:
        found = pods(render(CHART / "ci" / "minimal-values.yaml", *arguments))
        return {
            name.removeprefix("Deployment/genaug-"): template["metadata"]["annotations"]["genaug.io/configuration"]
            for name, template in found.items()
            if name.startswith("Deployment/")
        }

    before, own, all_ = checksums(), checksums("services.labeling.config.threads=2"), checksums("config.threads=2")
    assert {name for name, checksum in own.items() if checksum != before[name]} == {"labeling"}
    assert not [name for name, checksum in all_.items() if checksum == before[name]]


def test_computed_settings_are_those_that_the_readme_leaves_out(render: Render, document: ModuleType) -> None:
    def leaves(values: dict[str, Any], path: str = "") -> Iterator[str]:
        for name, value in values.items():
            where = f"{path}{name}"
            if where in document.COMPUTED or not isinstance(value, dict):
                yield where
            else:
                yield from leaves(value, f"{where}.")

    chosen = {"auth.mode", "server.connection_age_s", "store.url", "store.endpoint"}
    assert set(leaves(settings_of(render)["genaug"])) == set(document.COMPUTED) | chosen


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "config.server.address=0.0.0.0:1",
            'config.server.address: the chart sets it to "0.0.0.0:50051"; leave it out',
        ),
        ("config.database.executor_id=x", "config.database.executor_id: the chart sets it to"),
        ("services.assembly.config.server.grace_s=3", "config.server.grace_s: the chart sets it to 55"),
        ("config.store.endpoint=http://x", "config.store.endpoint: the chart sets it to"),
        ("config.store.url=file:///x", "config.store.url: name the object store as s3://bucket/prefix"),
        ("services.labeling.config.auth.mode=none", "labeling.config.auth: it must be the same for all components"),
        ("jobs.train.config.store.region=x", "train.config.store: it must be the same for all components"),
        ("defaults.config.threads=2", "defaults.config: settings of all components go into config"),
    ],
)
def test_a_setting_that_contradicts_the_chart_is_refused(helm: str, setting: str, message: str) -> None:
    assert message in refusal(helm, setting)


def test_the_model_server_decides_where_labeling_asks(helm: str) -> None:
    setting = "services.labeling.config.labeling.predictor=in-process"
    assert 'the chart sets it to "open-inference"' in refusal(helm, "modelServer.enabled=true", setting)


def refusal(helm: str, *settings: str) -> str:
    """The error of rendering with `settings`, which must fail."""
    command = [helm, *TEMPLATE, str(CHART), "--set", "minio.enabled=true"]
    for setting in settings:
        command += ["--set", setting]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    return result.stderr


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
        name: labeling["open_inference"]["address"]
        for name, template in pods(manifests).items()
        for container in containers(template)
        if (labeling := (yaml.safe_load(mounted_config(manifests, container)) or {}).get("labeling"))
        and labeling["predictor"] == "open-inference"
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
        ("store.url=s3://x", "store.url"),
        ("auth.mode=none", "auth.mode"),
        ("jobs.runs=2", "jobs.runs"),
        ("defaults.device=cpu", "defaults.device"),
        ("config.store.endpoint=x", "config.store.endpoint"),
        ("config.threads=many", "config.threads"),
        ("config.auth.token=x", "config.auth.token"),
        ("jobs.train.config.inference.quue=1", "jobs.train.config.inference.quue"),
    ],
)
def test_a_typo_fails_with_its_path(helm: str, setting: str, named: str) -> None:
    error = refusal(helm, setting)
    assert named.split(".")[0] in error
    assert named.split(".")[-1] in error


def test_without_a_store_the_error_says_what_to_do(helm: str) -> None:
    found = subprocess.run([helm, *TEMPLATE, str(CHART)], capture_output=True, text=True, check=False)
    assert "config.store.url: name the object store as s3://bucket/prefix, or set minio.enabled" in found.stderr


def test_every_value_is_in_the_schema_and_in_the_readme() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    assert set(values) == set(schema["properties"]) - {"global"}
    assert set(values["defaults"]) == set(schema["$defs"]["component"]["properties"]) - {"config"}
    readme = (CHART / "README.md").read_text()
    assert all(f"`{key}" in readme for key in values)


@pytest.fixture
def document() -> ModuleType:
    """The script helm/document.py."""
    spec = importlib.util.spec_from_file_location("document", ROOT / "helm" / "document.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _OneMoreSetting(Settings):
    addition: int = Field(7, ge=1, le=9, description="Setting that is in no chart yet.")


def test_a_new_setting_is_in_the_chart_by_its_schema_alone(
    document: ModuleType, monkeypatch: pytest.MonkeyPatch, copy: Path, helm: str
) -> None:
    monkeypatch.setattr(document, "Settings", _OneMoreSetting)
    document.main(copy)
    assert (
        "| `config.addition` | `7` | Setting that is in no chart yet. (≥ 1, ≤ 9) |" in (copy / "README.md").read_text()
    )
    chart = copy / "chart"
    shutil.copytree(CHART, chart)
    shutil.copy(copy / "values.schema.json", chart)
    command = [helm, *TEMPLATE, str(chart), "--set", "minio.enabled=true", "--set"]
    accepted = subprocess.run([*command, "config.addition=8"], capture_output=True, text=True, check=True)
    assert "    addition: 8\n" in accepted.stdout
    refused = subprocess.run([*command, "config.addition=10"], capture_output=True, text=True, check=False)
    assert "config.addition" in refused.stderr


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
    schema = json.loads((CHART / "values.schema.json").read_text())
    schema["$defs"]["settings"] = {}
    (tmp_path / "values.schema.json").write_text(json.dumps(schema))
    subprocess.run([sys.executable, str(ROOT / "helm/document.py"), str(tmp_path)], check=True)
    return tmp_path


def test_what_follows_from_the_chart_has_been_written(copy: Path) -> None:
    for written, name in (
        ("k8s", "genaug.yaml"),
        ("k8s", "examples/evaluation-job.yaml"),
        ("helm/genaug", "README.md"),
        ("helm/genaug", "values.schema.json"),
    ):
        assert (ROOT / written / name).read_text() == (copy / name).read_text(), f"run `make chart`: {written}/{name}"
