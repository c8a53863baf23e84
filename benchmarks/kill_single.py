"""Single processes of a run killed (kill -9) at random moments: a service, the orchestrator, a Job; beside none killed.

    python benchmarks/kill_single.py examples/quickstart.yaml --kills 20

Five services, each a process of its own that is started again when it dies, work at one run after the other, each in a
fresh home, until so many processes were killed. Prints one JSON line per ratio: {"name", "ratio", "goal", "better"}.
Fails when a result differs from the run left alone, when an object is written twice, or when images are missing.

    images  images found over images expected; 1
    lost    seconds lost per kill over 60
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from kill import objects

from genaug.client import Client
from genaug.client.importers import open_source
from genaug.schema.run import ImportSpec
from genaug.schema.runfile import load_yaml, parse_spec
from genaug.schema.wire import from_proto
from genaug.shared.errors import GenaugError
from genaug.v1 import run_pb2

SERVICES = ("generation", "labeling", "selection", "assembly", "orchestrator")
ENDED = (run_pb2.Run.STATE_SUCCEEDED, run_pb2.Run.STATE_FAILED, run_pb2.Run.STATE_CANCELLED)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Services:
    """Five processes over one home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.addresses = {name: f"127.0.0.1:{free_port()}" for name in SERVICES}
        clean = {key: value for key, value in os.environ.items() if not key.startswith("GENAUG_")}
        endpoints = {f"GENAUG_ENDPOINTS__{name.upper()}": self.addresses[name] for name in SERVICES[:-1]}
        self.environment = clean | endpoints | {"GENAUG_HOME": str(home)}
        home.mkdir(parents=True)
        self.processes = {name: self.start(name) for name in SERVICES}

    def start(self, name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "genaug.cli", "serve", name, "--address", self.addresses[name]]
        with (self.home / f"{name}.log").open("ab") as log:
            return subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def jobs(self) -> list[int]:
        """Process ids of the Jobs at work: those that hold this home's lock files."""
        pids = []
        for lock in self.home.glob("jobs/*.lock"):
            text = lock.read_text()
            if text and Path(f"/proc/{text}/cmdline").exists() and "job" in Path(f"/proc/{text}/cmdline").read_text():
                pids.append(int(text))
        return pids

    def kill_one(self, dice: random.Random) -> str:
        """Kill a Job where there is one in half of the cases, else a service; start a dead service again."""
        jobs = self.jobs()
        if jobs and dice.random() < 0.5:
            os.kill(dice.choice(jobs), signal.SIGKILL)
            return "Job"
        name = dice.choice(SERVICES)
        self.processes[name].kill()
        self.processes[name].wait()
        self.processes[name] = self.start(name)
        return name

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(60)


def patiently(call, *, seconds: float = 120):
    """A call that a killed service may refuse for a while."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except GenaugError as error:
            if error.code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED") or time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def perform(home: Path, spec: run_pb2.RunSpec, kills: int, dice: random.Random, shortest: float, longest: float):
    """One run; return (its record, seconds, what was killed)."""
    services = Services(home)
    killed: list[str] = []
    written: dict[str, int] = {}
    try:
        with Client(services.addresses["assembly"]) as client:
            source = from_proto(ImportSpec, getattr(spec, "import"))
            patiently(lambda: client.import_dataset(spec.dataset, open_source(source).images, spec=source))
        start = time.monotonic()
        with Client(services.addresses["orchestrator"]) as client:
            run = patiently(lambda: client.create_run(spec))
            next_kill = time.monotonic() + dice.uniform(shortest, longest)
            while run.state not in ENDED:
                time.sleep(0.3)
                now = objects(home)
                assert all(now.get(key) == when for key, when in written.items()), "a finished result was written again"
                written = now
                if len(killed) < kills and time.monotonic() > next_kill:
                    at = [step.name for step in run.steps if step.state == run_pb2.Run.STATE_RUNNING]
                    killed.append(services.kill_one(dice))
                    print(f"{time.monotonic() - start:.1f} s, at {', '.join(at)}: {killed[-1]}", file=sys.stderr)
                    next_kill = time.monotonic() + dice.uniform(shortest, longest)
                run = patiently(lambda: client.get_run(run.name))  # noqa: B023  # called at once
                if run.state == run_pb2.Run.STATE_FAILED and run.error.startswith("JOB_DIED"):
                    # A Job that dies three times running ends its run, which goes on when it is told to.
                    print("resumed", file=sys.stderr)
                    run = patiently(lambda: client.resume_run(run.name))  # noqa: B023
        assert run.state == run_pb2.Run.STATE_SUCCEEDED, f"the run ended so: {run.error}"
        return run, time.monotonic() - start, killed
    finally:
        services.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shortest", type=float, default=8.0, help="fewest seconds between two kills")
    parser.add_argument("--longest", type=float, default=18.0, help="most seconds between two kills")
    options = parser.parse_args()
    dice = random.Random(options.seed)  # noqa: S311
    spec = parse_spec(load_yaml(options.file.read_text()), run_pb2.RunSpec)
    between = {"shortest": options.shortest, "longest": options.longest}
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder, "alone")
        expected, alone_seconds, _ = perform(alone, spec, 0, dice, **between)
        images = sum(key.startswith("draws/") for key in objects(alone))
        victims: list[str] = []
        spent, rounds, found_images = 0.0, 0, 0
        while len(victims) < options.kills:
            rounds += 1
            home = Path(folder, f"killed-{rounds}")
            run, seconds, killed = perform(home, spec, options.kills - len(victims), dice, **between)
            assert run.evaluation == expected.evaluation, "another result"
            assert set(objects(home)) == set(objects(alone)), "other objects than the run left alone"
            found_images += sum(key.startswith("draws/") for key in objects(home))
            victims += killed
            spent += seconds
    lost = (spent - rounds * alone_seconds) / len(victims)
    print(
        f"alone {alone_seconds:.1f} s; {rounds} runs with {len(victims)} kills {spent:.1f} s; "
        f"{lost:.1f} s lost per kill; {found_images} of {rounds * images} images; killed {dict(Counter(victims))}",
        file=sys.stderr,
    )
    line = {"name": "kill_single.images", "ratio": round(found_images / (rounds * images), 3), "goal": 1.0}
    print(json.dumps(line | {"better": "higher"}))
    print(json.dumps({"name": "kill_single.lost", "ratio": round(lost / 60, 3), "goal": 1.0, "better": "lower"}))


if __name__ == "__main__":
    main()
