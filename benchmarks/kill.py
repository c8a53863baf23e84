"""A run that is killed (kill -9 of client, server and Jobs) at random moments, beside the same run left alone.

    python benchmarks/kill.py examples/quickstart.yaml --kills 10

Prints one JSON line per ratio: {"name", "ratio", "goal", "better"}. Fails when the results differ, when an object is
written twice, or when images are missing.

    time    seconds to the end, all attempts together, over those of the run left alone
    images  images found over images expected; 1
    again   seconds of the same command once more, over 15
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

RESULTS = (
    *("draws", "batches", "labels", "generators", "classifiers", "evaluations", "selections", "embeddings"),
    "matches",
)


def command(home: Path, file: Path, *more: str) -> tuple[list[str], dict[str, str]]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GENAUG_")}
    run = [sys.executable, "-m", "genaug.cli", "run", "create", "-f", str(file), "--wait", "-o", "json", *more]
    return run, clean | {"GENAUG_HOME": str(home)}


def finish(home: Path, file: Path) -> tuple[dict, float]:
    run, environment = command(home, file)
    start = time.monotonic()
    process = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    if process.returncode:
        raise SystemExit(f"the run failed\n{process.stderr}")
    return json.loads(process.stdout), time.monotonic() - start


def objects(home: Path) -> dict[str, int]:
    store = home / "store"
    return {
        str(path.relative_to(store)): path.stat().st_mtime_ns
        for folder in RESULTS
        for path in (store / folder).rglob("*")
        # A write cut short leaves a temporary file, which no reader sees; a checkpoint is replaced by design.
        if path.is_file() and "#" not in path.name and path.name != "checkpoint.safetensors"
    }


def kill_at(home: Path, file: Path, seconds: float) -> tuple[float, list[str]]:
    """Start the run, kill command, server and Jobs, and return the seconds it had and the steps it was at."""
    run, environment = command(home, file)
    start = time.monotonic()
    sink = subprocess.DEVNULL
    process = subprocess.Popen(run, env=environment, stdout=sink, stderr=sink, start_new_session=True)
    try:
        process.wait(seconds)
        return time.monotonic() - start, ["finished before the kill"]
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        # The server leads a session of its own.
        with suppress(FileNotFoundError, ProcessLookupError):
            os.killpg(json.loads((home / "server.json").read_text())["pid"], signal.SIGKILL)
    records = [json.loads(path.read_text()) for path in (home / "store" / "runs").glob("*/run.json")]
    at = [step["name"] for record in records for step in record["steps"] if step["state"] == "STATE_RUNNING"]
    return time.monotonic() - start, at


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=60.0, help="seconds an attempt lives at most")
    parser.add_argument("--keep", type=Path, help="folder in which the two homes are left")
    options = parser.parse_args()
    dice = random.Random(options.seed)  # noqa: S311
    with tempfile.TemporaryDirectory() as folder:
        alone, killed = Path(options.keep or folder, "alone"), Path(options.keep or folder, "killed")
        expected, alone_seconds = finish(alone, options.file)
        spent, written = 0.0, {}
        for number in range(options.kills):
            seconds, at = kill_at(killed, options.file, dice.uniform(2, options.longest))
            spent += seconds
            now = objects(killed)
            assert all(now.get(key) == when for key, when in written.items()), "a finished result was written again"
            written = now
            print(
                f"kill {number + 1}: after {seconds:.1f} s, at {', '.join(at) or 'the import'}; {len(now)} objects",
                file=sys.stderr,
            )
        run, seconds = finish(killed, options.file)
        assert run["evaluation"] == expected["evaluation"], "another result"
        left = objects(killed)
        assert all(left.get(key) == when for key, when in written.items()), "a finished result was written again"
        images = {home: sum(key.startswith("draws/") for key in objects(home)) for home in (alone, killed)}
        assert set(left) == set(objects(alone)), "other objects than the run left alone"
        _, again = finish(killed, options.file)
        assert objects(killed) == left, "something was computed again"
        print(
            f"alone {alone_seconds:.1f} s; killed {spent:.1f} s + {seconds:.1f} s; again {again:.1f} s", file=sys.stderr
        )
        for name, ratio, goal in (
            ("time", (spent + seconds) / alone_seconds, 4.0),
            ("images", images[killed] / images[alone], 1.0),
            ("again", again / 15, 1.0),
        ):
            line = {"name": f"kill.{name}", "ratio": round(ratio, 3), "goal": goal, "better": "lower"}
            print(json.dumps(line if name != "images" else line | {"better": "higher"}))


if __name__ == "__main__":
    main()
