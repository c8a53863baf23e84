"""What must start fast and small does: no torch where no model is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from genaug.cli.app import COMMANDS, app, load

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


HELP = """
import json, sys
from genaug.cli import main
sys.argv = ["genaug", "--help"]
try:
    main()
except SystemExit:
    print(json.dumps(sorted(sys.modules)))
"""
# What the commands need, and the help does not; half a second and more.
OF_COMMANDS = ("grpc", "google", "pydantic", "yaml", "rich", "opentelemetry", "obstore", "numpy", "asyncio")


def test_the_help_loads_no_command(tmp_path: Path) -> None:
    loaded = modules(HELP, "", tmp_path)
    assert "genaug.cli.app" in loaded
    assert not loaded & {*HEAVY, *OF_COMMANDS}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_line_of_the_help_is_the_first_of_the_command(name: str) -> None:
    command = load(name)
    assert command.name == name
    assert command.help.splitlines()[0].partition("Exit status")[0].strip() == COMMANDS[name][1]


def test_every_command_has_a_line() -> None:
    modules = {place.partition(":")[0] for place, _ in COMMANDS.values()}
    files = (Path(sys.modules[load.__module__].__file__ or "").parent).glob("*.py")
    assert modules == {file.stem for file in files if "@command(" in file.read_text()}
    assert app.info.name == "genaug"


@pytest.mark.parametrize("module", ["genaug.client", "genaug.cli", "genaug.serve", "genaug.jobs"])
def test_the_front_is_light(module: str, tmp_path: Path) -> None:
    assert not modules(IMPORT, module, tmp_path) & set(HEAVY)


def test_an_import_loads_readers_of_other_formats_only_for_them(tmp_path: Path) -> None:
    for module in ("genaug.cli.datasets", "genaug.client.importers.folder"):
        loaded = modules(IMPORT, module, tmp_path)
        assert not loaded & {"numpy", "PIL", "pyarrow", "pydicom", "pillow_heif", "openpyxl"}


@pytest.mark.parametrize("service", ["orchestrator", "assembly", "generation", "labeling", "selection"])
def test_a_service_loads_torch_with_its_first_model_alone(service: str, tmp_path: Path) -> None:
    assert not modules(SERVE, service, tmp_path) & set(HEAVY)
