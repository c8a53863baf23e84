"""`genaug doctor`: checks of the installation and of the configured services."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import genaug
from genaug.client import Client
from genaug.client.embedded import describe_embedded
from genaug.orchestrator.database import check_database
from genaug.shared.errors import GenaugError
from genaug.shared.settings import Settings
from genaug.shared.store import Store, free_bytes

_PARTS = {
    "generation": ("torch", "diffusers"),
    "labeling": ("torch",),
    "selection": ("torch", "openTSNE", "scikit-learn"),
    "evaluation": ("torch", "scipy", "jinja2"),
    "orchestrator": ("dbos",),
}

# Run in a subprocess, so that this command stays light and a broken torch fails only its own check.
_DEVICE = """
import torch
if torch.cuda.is_available():
    print(torch.cuda.get_device_name(), f"{torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB")
else:
    print(f"CPU, {torch.get_num_threads()} threads; no accelerator")
"""


@dataclass(frozen=True)
class Finding:
    """Outcome of one check."""

    check: str
    ok: bool
    detail: str

    def as_dict(self) -> dict[str, object]:
        """Return plain JSON."""
        return asdict(self)


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield one finding per check; a failed check does not stop the others."""
    yield Finding("genaug", True, f"{genaug.__version__}, Python {sys.version.split()[0]}")
    for part, packages in _PARTS.items():
        yield _installed(part, packages)
    yield _checked("device", _device)
    yield _checked("store", lambda: _store(settings))
    yield _checked("database", lambda: check_database(settings.database.url))
    if settings.endpoint:
        yield _checked("endpoint", lambda: _endpoint(settings))
    else:
        yield Finding("server", True, _server(settings))


def _installed(part: str, packages: tuple[str, ...]) -> Finding:
    installed, missing = [], []
    for package in packages:
        try:
            installed.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        return Finding(part, False, f"missing {', '.join(missing)}; pip install 'genaug[{part}]'")
    return Finding(part, True, ", ".join(installed))


def _checked(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, check())
    except GenaugError as error:
        return Finding(name, False, error.message)


def _device() -> str:
    process = subprocess.run([sys.executable, "-c", _DEVICE], capture_output=True, text=True, check=False)
    if process.returncode:
        lines = process.stderr.strip().splitlines()
        return f"unknown: torch cannot be imported ({lines[-1] if lines else process.returncode})"
    return process.stdout.strip()


def _store(settings: Settings) -> str:
    store = Store.open(settings.store, "assembly")
    store.check()
    free = free_bytes(settings.store)
    space = f", {free / 2**30:.1f} GiB free" if free is not None else ""
    return f"{settings.store.url}: reachable, a conditional put is honoured{space}"


def _server(settings: Settings) -> str:
    server = describe_embedded(settings)
    if server is None:
        return f"none over {settings.home}; a command starts one"
    return f"process {server['pid']} over {settings.home}; `genaug server stop` ends it"


def _endpoint(settings: Settings) -> str:
    with Client(settings=settings) as client:
        count = sum(1 for _ in client.list_datasets())
    return f"{settings.endpoint}: genaug, {count} datasets"
