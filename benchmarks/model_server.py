"""A real TorchServe under everything that goes wrong with one, asked through our client: what is lost, how long.

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
from genaug.shared.errors import GenaugError
from genaug.shared.settings import OpenInferenceSettings
from genaug.shared.store import Store
from genaug.vision.batching.dynamic_batcher import Model
from genaug.vision.images.pixels import encode_png
from genaug.vision.models.backbones import SMALL_CNN
from genaug.vision.models.classifiers import Classifier, save
from genaug.vision.models.networks import build_network
from genaug.vision.models.precision import FLOAT32

CLASSES = ("a", "b", "c")
MODELS = [Model("classifiers/" + digit * 32, FLOAT32) for digit in "123"]
PORTS = {"port": 47070, "ping-port": 48080, "management-port": 48081, "metrics-port": 48082}
GENAUG = Path(sys.executable).with_name("genaug")


@dataclass
class Outcome:
    """What became of the images of a case."""

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
    for seed, model in enumerate(MODELS):
        network = build_network(SMALL_CNN, image_size=8, channels=1, classes=len(CLASSES), seed=seed)
        record = {"role": "ROLE_LABELER", "create_time": str(seed)}
        save(store, Classifier(CLASSES, network), name=model.name, record=record)
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
def asked(model: Model = MODELS[0], **changes: object) -> Iterator[OnServer]:
    settings = OpenInferenceSettings(**{"address": f"127.0.0.1:{PORTS['port']}", "deadline_s": 20, **changes})
    server = ModelServer(settings, queue=4096)
    try:
        yield OnServer(server, model, {"classes": list(CLASSES)}, name=settings.model, window=256)
    finally:
        server.close()


def take(
    name: str, on: OnServer, data: list[bytes], *, meanwhile: dict[int, Callable[[], None]] | None = None
) -> Outcome:
    """Ask for `data`, doing something after so many answers."""
    found, last = Outcome(name, len(data)), time.monotonic()
    for number, seen in enumerate(on.predict(iter(data))):
        found.silence, last = max(found.silence, time.monotonic() - last), time.monotonic()
        if seen.probabilities is not None:
            found.answered += 1
        else:
            found.failed += 1
        if meanwhile and number in meanwhile:
            meanwhile[number]()
    return found


def killed(server: TorchServe) -> Outcome:
    def kill() -> None:
        os.kill(server.worker_pids(model_name(MODELS[0]))[0], signal.SIGKILL)

    with asked() as on:
        return take("killed", on, images(2000), meanwhile={500: kill})


def damaged() -> Outcome:
    data = images(800)
    data[::8] = [one[:50] for one in data[::8]]
    with asked(images=8) as on:
        found = take("damaged", on, data)
    found.remark = "each damaged image is named" if found.failed == 100 else f"{found.failed} named of 100"
    return found


def cancelled(server: TorchServe) -> Outcome:
    with asked() as on:
        for _ in range(500):
            on.predict(iter(images(4))).close()
        found = take("cancelled", on, images(200))
        wait_until(lambda: server.waiting(model_name(MODELS[0])) == 0, seconds=20)
    found.remark = "the server's queue is empty after"
    return found


def overflow() -> Outcome:
    with asked(images=1, requests=64) as on:
        return take("overflow", on, images(1000))


def reload(server: TorchServe, store: Store, folder: Path) -> Outcome:
    kept = ModelStore(store, folder, server, linger_s=0)
    done = threading.Event()

    def change() -> None:
        kept.sync(MODELS[:2])
        kept.sync([MODELS[0], MODELS[2]])
        kept.sync(MODELS[:1])
        done.set()

    worker = threading.Thread(target=change)
    found = Outcome("reload", 0)
    with asked() as on:
        worker.start()
        while not done.is_set():
            part = take("reload", on, images(200))
            found.asked += part.asked
            found.answered += part.answered
            found.failed += part.failed
            found.silence = max(found.silence, part.silence)
    worker.join()
    found.remark = "two loaded, two unloaded"
    return found


def crash_loop(server: TorchServe, store: Store, folder: Path) -> Outcome:
    broken = write_model(store, MODELS[1], folder)
    (broken / "handler.py").write_text("import os\n\n\ndef handle(data, context):\n    os._exit(3)\n")
    loading = threading.Thread(target=_load, args=(server, broken.name), daemon=True)
    loading.start()
    with asked() as on:
        found = take("crash loop", on, images(1000))
    ready = server.is_ready()
    with contextlib.suppress(GenaugError):
        server.unload(broken.name)
    found.remark = "counts as ready" if ready else "never counts as ready; its neighbour answers"
    loading.join(5)
    return found


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
    for one in outcomes:
        numbers = f"{one.asked} | {one.answered} | {one.failed} | {one.lost} | {one.silence:.1f}"
        print(f"| {one.name} | {numbers} | {one.remark} |")
    share = 1 - sum(one.lost for one in outcomes) / sum(one.asked for one in outcomes)
    print(json.dumps({"name": "model_server.not_lost", "ratio": share, "goal": 1.0, "better": "higher"}))
    if share < 1:
        raise SystemExit("images were lost")


if __name__ == "__main__":
    main()
