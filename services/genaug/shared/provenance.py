"""Time, code revision and library versions: recorded beside results, never in their digests."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import genaug

_LIBRARIES = (
    *("torch", "diffusers", "transformers", "peft", "torchvision"),
    *("numpy", "pillow", "scikit-learn", "openTSNE"),
)


def now() -> str:
    """Return the time: RFC 3339, UTC, in seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@cache
def revision() -> str:
    """Return the code revision: that of the container image, else of the git checkout, else empty."""
    if os.environ.get("GENAUG_REVISION"):
        return os.environ["GENAUG_REVISION"]
    folder = Path(genaug.__file__).parent
    try:
        process = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return process.stdout.strip() if process.returncode == 0 else ""


@cache
def libraries() -> dict[str, str]:
    """Return the versions of the installed libraries that shape results."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
