"""Fixtures of real servers: genaug's own processes, MinIO and Postgres, each on a free port."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers import ROOT, Home, Minio, free_port, listens, missing, wait_until

# Keeps the embedded server at hand between commands, as a person's second terminal would.
HOLD = """
import sys
from genaug.client import Client
with Client():
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home whose embedded server stays up for all tests."""
    home = Home(tmp_path_factory.mktemp("home"))
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(command, env=home.env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n", home.log()
        yield home
        holder.communicate()


RUN_FILE = """
name: tiny
dataset: digits
import:
  format: digits
  keep: {"0": 60, "1": 60, "2": 40, "3": 40}
  split: [0.5, 0.2, 0.3]
classes: ["0", "1", "2", "3"]
generator: {class_conditional: {train_steps: 150, batch_size: 32, base_channels: 16}}
generation: {steps: 8, rounds: 2}
labeling: {updates: 60}
selection: {classes: ["0", "1"]}
scenarios:
  - {name: real}
  - {name: real-balanced, sampling: CLASS_BALANCED}
  - {name: synthetic-x1, synthetic: 1}
  - {name: traditional-x1, transformed: 1}
evaluation: {updates: 60, seeds: 2, resamples: 300}
"""


@pytest.fixture(scope="session")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "tiny.yaml"
    path.write_text(RUN_FILE)
    return path


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minio]:
    program = shutil.which("minio", path=f"{ROOT / '.tools' / 'bin'}:{os.environ['PATH']}")
    if program is None:
        missing("MinIO")
    port, console = free_port(), free_port()
    found = Minio(f"http://127.0.0.1:{port}")
    server = subprocess.Popen(
        [
            *(program, "server", tmp_path_factory.mktemp("minio")),
            *("--address", f"127.0.0.1:{port}", "--console-address", f"127.0.0.1:{console}"),
        ],
        env=os.environ | {"MINIO_ROOT_USER": found.user, "MINIO_ROOT_PASSWORD": found.password},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: listens(port), what="MinIO")
        yield found
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a fresh database."""
    programs = [*sorted(Path("/usr/lib/postgresql").glob("*/bin")), Path("/usr/local/bin"), Path("/usr/bin")]
    program = next((folder for folder in programs if (folder / "initdb").exists()), None)
    if program is None:
        missing("Postgres")
    port = free_port()
    # Postgres refuses to run as root; its folder must be reachable by whoever runs it.
    user = pwd.getpwnam("nobody") if os.getuid() == 0 else None
    identity = {"user": user.pw_uid, "group": user.pw_gid} if user else {}
    folder = Path(f"/tmp/genaug-postgres-{port}")
    folder.mkdir()
    try:
        if user:
            os.chown(folder, user.pw_uid, user.pw_gid)
        options = {"cwd": folder, "check": True, "capture_output": True} | identity
        data = folder / "data"
        subprocess.run([program / "initdb", "-D", data, "-U", "genaug", "-A", "trust"], **options)
        server = subprocess.Popen(
            [program / "postgres", "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", folder],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **identity,
        )
        try:
            import psycopg

            def answers() -> bool:
                try:
                    psycopg.connect(f"postgresql://genaug@127.0.0.1:{port}/postgres", connect_timeout=2).close()
                except psycopg.OperationalError:
                    return False
                return True

            wait_until(answers, what="Postgres")
            with psycopg.connect(f"postgresql://genaug@127.0.0.1:{port}/postgres", autocommit=True) as connection:
                connection.execute("CREATE DATABASE genaug")
            yield f"postgresql://genaug@127.0.0.1:{port}/genaug"
        finally:
            server.terminate()
            server.wait(20)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def run(home: Home, run_file: Path) -> dict:
    """A finished run in `home`."""
    return home.json("run", "create", "-f", run_file, "--wait")
