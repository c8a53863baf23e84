"""The services: which there are, and how a process serves some of them. The only list of services."""

from __future__ import annotations

import fcntl
import importlib
import logging
import os
import signal
import sys
import threading
from typing import Protocol, runtime_checkable

from genaug.client.embedded import lock_file
from genaug.shared.server import Register, Server
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
    """A room whose work outlives its calls."""

    def busy(self) -> bool:
        """Whether there is such work."""


def make_server(settings: Settings, services: list[str]) -> Server:
    """A server of the named services; each is imported only if it is named."""
    set_up_threads(settings.threads)
    configure_tracing(services[0] if len(services) == 1 else "server")
    registers: list[Register] = [importlib.import_module({**SERVICES, **GATEWAY}[name]).register for name in services]
    return Server(settings, registers)


def serve(settings: Settings, service: str) -> None:
    """Serve one service, the gateway, or "all" services, until the process is told to end."""
    make_server(settings, list(SERVICES) if service == "all" else [service]).run()


def serve_embedded(settings: Settings) -> None:
    """Serve all of them over a home, as long as a client holds `clients.lock` or a run is at work.

    Ctrl-C in the client's terminal and its closing are not for us: the run goes on.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    mine = lock_file(settings.home, "server.lock")
    try:
        fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info("another server has this home")
        sys.exit(0)
    _remove_stale_socket(settings.server.address)
    server = make_server(settings, list(SERVICES))
    stop = threading.Event()
    threading.Thread(target=_watch, args=(settings, server, stop), name="watch", daemon=True).start()
    server.run(stop, whole=True)


def _remove_stale_socket(address: str) -> None:
    """Remove the socket of a server that was killed; we hold the lock, so nobody listens there."""
    path = address.removeprefix("unix:")
    if os.path.exists(path):
        os.unlink(path)


def _watch(settings: Settings, server: Server, stop: threading.Event) -> None:
    """Set `stop` once nobody needs the server; keep the clients' lock then, so that a newcomer waits for our end."""
    clients = lock_file(settings.home, "clients.lock")
    while not stop.wait(_WATCH):
        try:
            fcntl.flock(clients, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        if not any(isinstance(room, Busy) and room.busy() for room in server.rooms):
            stop.set()
            return
        fcntl.flock(clients, fcntl.LOCK_UN)
