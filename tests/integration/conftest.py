"""Real servers: genaug's own processes, MinIO and Postgres, each on a free port."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GENAUG = Path(sys.executable).with_name("genaug")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_until(holds: Callable[[], bool], *, what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds} s")
        time.sleep(0.1)


def missing(what: str) -> None:
    """A server that is not installed is a failure in CI, and a skip on a laptop."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed; .ci/run installs it")
    pytest.skip(f"{what} is not installed")


@dataclass
class Home:
    """The command line over a home of its own."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def env(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("GENAUG_")}
        return clean | {"GENAUG_HOME": str(self.folder), "NO_COLOR": "1"} | self.environment

    def run(self, *arguments: str | Path, code: int = 0, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        found = subprocess.run(
            [GENAUG, *map(str, arguments)], env=self.env(), capture_output=True, text=True, timeout=timeout
        )
        assert found.returncode == code, (
            f"{arguments}: {found.returncode}\n{found.stdout}\n{found.stderr}\n{self.log()}"
        )
        return found

    def json(self, *arguments: str | Path, code: int = 0):
        return json.loads(self.run(*arguments, "-o", "json", code=code).stdout)

    def start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Start a command as the leader of its own process group."""
        return subprocess.Popen(
            [GENAUG, *map(str, arguments)],
            env=self.env(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def log(self) -> str:
        logs = sorted((self.folder / "logs").glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in logs)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("home"))


RUN_FILE = """
name: tiny
dataset: digits
import:
  format: digits
  keep: {"0": 60, "1": 60, "2": 40, "3": 40}
  split: [0.5, 0.2, 0.3]
classes: ["0", "1", "2", "3"]
generator: {train_steps: 150, batch_size: 32, base_channels: 16}
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


@dataclass(frozen=True)
class Minio:
    endpoint: str
    user: str = "admin"
    password: str = "change-me-please"

    def environment(self, bucket: str) -> dict[str, str]:
        """Settings of a store in `bucket`."""
        return {
            "GENAUG_STORE__URL": f"s3://{bucket}",
            "GENAUG_STORE__ENDPOINT": self.endpoint,
            "GENAUG_STORE__ACCESS_KEY_ID": self.user,
            "GENAUG_STORE__SECRET_ACCESS_KEY": self.password,
        }

    def make_bucket(self, bucket: str) -> None:
        from minio import Minio as Sdk

        Sdk(self.endpoint.removeprefix("http://"), self.user, self.password, secure=False).make_bucket(bucket)


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
        wait_until(lambda: _listens(port), what="MinIO")
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


def _listens(port: int) -> bool:
    with socket.socket() as found:
        return found.connect_ex(("127.0.0.1", port)) == 0
