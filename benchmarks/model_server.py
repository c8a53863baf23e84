"""A real TorchServe under failures of all kinds, through our client: lost images and the longest silence.

    python benchmarks/model_server.py

Needs Java and genaug[torchserve]. Tiny images and a tiny network: what is measured is the way, not the passes. Prints a
Markdown table (images asked for, answered, failed by name, lost; the longest silence in seconds) and a JSON line
{"name", "ratio", "goal", "better"}: the share of images that were answered or named, over all cases, which must be 1.

    killed      the worker is killed with SIGKILL mid-load
    damaged     a truncated image in every request
    cancelled   500 calls whose callers leave at once, then images of one who stays
    overflow    the server's own queue holds 2 requests, 64 are under way
    reload      a classifier comes, another goes, while a third is asked
    crash loop  a model whose handler ends its process while loading, beside one that is well: it never counts as ready
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from obstore.store import MemoryStore

from genaug.labeling.export import model_name
from genaug.labeling.model_store import ModelStore, TorchServe, write_model
from genaug.labeling.open_inference import ModelServer, OnServer
from genaug.schema.classifiers import Classifier, ClassifierSpec, Role
from genaug.schema.common import Precision
from genaug.shared.errors import GenaugError
from genaug.shared.settings import OpenInferenceSettings
from genaug.shared.store import Store
from genaug.vision.batching.dynamic_batcher import ModelKey
from genaug.vision.images.pixels import encode_png
from genaug.vision.models.classifiers import TrainedClassifier, save
from genaug.vision.models.networks import build_network

CLASSES = ("a", "b", "c")
MODELS = [ModelKey("classifiers/" + digit * 32, Precision.FLOAT32) for digit in "123"]
PORTS = {"port": 47070, "ping-port": 48080, "management-port": 48081, "metrics-port": 48082}
GENAUG = Path(sys.executable).with_name("genaug")


@dataclass
class Outcome:
    """Outcome of the images of a case."""

    name: str
    asked: int
    answered: int = 0
    failed: int = 0
    silence: float = 0.0
    remark: str = ""

    @property
    def lost(self) -> int:
        return self.asked - self.answered - self.failed


def classifiers() -> Store:
    store = Store(MemoryStore(), "train", url="memory://")
    spec = ClassifierSpec(backbone="SMALL_CNN", image_size=8).completed(8, pre_resize=0)
    for seed, model in enumerate(MODELS):
        network = build_network(spec, channels=1, classes=len(CLASSES), seed=seed)
        record = Classifier(role=Role.LABELER, create_time=str(seed))
        save(store, TrainedClassifier(CLASSES, network), name=model.name, record=record)
    return store.as_role("labeling")


def images(count: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    return [encode_png(rng.integers(0, 256, (8, 8, 1), np.uint8)) for _ in range(count)]


@contextlib.contextmanager
def torchserve(folder: Path, *, queue: int = 200) -> Iterator[TorchServe]:
    options = [text for name, number in PORTS.items() for text in (f"--{name}", str(number))]
    command = [GENAUG, "model-server", "run", "--models", folder, "--queue", str(queue), *options]
    with (folder.parent / "torchserve.log").open("wb") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
    server = TorchServe(f"http://127.0.0.1:{PORTS['management-port']}")
    try:
        wait_until(server.is_ready)
        yield server
    finally:
        process.terminate()
        process.wait(60)


def wait_until(holds: Callable[[], bool], *, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise SystemExit("the server did not come up; of TorchServe, see torchserve.log")
        time.sleep(0.2)


@contextlib.contextmanager
def client(model: ModelKey = MODELS[0], **changes: object) -> Iterator[OnServer]:
    settings = OpenInferenceSettings(**{"address": f"127.0.0.1:{PORTS['port']}", "deadline_s": 20, **changes})
    server = ModelServer(settings, queue=4096)
    try:
        yield OnServer(server, model, Classifier(classes=CLASSES), name=settings.model, window=256)
    finally:
        server.close()


def take(
    name: str, predictor: OnServer, data: list[bytes], *, meanwhile: dict[int, Callable[[], None]] | None = None
) -> Outcome:
    """Classify `data`; call `meanwhile[n]` after result n."""
    outcome, last = Outcome(name, len(data)), time.monotonic()
    for number, result in enumerate(predictor.predict(iter(data))):
        outcome.silence, last = max(outcome.silence, time.monotonic() - last), time.monotonic()
        if result.probabilities is not None:
            outcome.answered += 1
        else:
            outcome.failed += 1
        if meanwhile and number in meanwhile:
            meanwhile[number]()
    return outcome


def killed(server: TorchServe) -> Outcome:
    def kill() -> None:
        os.kill(server.worker_pids(model_name(MODELS[0]))[0], signal.SIGKILL)

    with client() as predictor:
        return take("killed", predictor, images(2000), meanwhile={500: kill})


def damaged() -> Outcome:
    data = images(800)
    data[::8] = [image[:50] for image in data[::8]]
    with client(images=8) as predictor:
        outcome = take("damaged", predictor, data)
    outcome.remark = "each damaged image is named" if outcome.failed == 100 else f"{outcome.failed} named of 100"
    return outcome


def cancelled(server: TorchServe) -> Outcome:
    with client() as predictor:
        for _ in range(500):
            predictor.predict(iter(images(4))).close()
        outcome = take("cancelled", predictor, images(200))
        wait_until(lambda: server.waiting(model_name(MODELS[0])) == 0, seconds=20)
    outcome.remark = "the server's queue is empty after"
    return outcome


def overflow() -> Outcome:
    with client(images=1, requests=64) as predictor:
        return take("overflow", predictor, images(1000))


def reload(server: TorchServe, store: Store, folder: Path) -> Outcome:
    models = ModelStore(store, folder, server, linger_s=0)
    done = threading.Event()

    def change() -> None:
        models.sync(MODELS[:2])
        models.sync([MODELS[0], MODELS[2]])
        models.sync(MODELS[:1])
        done.set()

    worker = threading.Thread(target=change)
    outcome = Outcome("reload", 0)
    with client() as predictor:
        worker.start()
        while not done.is_set():
            part = take("reload", predictor, images(200))
            outcome.asked += part.asked
            outcome.answered += part.answered
            outcome.failed += part.failed
            outcome.silence = max(outcome.silence, part.silence)
    worker.join()
    outcome.remark = "two loaded, two unloaded"
    return outcome


def crash_loop(server: TorchServe, store: Store, folder: Path) -> Outcome:
    broken = write_model(store, MODELS[1], folder)
    (broken / "handler.py").write_text("import os\n\n\ndef handle(data, context):\n    os._exit(3)\n")
    loading = threading.Thread(target=_load, args=(server, broken.name), daemon=True)
    loading.start()
    with client() as predictor:
        outcome = take("crash loop", predictor, images(1000))
    ready = server.is_ready()
    with contextlib.suppress(GenaugError):
        server.unload(broken.name)
    outcome.remark = "counts as ready" if ready else "never counts as ready; its neighbour answers"
    loading.join(5)
    return outcome


def _load(server: TorchServe, name: str) -> None:
    with contextlib.suppress(GenaugError):
        server.load(name)


def main() -> None:
    store = classifiers()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "models"
        write_model(store, MODELS[0], folder)
        with torchserve(folder, queue=2):
            outcomes.append(overflow())
        with torchserve(folder) as server:
            outcomes += [killed(server), damaged(), cancelled(server), reload(server, store, folder)]
            outcomes.append(crash_loop(server, store, folder))
    print("| case | asked | answered | named | lost | longest silence, s | |\n|---|---:|---:|---:|---:|---:|---|")
    for outcome in outcomes:
        numbers = f"{outcome.asked} | {outcome.answered} | {outcome.failed} | {outcome.lost} | {outcome.silence:.1f}"
        print(f"| {outcome.name} | {numbers} | {outcome.remark} |")
    share = 1 - sum(outcome.lost for outcome in outcomes) / sum(outcome.asked for outcome in outcomes)
    print(json.dumps({"name": "model_server.not_lost", "ratio": share, "goal": 1.0, "better": "higher"}))
    if share < 1:
        raise SystemExit("images were lost")


if __name__ == "__main__":
    main()
