"""Clients in other languages, made from the protos alone, against a server that wants a token."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.servers import GENAUG, ROOT, Home, free_port, listens, missing, wait_until

TYPESCRIPT = ROOT / "examples" / "clients" / "typescript"
TOKEN = "a-token-0123456789"

Ask = Callable[..., list[str]]


@pytest.fixture(scope="module")
def address(home: Home, run: dict) -> Iterator[str]:
    """A generation service over the home's store, which answers only who shows the token."""
    port = free_port()
    environment = home.env() | {"GENAUG_AUTH__MODE": "token", "GENAUG_AUTH__TOKEN": TOKEN}
    command = [GENAUG, "serve", "generation", "--address", f"127.0.0.1:{port}"]
    with (home.folder / "logs" / "generation.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_until(lambda: listens(port), what="generation")
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The TypeScript client, built beside a copy of the protos: the checkout is left as it is."""
    if shutil.which("npm") is None:
        missing("Node")
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "protos", folder / "protos")
    built = folder / TYPESCRIPT.relative_to(ROOT)
    shutil.copytree(TYPESCRIPT, built, ignore=shutil.ignore_patterns("node_modules", "dist"))
    if not _succeeds(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], built):
        missing("what the TypeScript client needs from npm")
    assert _succeeds(["npm", "run", "build"], built)
    return built / "dist" / "generate.js"


def _succeeds(command: list[str], folder: Path) -> bool:
    return subprocess.run(command, cwd=folder, timeout=200).returncode == 0


@pytest.fixture
def ask(program: Path, address: str, home: Home, tmp_path: Path) -> Ask:
    """The command line that asks for images of class 2, into the test's folder."""
    generator = next(g for g in home.json("generator", "list") if "class_conditional" in g["spec"])
    line = ["node", str(program), "--endpoint", address, "--generator", generator["name"], "--class", "2"]
    return lambda *more: [*line, "--output", str(tmp_path), *more]


def run_node(command: list[str], *, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"GENAUG_AUTH__TOKEN": token}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_typescript_gets_images_that_draw_again(ask: Ask, home: Home, tmp_path: Path) -> None:
    found = run_node(ask("--count", "3", "--seed", "5", "--steps", "6", "--profile", "TURBO"))
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert lines[0] == "0/3 images, 0/0 steps"
    assert "3/3 images, 18/18 steps" in lines
    drawn, rejected = (int(word) for word in lines[-1].split(": ")[1].split() if word.isdecimal())
    assert drawn + rejected == 3
    receipts = sorted(tmp_path.glob("*.json"))
    assert len(receipts) == drawn >= 1
    sampler = json.loads(receipts[0].read_text())["sampler"]
    assert (sampler["steps"], sampler["profile"]) == (6, "PROFILE_TURBO")
    again = tmp_path / "again.png"
    home.run("images", "regenerate", receipts[0], "-o", again)
    assert again.read_bytes() == receipts[0].with_suffix(".png").read_bytes()


def test_typescript_tells_errors_apart(ask: Ask) -> None:
    for command, token, said in (
        (ask(), "", "UNAUTHENTICATED: no token"),
        (ask("--steps", "5000"), TOKEN, "INVALID_ARGUMENT: sampler.steps: 5000 is not within 1 and 1000 [BAD_SAMPLER]"),
        (ask("--count", "5000", "--steps", "900", "--deadline", "1"), TOKEN, "DEADLINE_EXCEEDED"),
    ):
        found = run_node(command, token=token)
        assert found.returncode == 1
        assert found.stderr.startswith(said)


def test_typescript_stops_drawing_on_ctrl_c(ask: Ask) -> None:
    command = ask("--count", "5000", "--steps", "900")
    environment = os.environ | {"GENAUG_AUTH__TOKEN": TOKEN}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0/5000 images, 0/0 steps\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.startswith("CANCELLED")
