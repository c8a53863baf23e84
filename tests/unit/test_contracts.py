"""The directions of import hold, and each contract sees a breach when one is planted."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = Path(sys.executable).with_name("lint-imports")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT, "--no-cache"], cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(folder / "services")}
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contracts")
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(ROOT / "services", folder / "services", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return folder


def test_the_contracts_hold(copy: Path) -> None:
    found = lint(copy)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("shared/names.py", "import genaug.client", "Layers"),
        ("utils.py", "", "Layers"),
        ("labeling/label.py", "import genaug.selection.choose", "Services meet on the wire"),
        ("selection/choose.py", "import grpc", "Domain modules"),
        ("assembly/seal.py", "import google.protobuf.message", "Domain modules"),
        ("generation/sampling/draw.py", "import genaug.v1.run_pb2", "Domain modules"),
        ("generation/training/loop.py", "import genaug.generation.generators.transforms", "Generic generation code"),
        ("schema/run.py", "import grpc", "The schema needs"),
        ("schema/run.py", "import genaug.client", "Layers"),
        ("shared/names.py", "import genaug.schema.model", "Layers"),
        ("orchestrator/plan.py", "import torch", "Light packages"),
        ("cli/output.py", "import sklearn", "Light packages"),
        ("assembly/seal.py", "import torchvision", "Light packages"),
    ],
)
def test_a_planted_breach_is_seen(copy: Path, module: str, line: str, contract: str) -> None:
    path = copy / "services" / "genaug" / module
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\n{line}\n")
    try:
        found = lint(copy)
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before)
    assert found.returncode == 1, found.stdout
    if module == "utils.py":
        assert "utils" in found.stdout
    else:
        assert re.search(rf"^{contract}.* BROKEN", found.stdout, re.MULTILINE), found.stdout
