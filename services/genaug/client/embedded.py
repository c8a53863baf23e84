"""Embedded server: `genaug serve all` on a private socket in the home, shared by all commands over that home.

Two lock files in the home; the kernel drops the locks however a process ends.

    clients.lock    shared by each client; the server takes it exclusively to end, so that no client is cut off
    server.lock     held by the server from its start to its end; a client that can take it starts the server

`server.json` holds the server's process id and its present stage of starting or ending.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc

import genaug
from genaug.client.channel import bare_channel
from genaug.shared.errors import FailedPrecondition
from genaug.shared.settings import Settings, environment_of

SERVICE = "genaug.Embedded"
"""Service that only an embedded server has: `Describe` and `Stop`, JSON both ways."""
SERVING = "serving"
"""Stage of a server that answers; those before and after it are words for people."""

# Longest path that a unix socket may have, on all systems.
_SOCKET_PATH = 100
# Seconds before a client says what it waits for, and between two such lines of the same text.
_QUIET = 1.5
_REPEAT = 30.0
# Deadline of one question. A socket without a server refuses at once; a server that is starting may be slow to answer.
_DEADLINE = 5.0
# Settings that do not matter: every client over the home has the same address, and no endpoint.
_OWN = frozenset({"server.address", "endpoint"})
# Settings without which a command would read and write other data.
_PLACES = ("store.", "database.")
# Variables that libraries in the server read.
_LIBRARIES = ("ATEN_", "AWS_", "CUDA_", "HF_", "HIP_", "MKL_", "NVIDIA_", "OMP_", "OTEL_", "PYTORCH_", "ROCR_", "TORCH")

Notify = Callable[[str], None]


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


def try_lock(descriptor: int, kind: int) -> bool:
    """Lock a file without waiting, `kind` being LOCK_SH or LOCK_EX; False when another process holds it."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def fingerprints(settings: Settings) -> dict[str, str]:
    """Digests of everything that a server takes from the command that starts it: code, settings, environment.

    Digests, so that the comparison names a setting without showing a secret.
    """
    named = {_setting(name): value for name, value in environment_of(settings).items()}
    values = {name: value for name, value in named.items() if name not in _OWN}
    values |= {name: value for name, value in os.environ.items() if name.startswith(_LIBRARIES)}
    # Relative paths in a run file, such as a base's folder, are the server's.
    values |= {"code": _code(), "working folder": os.getcwd()}
    return {name: hashlib.sha256(value.encode()).hexdigest()[:16] for name, value in values.items()}


def _setting(variable: str) -> str:
    """Return the path of an environment variable: "jobs.runs" for GENAUG_JOBS__RUNS."""
    return variable.removeprefix("GENAUG_").lower().replace("__", ".")


def _code() -> str:
    """State of the installed code; unlike a revision, it changes with every edit of a checkout."""
    root = Path(genaug.__file__).parent
    files = [path for path in root.rglob("*") if path.suffix != ".pyc" and path.is_file()]
    state = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(files)]
    # Any installation or removal of a package changes this folder.
    packages = Path(sysconfig.get_path("purelib"))
    return json.dumps([sys.executable, sys.version, packages.stat().st_mtime_ns if packages.exists() else 0, state])


@contextmanager
def embedded(settings: Settings, *, notify: Notify | None = None) -> Iterator[str]:
    """Start the server over `settings.home` unless it is there, and yield its address.

    A server with other code or settings is replaced if it is idle; otherwise it is used, and `notify` is called.

    Args:
        settings: The configuration.
        notify: Called with a line on what is waited for, when that takes more than a second, and with warnings.

    Raises:
        FailedPrecondition: the home cannot be written; the server did not start (its last words are in the message);
            or a server at work keeps its store or database elsewhere.
    """
    home = settings.home
    try:
        if not home.exists():
            home.mkdir(parents=True, mode=0o700)
        (home / "logs").mkdir(exist_ok=True)
        clients = lock_file(home, "clients.lock")
    except OSError as error:
        raise FailedPrecondition(
            f"home: {home} cannot be written ({error.strerror}); set --home or GENAUG_HOME to a folder you own",
            reason="HOME_NOT_WRITABLE",
        ) from None
    try:
        server = _EmbeddedServer(settings, notify)
        server.attach(clients)
        yield server.address
    finally:
        os.close(clients)


def stop_embedded(settings: Settings, *, force: bool, notify: Notify | None = None) -> bool:
    """Stop the server over `settings.home`; False when there is none.

    Args:
        settings: The configuration.
        force: Also stop a server with a run at work, or one that another command uses.
        notify: As of `embedded`.

    Raises:
        FailedPrecondition: a run is at work, or another command uses the server.
    """
    if not settings.home.exists():
        return False
    clients = lock_file(settings.home, "clients.lock")
    try:
        return _EmbeddedServer(settings, notify).stop(clients, force=force)
    finally:
        os.close(clients)


def describe_embedded(settings: Settings) -> dict[str, Any] | None:
    """`{"pid", "fingerprints"}` of the server over `settings.home`; None when there is none or it is starting."""
    return _EmbeddedServer(settings, None).ask("Describe") if settings.home.exists() else None


class _Waiting:
    """Report the stage of a wait: after a moment, at each change, and at intervals."""

    def __init__(self, notify: Notify | None, log: Path) -> None:
        self._notify = notify
        self._log = log
        self._start = self._said_at = time.monotonic()
        self._said = ""

    def wait(self, text: str) -> None:
        """Wait a moment, and report `text`."""
        now = time.monotonic()
        if self._notify and now - self._start > _QUIET and text != self._said:
            self._notify(f"{text}…")
            self._said, self._said_at = text, now
        elif self._notify and self._said and now - self._said_at > _REPEAT:
            self._notify(f"{text}… ({now - self._start:.0f} s; log: {self._log})")
            self._said_at = now
        time.sleep(0.2 if now - self._start > _QUIET else 0.05)


class _EmbeddedServer:
    """The server over a home, as a client sees it."""

    def __init__(self, settings: Settings, notify: Notify | None) -> None:
        self._settings = settings
        self._home = settings.home
        self._log = settings.home / "logs" / "server.log"
        self._log_start = 0
        self._notify = notify
        self._waiting = _Waiting(notify, self._log)
        self.address = socket_address(settings.home)

    def ask(self, method: str, **request: object) -> dict[str, Any] | None:
        """Call a method of `SERVICE`; None when nobody answers, or the server is starting or ending."""
        token = self._settings.auth.token.get_secret_value()
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        with bare_channel(self.address, ours=False) as channel:
            call = channel.unary_unary(f"/{SERVICE}/{method}", None, None)
            try:
                answer = call(json.dumps(request).encode(), timeout=_DEADLINE, metadata=metadata)
            except grpc.RpcError as error:
                if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED):
                    # One that wants another token, or of a version before this service.
                    return {"pid": 0, "fingerprints": {}}
                return None
        value: dict[str, Any] = json.loads(answer)
        return value

    def attach(self, clients: int) -> None:
        """Return once the server answers, with `clients` locked against its end.

        There is no time limit: it is waited for as long as its process lives.
        """
        own = fingerprints(self._settings)
        process: subprocess.Popen[bytes] | None = None
        stays = False
        while True:
            while not try_lock(clients, fcntl.LOCK_SH):
                self._waiting.wait("waiting for the last server to end")
            # A server that is starting would refuse, and log each refusal.
            server = self.ask("Describe") if _stage(self._home) in ("", SERVING) else None
            if server is None:
                process = self._start(process)
                continue
            other = _differing(own, server["fingerprints"])
            if not other:
                return
            if stays:
                self._accept(other)
                return
            stays = not self._end(clients, other)

    def _start(self, process: subprocess.Popen[bytes] | None) -> subprocess.Popen[bytes] | None:
        """Start a server unless one holds the home; wait a moment. `process` is the one that we started before."""
        if process is not None and process.poll() is not None:
            raise FailedPrecondition(
                f"the embedded server did not start; see {self._log}: {self._last_words(process.returncode)}",
                reason="SERVER_DID_NOT_START",
            )
        lock = lock_file(self._home, "server.lock")
        try:
            if try_lock(lock, fcntl.LOCK_EX):
                (self._home / "server.json").unlink(missing_ok=True)
                self._log_start = self._log.stat().st_size if self._log.exists() else 0
                # The lock passes to the server with its descriptor: there is no moment at which nobody holds it.
                process = self._spawn(lock)
        finally:
            os.close(lock)
        stage = _stage(self._home)
        self._waiting.wait("starting the server" if stage in ("", SERVING) else f"starting the server: {stage}")
        return process

    def _spawn(self, lock: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "genaug.cli", "serve", "all", "--address", self.address]
        with self._log.open("ab") as sink:
            return subprocess.Popen(
                [*command, "--embedded", str(lock)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                pass_fds=(lock,),
                # Out of reach of the terminal's Ctrl-C and of its closing.
                start_new_session=True,
                env={**os.environ, **environment_of(self._settings)},
            )

    def _last_words(self, code: int) -> str:
        lines = self._log.read_bytes()[self._log_start :].decode(errors="replace").strip().splitlines()
        last = lines[-1] if lines else "it said nothing"
        return f"{last} (killed by {signal.Signals(-code).name})" if code < 0 else last

    def _accept(self, other: list[str]) -> None:
        """Use a server at work although it differs by `other`, and say so."""
        names = ", ".join(other)
        if any(name.startswith(_PLACES) for name in other):
            raise FailedPrecondition(
                f"the server over {self._home} is at work with other settings ({names}); use these, another --home, or "
                "end it with `genaug server stop --force`: runs go on with the next command",
                reason="OTHER_SERVER",
            )
        if self._notify:
            self._notify(
                f"the server over {self._home} was started with other {names}; it is at work, so it is used as it is "
                "(to end it: `genaug server stop --force`; runs go on with the next command)"
            )

    def _end(self, clients: int, other: list[str]) -> bool:
        """End a server that differs by `other`; False when it has something to do."""
        if not try_lock(clients, fcntl.LOCK_EX):
            return False
        # No other client is there, and none can come before this lock is given up.
        answer = self.ask("Stop", force=False)
        if answer is not None and answer.get("stopping"):
            self._wait_for_end(f"ending the last server, which was started with other {', '.join(other)}")
            return True
        return answer is None

    def stop(self, clients: int, *, force: bool) -> bool:
        """Stop the server; False when there is none."""
        alone = try_lock(clients, fcntl.LOCK_EX)
        if not alone and not force:
            raise FailedPrecondition(
                f"another command uses the server over {self._home}; let it end, or add --force", reason="SERVER_IN_USE"
            )
        while not self._ended():
            answer = self.ask("Stop", force=force)
            if answer is not None and answer.get("stopping"):
                self._wait_for_end("ending the server")
                return True
            if answer is not None and "stopping" not in answer:
                raise FailedPrecondition(
                    f"the server over {self._home} wants another token, or is of another version; it is process "
                    f"{_server_json(self._home).get('pid', 'unknown')}",
                    reason="OTHER_SERVER",
                )
            if answer is not None:
                raise FailedPrecondition(
                    "a run is at work; cancel it with `genaug run cancel`, or add --force: it goes on with the next "
                    "command",
                    reason="SERVER_IN_USE",
                )
            self._waiting.wait(f"waiting for the server: {_stage(self._home)}")
        return False

    def _wait_for_end(self, text: str) -> None:
        while not self._ended():
            self._waiting.wait(text)

    def _ended(self) -> bool:
        lock = lock_file(self._home, "server.lock")
        try:
            return try_lock(lock, fcntl.LOCK_SH)
        finally:
            os.close(lock)


def _differing(own: dict[str, str], server: dict[str, str]) -> list[str]:
    """Names of the settings in which a server differs."""
    if not server:
        return ["auth.token or version"]
    return sorted(name for name in {*own, *server} if own.get(name) != server.get(name))


def write_stage(home: Path, stage: str) -> None:
    """Write the stage of this process, the server, for clients that wait."""
    path = home / f"server.json.{os.getpid()}"
    # A full disk, or a home that is gone, is for others to say.
    with suppress(OSError):
        path.write_text(json.dumps({"pid": os.getpid(), "stage": stage}))
        path.replace(home / "server.json")


def _stage(home: Path) -> str:
    return str(_server_json(home).get("stage", ""))


def _server_json(home: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads((home / "server.json").read_text())
    except (OSError, ValueError):
        return {}
    return value
