"""A real TorchServe, kept in line with the store: the same labels as in process, and nothing lost when it fails."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from tests.servers import GENAUG, Home, free_port, missing, wait_until

from genaug.client import Client
from genaug.labeling.model_store import TorchServe
from genaug.labeling.open_inference import ModelServer, OnServer
from genaug.schema.classifiers import Classifier
from genaug.schema.common import Precision
from genaug.schema.wire import from_proto
from genaug.shared.errors import GenaugError
from genaug.shared.settings import OpenInferenceSettings
from genaug.v1 import classifier_pb2, common_pb2
from genaug.vision.batching.dynamic_batcher import ImageResult, ModelKey
from genaug.vision.images.pixels import encode_png

LABELER = classifier_pb2.Classifier.ROLE_LABELER


@dataclass
class Served:
    """A TorchServe that serves the labeler of the shared run."""

    port: int
    management: TorchServe
    labeler: classifier_pb2.Classifier
    name: str
    server: subprocess.Popen[bytes]
    folder: Path

    def predictor(self, precision: Precision = Precision.FLOAT32, **changes: object) -> tuple[ModelServer, OnServer]:
        settings = OpenInferenceSettings(
            **{"address": f"127.0.0.1:{self.port}", "patience_s": 100, "deadline_s": 20, **changes}
        )
        server = ModelServer(settings, queue=1000)
        record = from_proto(Classifier, self.labeler)
        return server, OnServer(server, ModelKey(self.labeler.name, precision), record, name=settings.model, window=64)


@pytest.fixture(scope="module")
def served(home: Home, run: dict, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if shutil.which("java") is None or find_spec("ts") is None:
        missing("TorchServe (Java and genaug[torchserve])")
    folder = tmp_path_factory.mktemp("models")
    port, ping, management, metrics, grpc_management, ready = (free_port() for _ in range(6))
    ports = {"port": port, "ping-port": ping, "management-port": management, "metrics-port": metrics}
    ports |= {"grpc-management-port": grpc_management}
    options = [text for name, number in ports.items() for text in (f"--{name}", str(number))]
    sync = [*("--labelers", "1", "--management", f"http://127.0.0.1:{management}", "--ready-port", str(ready))]
    with (folder.parent / "model-server.log").open("wb") as log:
        command = [GENAUG, "model-server", "run", "--models", folder, *options]
        server = subprocess.Popen(command, env=home.env(), stdout=log, stderr=log)
        command = [GENAUG, "model-server", "sync", "--models", folder, *sync]
        kept = subprocess.Popen(command, env=home.env(), stdout=log, stderr=log)
    try:
        wait_until(lambda: answers(ready), what="the model server", seconds=120)
        (name,) = TorchServe(f"http://127.0.0.1:{management}").models()
        with open_client(home) as client:
            labelers = [one for one in client.list_classifiers() if one.role == LABELER]
        # The run has a second labeler; the one that was trained last is served.
        labeler = max(labelers, key=lambda one: (one.create_time, one.name))
        assert name.startswith(labeler.name.removeprefix("classifiers/"))
        yield Served(port, TorchServe(f"http://127.0.0.1:{management}"), labeler, name, server, folder)
    finally:
        kept.terminate()
        server.terminate()
        kept.wait(20)
    assert server.wait(30) in (0, 143), "TorchServe ends when it is told to"


def open_client(home: Home) -> Client:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENAUG_HOME", str(home.folder))
        return Client()


def answers(port: int) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        return opener.open(f"http://127.0.0.1:{port}/ready", timeout=5).status == 200
    except (OSError, urllib.error.HTTPError):
        return False


def digits(count: int) -> list[bytes]:
    return [encode_png((image * 15).astype(np.uint8)[:, :, None]) for image in load_digits().images[:count]]


@pytest.mark.parametrize("precision", [Precision.FLOAT32, Precision.BFLOAT16])
def test_the_same_labels_through_both(served: Served, home: Home, precision: Precision) -> None:
    word = precision.name
    if precision != Precision.FLOAT32:
        # Unlike the other, which `sync` has brought.
        digest = served.labeler.name.removeprefix("classifiers/")
        exported = ("classifier", "export", digest, "--format", "torchserve", "--precision", word)
        home.run(*exported, "--output", str(served.folder))
        served.management.load(f"{digest}-{word.lower()}")
    images = digits(200)
    server, remote = served.predictor(precision)
    far = list(remote.predict(iter(images)))
    server.close()
    with open_client(home) as client:
        number = common_pb2.Precision.Value(precision)
        near = list(client.label_images(served.labeler.name, images, top_k=0, precision=number))
    classes = list(served.labeler.classes)
    ours = np.array([[{t.class_name: t.probability for t in one.top}[c] for c in classes] for one in near])
    theirs = np.stack([one.probabilities for one in far])
    assert np.abs(ours - theirs).max() <= 1e-3
    assert (ours.argmax(1) == theirs.argmax(1)).mean() >= 0.999


def test_a_bad_image_in_every_request_spoils_no_neighbour(served: Served) -> None:
    images = digits(60)
    images[::6] = [one[:40] for one in images[::6]]
    server, remote = served.predictor()
    found = [one.status for one in remote.predict(iter(images))]
    server.close()
    assert found == ["UNREADABLE" if number % 6 == 0 else "OK" for number in range(60)]


def test_a_worker_that_is_killed_mid_load_loses_nothing(served: Served) -> None:
    images = digits(400)
    server, remote = served.predictor()
    answered: list[ImageResult] = []
    for number, one in enumerate(remote.predict(iter(images))):
        answered.append(one)
        if number == 100:
            os.kill(served.management.worker_pids(served.name)[0], signal.SIGKILL)
    server.close()
    assert [one.status for one in answered] == ["OK"] * 400


def test_labeling_asks_it_where_the_configuration_says_so(served: Served, home: Home, run: dict) -> None:
    address = f"127.0.0.1:{free_port()}"
    chosen = {
        "GENAUG_LABELING__PREDICTOR": "open-inference",
        "GENAUG_LABELING__OPEN_INFERENCE__ADDRESS": f"127.0.0.1:{served.port}",
        "GENAUG_INFERENCE__PRELOAD": f'["{served.labeler.name}"]',
    }
    command = [GENAUG, "serve", "labeling", "--address", address]
    labeling = subprocess.Popen(command, env=home.env() | chosen)
    image = digits(1)[0]
    try:
        with Client(address) as client, open_client(home) as near:
            wait_until(lambda: listens(client), what="labeling")
            (far,) = client.label_images(served.labeler.name, [image])
            (own,) = near.label_images(served.labeler.name, [image])
    finally:
        labeling.terminate()
    assert labeling.wait(30) == 0
    assert far.top[0].class_name == own.top[0].class_name
    assert far.top[0].probability == pytest.approx(own.top[0].probability, abs=1e-3)


def listens(client: Client) -> bool:
    try:
        next(iter(client.list_classifiers()))
    except GenaugError:
        return False
    return True
