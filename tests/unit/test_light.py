"""What must start fast and small does: no torch where no model is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "diffusers", "sklearn", "torchvision", "openTSNE", "scipy")

SERVE = """
import json, sys
from genaug.serve import make_server
from genaug.shared.settings import load_settings
server = make_server(load_settings(server={"address": "127.0.0.1:0"}), [sys.argv[1]])
server.start()
print(json.dumps(sorted(sys.modules)))
server.stop(0)
"""
IMPORT = "import json, sys, importlib; importlib.import_module(sys.argv[1]); print(json.dumps(sorted(sys.modules)))"


def modules(script: str, argument: str, home: Path) -> set[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GENAUG_")}
    found = subprocess.run(
        [sys.executable, "-c", script, argument],
        env=environment | {"GENAUG_HOME": str(home)},
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(found.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", ["genaug.client", "genaug.cli", "genaug.serve", "genaug.jobs"])
def test_the_front_is_light(module: str, tmp_path: Path) -> None:
    assert not modules(IMPORT, module, tmp_path) & set(HEAVY)


@pytest.mark.parametrize("service", ["orchestrator", "assembly"])
def test_a_service_without_models_never_loads_torch(service: str, tmp_path: Path) -> None:
    assert not modules(SERVE, service, tmp_path) & set(HEAVY)
