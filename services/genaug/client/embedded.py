"""A server of one's own: `genaug serve all` on a private socket over a home, shared by all commands that use the home.

Two locks in the home say who is there; the kernel drops them however a process ends.

    clients.lock    shared by each client; the server ends when it can take it whole and has no run at work
    server.lock     held by the server, so that there is only one
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from genaug.shared.errors import FailedPrecondition, Unavailable
from genaug.shared.settings import Settings, environment_of

# Seconds a server may take from start to SERVING.
_PATIENCE = 60.0
# Longest path that a unix socket may have, on all systems.
_SOCKET_PATH = 100


def socket_address(home: Path) -> str:
    """Address of the server over `home`."""
    path = home / "genaug.sock"
    if len(str(path)) > _SOCKET_PATH:
        name = hashlib.sha256(str(home).encode()).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"genaug-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise FailedPrecondition(f"{folder} belongs to somebody else; set a shorter --home", reason="BAD_SOCKET")
        path = folder / f"{name}.sock"
    return f"unix:{path}"


def lock_file(home: Path, name: str) -> int:
    """Open a lock file of `home`; the descriptor is not inherited."""
    return os.open(home / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextmanager
def embedded(settings: Settings) -> Iterator[str]:
    """Start the server over `settings.home` unless it is there, and yield its address.

    Raises:
        FailedPrecondition: the home cannot be written, or the server would not start; its log is named.
    """
    home = settings.home
    try:
        if not home.exists():
            home.mkdir(parents=True, mode=0o700)
        (home / "logs").mkdir(exist_ok=True)
        lock = lock_file(home, "clients.lock")
    except OSError as error:
        raise FailedPrecondition(
            f"home: {home} cannot be written ({error.strerror}); set --home or GENAUG_HOME to a folder you own",
            reason="HOME_NOT_WRITABLE",
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        address = socket_address(home)
        if not _serving(address, wait=0.5):
            _start(settings, address)
        yield address
    finally:
        os.close(lock)


def _serving(address: str, *, wait: float) -> bool:
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=wait, wait_for_ready=False
            )
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _start(settings: Settings, address: str) -> None:
    log = settings.home / "logs" / "server.log"
    start = log.stat().st_size if log.exists() else 0
    server = _spawn(settings, address, log)
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if _serving(address, wait=0.5):
            return
        code = server.poll()
        if code == 0:
            # Another server has the home. It will be SERVING soon, or is about to end; then ours takes its place.
            time.sleep(0.5)
            server = _spawn(settings, address, log)
        elif code is not None:
            break
        time.sleep(0.05)
    lines = log.read_bytes()[start:].decode(errors="replace").strip().splitlines()
    last = lines[-1] if lines else "it said nothing"
    if server.poll() is None:
        server.kill()
        raise Unavailable(f"the embedded server is not ready after {_PATIENCE:.0f} s; see {log}: {last}")
    raise FailedPrecondition(f"the embedded server did not start; see {log}: {last}", reason="SERVER_DID_NOT_START")


def _spawn(settings: Settings, address: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as sink:
        return subprocess.Popen(
            [sys.executable, "-m", "genaug.cli", "serve", "all", "--address", address, "--embedded"],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env={**os.environ, **environment_of(settings)},
        )
