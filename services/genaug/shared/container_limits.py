"""CPUs and memory that this process may use: the limits of its container (cgroup v2 or v1), else the machine's."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def cpu_count() -> int:
    """CPUs that this process may use, at least 1: those it is bound to, or the container's quota, rounded up."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        cpus = os.cpu_count() or 1
    return max(1, min([cpus, *(math.ceil(quota) for quota in _quotas())]))


def memory_limit() -> int:
    """Bytes of memory that this process may use."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [
        *(_number(folder / "memory.max") for folder in _folders("")),
        *(_number(folder / "memory.limit_in_bytes") for folder in _folders("memory")),
    ]
    return min([physical, *(int(limit) for limit in limits if limit)])


def _quotas() -> Iterator[float]:
    """CPU quotas that bind this process, in CPUs."""
    for folder in _folders(""):
        with suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            yield float(quota) / float(period)  # "max" is no number, and no quota
    for folder in _folders("cpu"):
        quota_us, period_us = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota_us and period_us and quota_us > 0:
            yield quota_us / period_us


def _folders(controller: str) -> Iterator[Path]:
    """Folders of this process's cgroup and of those above it; `controller` is "" for cgroup v2.

    Inside a container its own cgroup is usually mounted as the root, so that the root is looked at in any case.
    """
    root = _CGROUPS / controller
    path = "/"
    with suppress(OSError):
        for line in _OWN.read_text().splitlines():
            _, controllers, own = line.split(":", 2)
            if controller in controllers.split(","):
                path = own
    folder = root / path.lstrip("/")
    yield folder
    if folder != root:
        yield from (parent for parent in folder.parents if parent == root or root in parent.parents)


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None
