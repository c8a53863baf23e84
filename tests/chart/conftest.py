"""Renders the chart with Helm. In CI a missing helm is a failure; elsewhere these tests are skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.servers import ROOT, missing

CHART = ROOT / "helm" / "genaug"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))

# A helm that was built without its release's flags takes the cluster for one of long ago.
TEMPLATE = ("template", "--kube-version", "1.33.0", "genaug")

Manifest = dict[str, Any]
Render = Callable[..., list[Manifest]]


@pytest.fixture(scope="session")
def helm() -> str:
    found = shutil.which("helm", path=os.pathsep.join([str(ROOT / ".tools" / "bin"), os.environ["PATH"]]))
    if found is None:
        missing("helm")
        raise AssertionError("unreachable")
    return found


@pytest.fixture(scope="session")
def render(helm: str) -> Render:
    """render(values file or None, "key=value", ...) -> the manifests."""

    def call(values: Path | None = None, *settings: str) -> list[Manifest]:
        command = [helm, *TEMPLATE, str(CHART), "--namespace", "ns"]
        command += ["--values", str(values)] if values else []
        for setting in settings:
            command += ["--set", setting]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stderr
        return [one for one in yaml.safe_load_all(found.stdout) if one]

    return call


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The pod templates, by "Kind/name"."""
    found: dict[str, Manifest] = {}
    for one in manifests:
        spec = one.get("spec", {})
        if one["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if one["kind"] == "Pod":
            template = one
        elif "template" in spec:
            template = spec["template"]
        else:
            continue
        found[f"{one['kind']}/{one['metadata']['name']}"] = template
    return found


def containers(template: Manifest) -> list[Manifest]:
    """All containers of a pod template."""
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def mounted_config(manifests: list[Manifest], container: Manifest) -> str:
    """The text of the genaug.yaml that a container reads; "" for a program that is not genaug."""
    path = environment(container).get("GENAUG_CONFIG")
    if path is None:
        return ""
    (mount,) = [mount for mount in container["volumeMounts"] if mount["mountPath"] == path]
    (config,) = [
        manifest
        for manifest in manifests
        if manifest["kind"] == "ConfigMap" and manifest["metadata"]["name"] == "genaug-config"
    ]
    text: str = config["data"][mount["subPath"]]
    return text


def environment(container: Manifest) -> dict[str, Any]:
    """A container's environment: values, or where they come from."""
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container.get("env", [])}
