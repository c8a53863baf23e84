"""The services: which there are, and how a process serves some of them. The only list of services."""

from __future__ import annotations

import fcntl
import importlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import grpc

from genaug.client.embedded import SERVICE, SERVING, fingerprints, lock_file, try_lock, write_stage
from genaug.shared.server import Register, Server, Service
from genaug.shared.settings import Settings
from genaug.shared.threads import set_up_threads
from genaug.shared.tracing import configure_tracing

log = logging.getLogger(__name__)

SERVICES = {
    "generation": "genaug.generation.service",
    "labeling": "genaug.labeling.service",
    "selection": "genaug.selection.service",
    "assembly": "genaug.assembly.service",
    "orchestrator": "genaug.orchestrator.service",
}

# What may be served besides: it has no state and no methods of its own, and "all" needs none.
GATEWAY = {"gateway": "genaug.gateway.service"}

# Seconds between two looks at whether an embedded server is still needed.
_WATCH = 0.5


@runtime_checkable
class Busy(Protocol):
    """Service with work that goes on after its calls."""

    def busy(self) -> bool:
        """Whether there is such work."""


def make_server(settings: Settings, services: list[str], *, more: Sequence[Register] = ()) -> Server:
    """A server of the named services, each imported only if it is named, and of `more`."""
    set_up_threads(settings.threads)
    configure_tracing(services[0] if len(services) == 1 else "server")
    registers: list[Register] = [importlib.import_module({**SERVICES, **GATEWAY}[name]).register for name in services]
    return Server(settings, [*registers, *more])


def serve(settings: Settings, service: str) -> None:
    """Serve one service, the gateway, or "all" services, until SIGTERM."""
    make_server(settings, list(SERVICES) if service == "all" else [service]).run()


def serve_embedded(settings: Settings, lock: int) -> None:
    """Serve all services over a home, until no client has used them for a while and no run is at work.

    Args:
        settings: The configuration.
        lock: Descriptor of the locked `server.lock`, inherited from the client that started us.
    """
    # Jobs must not hold the lock when we are gone.
    os.set_inheritable(lock, False)
    # Ctrl-C in the client's terminal and its closing are not for us: runs go on.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    embedded = EmbeddedService(settings, lock)
    write_stage(settings.home, "loading the services")
    _remove_stale_socket(settings.server.address)
    server = make_server(settings, list(SERVICES), more=[embedded.register])
    server.opening = embedded.opening
    embedded.others = server.services
    threading.Thread(target=embedded.watch, name="watch", daemon=True).start()
    server.run(embedded.stopping, whole=True)


def _remove_stale_socket(address: str) -> None:
    """Remove the socket of a server that was killed; we hold the lock, so nobody listens there."""
    path = address.removeprefix("unix:")
    if os.path.exists(path):
        os.unlink(path)


class EmbeddedService:
    """Calls of commands over the same home: the identity of the server, and its end.

    It opens last, so its calls are refused as those of a server that is starting until all services work.
    """

    service_name = SERVICE
    forwards: ClassVar[list[str]] = []
    """Nothing for reflection: its calls have no protobuf messages."""

    def __init__(self, settings: Settings, lock: int) -> None:
        self._settings = settings
        self._lock = lock
        self._fingerprints = fingerprints(settings)
        self._used = time.monotonic()
        self.others: Sequence[Service] = []
        self.stopping = threading.Event()
        """Set to end the server."""

    def register(self, server: grpc.Server, settings: Settings) -> EmbeddedService:
        """Add the calls to a server."""
        calls = {"Describe": self._describe, "Stop": self._stop}
        handlers = {name: grpc.unary_unary_rpc_method_handler(_as_json(call)) for name, call in calls.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        return self

    def opening(self, service: str) -> None:
        """Tell clients that wait which service is being opened."""
        name = service.rsplit(".", 1)[1].removesuffix("Service").lower()
        stage = {"orchestrator": "opening the database", "embedded": SERVING}.get(name, f"opening the store ({name})")
        write_stage(self._settings.home, stage)

    def warm_up(self) -> None:
        """Nothing to open."""

    def close(self) -> None:
        """Tell clients that wait."""
        write_stage(self._settings.home, "ending")

    def _describe(self, request: dict[str, Any]) -> dict[str, Any]:
        self._used = time.monotonic()
        return {"pid": os.getpid(), "fingerprints": self._fingerprints}

    def _stop(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["force"] or not self._busy():
            self.stopping.set()
        return {"stopping": self.stopping.is_set()}

    def _busy(self) -> bool:
        return any(isinstance(service, Busy) and service.busy() for service in self.others)

    def watch(self) -> None:
        """Set `stopping` once nobody has needed the server for a while, or its home is gone.

        The clients' lock is kept then, so that a newcomer waits for our end.
        """
        clients = lock_file(self._settings.home, "clients.lock")
        while not self.stopping.wait(_WATCH):
            if self._home_is_gone():
                self.stopping.set()
            elif not try_lock(clients, fcntl.LOCK_EX):
                self._used = time.monotonic()
            elif self._busy():
                self._used = time.monotonic()
                fcntl.flock(clients, fcntl.LOCK_UN)
            elif time.monotonic() - self._used >= self._settings.embedded.idle_s:
                self.stopping.set()
            else:
                fcntl.flock(clients, fcntl.LOCK_UN)

    def _home_is_gone(self) -> bool:
        try:
            return not os.path.samestat(os.fstat(self._lock), os.stat(self._settings.home / "server.lock"))
        except FileNotFoundError:
            return True


def _as_json(call: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    return lambda request, context: json.dumps(call(json.loads(request))).encode()
