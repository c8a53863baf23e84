"""Jobs as subprocesses of the orchestrator."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from genaug.orchestrator.runners import JobRunner, forward_progress, recorded_error
from genaug.schema.jobs import BAD_INPUT, JobRequest
from genaug.shared.errors import Cancelled, GenaugError, Internal
from genaug.shared.progress import ProgressCallback
from genaug.shared.settings import Settings, environment_of
from genaug.shared.store import Store
from genaug.shared.tracing import TRACEPARENT, traceparent

_POLL = 0.1
# Seconds that a Job has to end after SIGTERM.
_GRACE = 10.0


@dataclass
class _Process:
    """One shard: our child, or one that an orchestrator before us has left behind (then `child` is None)."""

    lock: Path
    child: subprocess.Popen[bytes] | None

    def running(self) -> bool:
        if self.child is not None:
            return self.child.poll() is None
        return _taken(self.lock)

    def stop(self) -> None:
        if self.child is None:
            # Empty when its orchestrator was killed before it could note the child.
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(self.lock.read_text()), signal.SIGTERM)
            return
        self.child.terminate()
        try:
            self.child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


def _taken(lock: Path) -> bool:
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


class LocalRunner(JobRunner):
    """Runs `genaug job …` as subprocesses. Each holds a lock, by which a later orchestrator finds it again."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._locks = settings.home / "jobs"
        self._logs = settings.home / "logs"
        for folder in (self._locks, self._logs):
            folder.mkdir(parents=True, exist_ok=True)

    @override
    def run(
        self,
        request: JobRequest,
        *,
        shards: int,
        is_active: Callable[[], bool],
        on_progress: ProgressCallback,
        finished: Callable[[], bool],
    ) -> None:
        attempt = 1
        while True:
            processes = [self._start(request, attempt, shard, shards) for shard in range(shards)]
            self._wait(request, processes, is_active=is_active, on_progress=on_progress)
            codes = [process.child.returncode for process in processes if process.child is not None]
            if len(codes) < shards:
                # Another orchestrator's child has ended, and how is not for us to know: ask again, which finds
                # what it finished.
                continue
            if not any(codes):
                return
            if BAD_INPUT in codes or attempt == self._settings.jobs.attempts:
                raise self._error(request, codes)
            attempt += 1

    def _start(self, request: JobRequest, attempt: int, shard: int, shards: int) -> _Process:
        name = f"genaug-{request.step}-{request.digest[:16]}-{attempt}"
        lock = self._locks / f"genaug-{request.step}-{request.digest[:16]}-{shard}.lock"
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return _Process(lock, None)
        try:
            child = self._spawn(request, name, shard, shards, descriptor)
            os.write(descriptor, str(child.pid).encode())
        finally:
            # The child keeps the lock as long as it lives.
            os.close(descriptor)
        return _Process(lock, child)

    def _spawn(
        self, request: JobRequest, name: str, shard: int, shards: int, descriptor: int
    ) -> subprocess.Popen[bytes]:
        os.truncate(descriptor, 0)
        # What an earlier attempt said of its end must not be taken for this one's.
        self._store.delete(request.progress_key(shard))
        environment = {**os.environ, **environment_of(self._settings), TRACEPARENT.upper(): traceparent()}
        if shards > 1:
            environment["GENAUG_THREADS"] = "1"
        command = [sys.executable, "-m", "genaug.cli", "job", request.step, "--request", request.key]
        with (self._logs / f"{name}.log").open("ab") as sink:
            return subprocess.Popen(
                [*command, "--shard", f"{shard}/{shards}"],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=environment,
                pass_fds=[descriptor],
            )

    def _wait(
        self,
        request: JobRequest,
        processes: Sequence[_Process],
        *,
        is_active: Callable[[], bool],
        on_progress: ProgressCallback,
    ) -> None:
        try:
            while any(process.running() for process in processes):
                if not is_active():
                    raise Cancelled("the run was cancelled; `genaug run resume` goes on with it", reason="CANCELLED")
                forward_progress(self._store, request, len(processes), on_progress)
                time.sleep(_POLL)
        except BaseException:
            for process in processes:
                if process.running():
                    process.stop()
            raise

    def _error(self, request: JobRequest, codes: Sequence[int]) -> GenaugError:
        error = recorded_error(self._store, request, len(codes))
        if error is not None:
            return error
        worst = next(code for code in codes if code)
        return Internal(
            f"the {request.step} Job ended with status {worst} and no word; its log is "
            f"{self._logs}/genaug-{request.step}-{request.digest[:16]}-*.log",
            reason="JOB_DIED",
        )
