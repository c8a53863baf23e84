"""The local runner on real subprocesses; a shell script stands in for `genaug job`."""

from __future__ import annotations

import fcntl
import itertools
import os
import sys
import threading
from pathlib import Path

import pytest
from tests.servers import HANG_S, wait_until

from genaug.orchestrator.runners.local import LocalRunner
from genaug.schema.jobs import BAD_INPUT, JobRequest, TrainInputs
from genaug.shared.errors import Cancelled, Internal, NotFound
from genaug.shared.progress import ProgressWriter
from genaug.shared.settings import load_settings

REQUEST = JobRequest.of(TrainInputs(items=()))


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in that notes its arguments, does what the file `script` says, and is used instead of Python."""
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$@ threads=$GENAUG_THREADS" >> {tmp_path}/started\n. {tmp_path}/script\n')
    program.chmod(0o755)
    (tmp_path / "script").write_text("exit 0")
    monkeypatch.setattr(sys, "executable", str(program))
    return tmp_path


@pytest.fixture
def runner(program: Path, stores) -> LocalRunner:
    return LocalRunner(load_settings(home=str(program)), stores("orchestrator"))


def run(runner: LocalRunner, *, shards: int = 1, is_active=lambda: True) -> None:
    ignore = lambda *_: None  # noqa: E731
    runner.run(REQUEST, shards=shards, is_active=is_active, on_progress=ignore, finished=lambda: True)


def started(program: Path) -> list[str]:
    return (program / "started").read_text().splitlines()


def test_it_starts_a_process_per_shard(program: Path, runner: LocalRunner) -> None:
    run(runner, shards=2)
    assert sorted(line.split("--shard ")[1] for line in started(program)) == ["0/2 threads=1", "1/2 threads=1"]
    assert all(f"job train --request {REQUEST.key}" in line for line in started(program))


def test_bad_input_is_not_tried_again(program: Path, runner: LocalRunner, stores) -> None:
    (program / "script").write_text(f"until [ -e {program}/told ]; do sleep 0.01; done; exit {BAD_INPUT}")

    def fail() -> None:
        wait_until((program / "started").exists, what="the Job")
        ProgressWriter(stores("train"), REQUEST.progress_key(0)).fail(NotFound("no such row", reason="ROW"))
        (program / "told").touch()

    threading.Thread(target=fail).start()
    with pytest.raises(NotFound, match="no such row") as caught:
        run(runner)
    assert caught.value.reason == "ROW"
    assert len(started(program)) == 1


def test_a_job_that_dies_is_tried_again_and_its_log_named(program: Path, runner: LocalRunner) -> None:
    (program / "script").write_text("kill -9 $$")
    with pytest.raises(Internal, match="genaug-train-") as caught:
        run(runner)
    assert caught.value.reason == "JOB_DIED"
    assert len(started(program)) == 3


def test_an_old_error_is_not_taken_for_a_new_one(program: Path, runner: LocalRunner, stores) -> None:
    ProgressWriter(stores("train"), REQUEST.progress_key(0)).fail(NotFound("of last week"))
    (program / "script").write_text("exit 1")
    with pytest.raises(Internal):
        run(runner)


def test_cancel_ends_the_process(program: Path, runner: LocalRunner) -> None:
    pid = program / "pid"
    (program / "script").write_text(f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 60")
    with pytest.raises(Cancelled):
        run(runner, is_active=lambda: not pid.exists())
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_job_that_outlived_its_orchestrator_is_joined(program: Path, runner: LocalRunner) -> None:
    """Its lock is held by a process that is not ours: wait for it, then ask once more for what it may have left."""
    lock = program / "jobs" / f"genaug-train-{REQUEST.digest[:16]}-0.lock"
    held = os.open(lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    looks = itertools.count()
    thread = threading.Thread(target=run, args=(runner,), kwargs={"is_active": lambda: next(looks) >= 0})
    thread.start()
    wait_until(lambda: next(looks) > 8, what="several looks at the lock")
    assert not (program / "started").exists()
    os.close(held)
    thread.join(HANG_S)
    assert not thread.is_alive()
    assert len(started(program)) == 1
