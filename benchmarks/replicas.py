"""Generation with one replica and with three, each limited to a part of a core: spread and cost of chunks.

    python benchmarks/replicas.py examples/quickstart.yaml --namespace genaug

Needs kubectl, and GENAUG_ENDPOINT and GENAUG_AUTH__TOKEN of a release whose generation pods have a CPU limit
(services.generation.resources.limits.cpu). Prints one JSON line a ratio: {"name", "ratio", "goal", "better"}.

    replicas  seconds of the step `generate` with one replica over those with three; 2
    spread    images of the pod that drew fewest over those of the one that drew most, of three; 0.25
    chunk     seconds of a step all of whose images were drawn before, per chunk: the orchestrator's own; 0.5
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path

from genaug.client import Client
from genaug.schema.runfile import apply_overrides, load_yaml, parse_spec
from genaug.v1 import run_pb2

READ = """
import re, urllib.request
text = urllib.request.urlopen("http://127.0.0.1:9464/metrics").read().decode()
print(sum(float(value) for value in re.findall(r"^genaug_images_generated_total.* (.*)$", text, re.M)))
"""


class Release:
    def __init__(self, namespace: str, release: str, file: Path) -> None:
        self.namespace = namespace
        self.deployment = f"{release}-generation"
        self.file = file

    def kubectl(self, *args: str) -> str:
        command = ["kubectl", "-n", self.namespace, *args]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def scale(self, replicas: int) -> None:
        self.kubectl("scale", "deployment", self.deployment, f"--replicas={replicas}")
        self.kubectl("rollout", "status", f"deployment/{self.deployment}", "--timeout=180s")

    def drawn(self) -> list[float]:
        """Images that each pod has drawn."""
        selector = "app.kubernetes.io/component=generation"
        names = self.kubectl("get", "pods", "-l", selector, "--field-selector=status.phase=Running", "-o", "name")
        return [float(self.kubectl("exec", name, "--", "python3", "-c", READ)) for name in names.split()]

    def generate(self, client: Client, seed: int, **more: object) -> run_pb2.Run.Step:
        """The step `generate` of a run with its own seed."""
        # What follows the step is of no interest here.
        settings = {"generation.seed": seed, "evaluation.updates": 20, "evaluation.seeds": 2, **more}
        values = apply_overrides(
            load_yaml(self.file.read_text()), [f"{key}={value}" for key, value in settings.items()]
        )
        spec = parse_spec(values, run_pb2.RunSpec)
        spec.ClearField("import")
        run = list(client.watch_run(client.create_run(spec).name))[-1]
        assert run.state == run_pb2.Run.STATE_SUCCEEDED, run.error
        return next(step for step in run.steps if step.name == "generate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=5000)
    parser.add_argument("--namespace", default="genaug")
    parser.add_argument("--release", default="genaug")
    args = parser.parse_args()
    release = Release(args.namespace, args.release, args.file)
    with Client() as client:
        release.scale(3)
        # Until callers have asked for the addresses again; and each pod has loaded what it draws with.
        time.sleep(65)
        release.generate(client, args.seed)
        before = release.drawn()
        three = release.generate(client, args.seed + 1)
        pods = [after - drawn for after, drawn in zip(release.drawn(), before, strict=True)]
        again = release.generate(client, args.seed + 1, **{"evaluation.resamples": 1500})
        release.scale(1)
        one = release.generate(client, args.seed + 2)
    chunks = sum(result.startswith("batches/") for result in again.results)
    for name, ratio, goal, better in (
        ("replicas", one.seconds / three.seconds, 2, "higher"),
        ("spread", min(pods) / max(pods), 0.25, "higher"),
        ("chunk", again.seconds / chunks, 0.5, "lower"),
    ):
        print(json.dumps({"name": name, "ratio": round(ratio, 3), "goal": goal, "better": better}))
    print(json.dumps({"seconds": [one.seconds, three.seconds, again.seconds], "images_by_pod": pods, "chunks": chunks}))


if __name__ == "__main__":
    main()
