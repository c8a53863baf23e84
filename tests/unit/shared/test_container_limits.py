"""Limits of containers, of both versions of cgroups, are read from their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from genaug.shared import container_limits
from genaug.shared.container_limits import cpu_count, memory_limit


@pytest.fixture
def machine(tmp_path: Path, monkeypatch):
    """machine({file: text}, own): the files of cgroups, and this process's line."""

    def make(files: dict[str, str], own: str) -> None:
        root = tmp_path / "cgroup"
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        (tmp_path / "own").write_text(own)
        monkeypatch.setattr(container_limits, "_CGROUPS", root)
        monkeypatch.setattr(container_limits, "_OWN", tmp_path / "own")
        monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
        monkeypatch.setattr("os.sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 16 << 20}.get)

    return make


def test_without_limits_the_machine_counts(machine) -> None:
    machine({"memory.max": "max\n", "cpu.max": "max 100000\n"}, "0::/\n")
    assert (cpu_count(), memory_limit()) == (64, 64 << 30)
    machine({}, "")
    assert (cpu_count(), memory_limit()) == (64, 64 << 30)


def test_the_containers_own_group_is_the_root(machine) -> None:
    machine({"memory.max": str(1 << 30), "cpu.max": "150000 100000"}, "0::/kubepods/pod1/container\n")
    assert (cpu_count(), memory_limit()) == (2, 1 << 30)


def test_the_smallest_limit_of_the_groups_above_counts(machine) -> None:
    files = {"a/memory.max": str(2 << 30), "a/b/memory.max": str(3 << 30), "a/cpu.max": "50000 100000"}
    machine(files, "0::/a/b\n")
    assert (cpu_count(), memory_limit()) == (1, 2 << 30)


def test_version_1(machine) -> None:
    files = {
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/a/memory.limit_in_bytes": str(4 << 30),
        "cpu/a/cpu.cfs_quota_us": "300000",
        "cpu/a/cpu.cfs_period_us": "100000",
        "cpu/cpu.cfs_quota_us": "-1",
        "cpu/cpu.cfs_period_us": "100000",
    }
    machine(files, "4:cpu,cpuacct:/a\n3:memory:/a\n")
    assert (cpu_count(), memory_limit()) == (3, 4 << 30)
