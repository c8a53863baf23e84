"""How tests run the command line and find real servers."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HANG_S = 240
"""Seconds after which a wait counts as a hang: far above what any needs under load, below pytest's own limit."""
GENAUG = Path(sys.executable).with_name("genaug")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_until(holds: Callable[[], bool], *, what: str, seconds: float = HANG_S) -> None:
    """Wait for something that another thread or process does; how long it takes is not tested."""
    deadline, pause = time.monotonic() + seconds, 0.001
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds} s")
        time.sleep(pause)
        pause = min(2 * pause, 0.1)


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
        own = {"GENAUG_HOME": str(self.folder), "GENAUG_EMBEDDED__IDLE_S": "0", "NO_COLOR": "1"}
        return clean | own | self.environment

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

    def server_pid(self) -> int:
        """Process of the embedded server, the leader of a session of its own."""
        return int(json.loads((self.folder / "server.json").read_text())["pid"])

    def has_server(self) -> bool:
        """Whether a process holds the server's lock."""
        with (self.folder / "server.lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def kill(self, command: subprocess.Popen[bytes]) -> None:
        """kill -9 of a command that `start` started, of the server, and of its Jobs."""
        os.killpg(command.pid, signal.SIGKILL)
        command.wait()
        os.killpg(self.server_pid(), signal.SIGKILL)
        wait_until(lambda: not self.has_server(), what="the server's end")

    def log(self) -> str:
        logs = sorted((self.folder / "logs").glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in logs)


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


def listens(port: int) -> bool:
    with socket.socket() as found:
        return found.connect_ex(("127.0.0.1", port)) == 0
