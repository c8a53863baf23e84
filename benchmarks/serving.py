"""VGG19 at 224 pixels, as we label, embed and train with it, beside the simplest way.

    export OMP_WAIT_POLICY=PASSIVE    # as services have it: threads that spin while they wait keep others waiting
    python benchmarks/serving.py
    python benchmarks/serving.py --odir ../shared/data/odir --weights vgg19.safetensors --images 1000

Without --odir on pictures drawn here, without --weights on features of an untrained network: both cost as much. A
labeler with the published head is trained on other images first. Prints Markdown tables and, last, one JSON line a
ratio: {"name", "ratio", "goal", "better"}. Ratios are those of this machine: a CPU without bfloat16 (AMX, AVX-512 BF16)
takes ten times as long in it, so that a few images tell.

    label.float32       seconds of the published notebook's loop (an image a pass, 32 bits, planes one after the other)
                        over ours, which must give the same labels
    label.bfloat16      the same in bfloat16; the table has the flips of labels and the margins that they are within
    label.int8          the same in 8 bits
    clients.ours        images a second of 16 clients who send one at a time to labeling, over those of one process that
                        has all of them
    clients.torchserve  the same for a TorchServe that serves the export (needs Java)
    embed               seconds of labelling a batch and embedding it, over labelling it
    train.cached        seconds of the published 35 epochs with the backbone in every update, over ours, which computes
                        its features once; from the measured seconds of an image and of an update
    train.bfloat16      seconds of an update of all layers in 32 bits over one in bfloat16
    train.layout        seconds of such an update with planes one after the other over ours
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from model_server import PORTS, torchserve, wait_until
from PIL import Image

from genaug.client import Client
from genaug.client.importers import open_source
from genaug.labeling.label import label_batch
from genaug.labeling.model_store import write_model
from genaug.labeling.open_inference import ModelServer, OnServer
from genaug.labeling.predictor import InProcess
from genaug.schema.classifiers import Classifier, ClassifierSpec, Head, Role, TrainingOptions, Tuning
from genaug.schema.common import Precision
from genaug.schema.requests import LabelRequest
from genaug.schema.run import ImportSpec, ScenarioSampling
from genaug.shared.digests import sha256
from genaug.shared.errors import Unavailable
from genaug.shared.manifest import Row, write_rows
from genaug.shared.settings import OpenInferenceSettings, Settings, StoreSettings
from genaug.shared.store import Store
from genaug.vision.batching.dynamic_batcher import ModelKey, serving
from genaug.vision.features.image_encoder import LocalEncoder, predict_all
from genaug.vision.images.pixels import decode, fitted
from genaug.vision.models.backbones import VGG19
from genaug.vision.models.classifiers import TrainedClassifier, load, read_record, save
from genaug.vision.models.networks import Network, build_network
from genaug.vision.training.config import TrainingConfig
from genaug.vision.training.fit import Labelled, fit, train

SIZE, CLIENTS, EPOCHS = 224, 16, 35
NAME = "classifiers/" + "1" * 32
PORT = 47071
Lines = list[dict[str, Any]]


@dataclass(frozen=True)
class Picture:
    """An encoded image with its class."""

    data: bytes
    kind: str


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def line(name: str, ratio: float, goal: float, better: str = "higher") -> dict[str, Any]:
    return {"name": f"serving.{name}", "ratio": round(ratio, 3), "goal": goal, "better": better}


def drawn(count: int) -> list[Picture]:
    """JPEGs of 512 pixels with colours that tell their class most of the time."""
    rng = np.random.default_rng(0)
    pictures = []
    for number in range(count):
        kind = number % 3
        coarse = rng.normal(np.eye(3)[kind] * 25 + 110, 45, (6, 6, 3)).clip(0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize((512, 512), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        pictures.append(Picture(file.getvalue(), "abc"[kind]))
    return pictures


def photographs(folder: Path, count: int) -> list[Picture]:
    """ODIR's seven classes; those of one patient stand together, so that a cut parts few."""
    options = ImportSpec(format="odir", images=str(folder / "preprocessed_images"), csv=str(folder / "full_df.csv"))
    listed = [image for image in open_source(options).images if image.class_name in "DGCAHMN"]
    listed.sort(key=lambda image: sha256(image.subject.encode()))
    return [Picture(image.read(), image.class_name) for image in listed[:count]]


def pixels_of(data: bytes) -> np.ndarray:
    return fitted(decode(data), image_size=SIZE, channels=3)


def published(weights: Path, classes: int, *, tuning: Tuning = Tuning.FROZEN) -> Network:
    """VGG19 under the published head."""
    spec = ClassifierSpec(backbone="VGG19", image_size=SIZE, tuning=tuning, head=Head.PUBLISHED, weights=str(weights))
    return build_network(spec, channels=3, classes=classes, seed=0)


def train_classifier(store: Store, pictures: Sequence[Picture], weights: Path, kinds: Sequence[str]) -> float:
    """Put a labeler into the store; return the seconds of an update of its head."""
    network = published(weights, len(kinds))
    pixels = np.stack([pixels_of(picture.data) for picture in pictures])
    targets = np.array([list(kinds).index(picture.kind) for picture in pictures], np.int64)
    features = Labelled(network.preprocess(pixels), targets)
    schedule = TrainingConfig(400, 64, 0.002, ScenarioSampling.CLASS_BALANCED)
    _, seconds = timed(lambda: fit(network, features, schedule=schedule))
    network.measure(pixels[:64])
    save(
        store,
        TrainedClassifier(tuple(kinds), network, thresholds=dict.fromkeys(kinds, 0.5)),
        name=NAME,
        record=Classifier(role=Role.LABELER, create_time="0"),
    )
    return seconds / schedule.updates


def notebook(store: Store, weights: Path) -> Callable[[bytes], np.ndarray]:
    """The published notebook's labelling: decode, resize, a minibatch of one image, in the layout of its arrays."""
    classifier = load(store, NAME, device="cpu")
    backbone = VGG19.build(image_size=SIZE, channels=3, weights=classifier.network.weights)
    backbone.to(memory_format=torch.contiguous_format)
    mean, std = (torch.tensor(value)[:, None, None] for value in (backbone.mean, backbone.std))

    def label(data: bytes) -> np.ndarray:
        image = torch.from_numpy(pixels_of(data).copy()).permute(2, 0, 1)[None].float().contiguous()
        with torch.inference_mode():
            maps = backbone.network((image - mean) / std)
            return classifier.classify(maps.mean((2, 3)).numpy())[1][0]

    return label


def ours(store: Store, precision: Precision, data: Sequence[bytes]) -> tuple[np.ndarray, float]:
    """Probabilities by the dynamic batcher, and its seconds; loading is not counted."""
    server = serving(store, Settings(), name="benchmark")
    encoder = LocalEncoder(server, ModelKey(NAME, precision), window=128)
    for _ in encoder.predict(iter(data[:4])):
        pass
    probabilities, seconds = timed(lambda: np.stack([result.probabilities for result in encoder.predict(iter(data))]))
    server.close()
    return probabilities, seconds


def labels(store: Store, pictures: Sequence[Picture], kinds: Sequence[str], weights: Path) -> Lines:
    truth = np.array([list(kinds).index(picture.kind) for picture in pictures])
    data = [picture.data for picture in pictures]
    loop = notebook(store, weights)
    loop(data[0])
    expected, alone = timed(lambda: np.stack([loop(image) for image in data]))
    margins = np.sort(expected, axis=1)[:, -1] - np.sort(expected, axis=1)[:, -2]
    print(f"\n{len(data)} images, {len(kinds)} classes, {torch.get_num_threads()} threads\n")
    print("| labelling | images/s | accuracy | flips | largest margin of a flip | better, worse than the loop |")
    print("|---|---:|---:|---:|---:|---:|")
    right = expected.argmax(1) == truth
    print(f"| the notebook's loop | {len(data) / alone:.2f} | {right.mean():.4f} | | | |")
    lines = []
    for precision, goal in ((Precision.FLOAT32, 1.3), (Precision.BFLOAT16, 2.5), (Precision.INT8, 5.0)):
        # Emulated, it takes ten times as long: a few images tell.
        slow = precision == Precision.BFLOAT16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
        count = min(len(data), 24) if slow else len(data)
        probabilities, seconds = ours(store, precision, data[:count])
        flips = probabilities.argmax(1) != expected[:count].argmax(1)
        mine = probabilities.argmax(1) == truth[:count]
        widest = margins[:count][flips].max() if flips.any() else 0.0
        word = precision.name.lower()
        print(
            f"| ours, {word}{f', {count} images' if slow else ''} | {count / seconds:.2f} | {mine.mean():.4f} | "
            f"{flips.sum()} | {widest:.4f} | {(mine & ~right[:count]).sum()}, {(~mine & right[:count]).sum()} |"
        )
        if precision == Precision.FLOAT32 and flips.any():
            raise SystemExit("ours labels differently in 32 bits")
        lines.append(line(f"label.{word}", alone / len(data) / (seconds / count), goal))
    return lines


@contextmanager
def labeling(folder: Path) -> Iterator[str]:
    address = f"127.0.0.1:{PORT}"
    environment = {
        "GENAUG_STORE__URL": f"file://{folder}",
        "GENAUG_HOME": str(folder),
        "GENAUG_SERVER__ADDRESS": address,
        "GENAUG_AUTH__MODE": "none",
        "GENAUG_INFERENCE__PRELOAD": json.dumps([NAME]),
        "PATH": os.environ["PATH"],
    }
    command = [str(Path(sys.executable).with_name("genaug")), "serve", "labeling"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield address
    finally:
        process.terminate()
        process.wait(60)


def answers(client: Client, data: bytes) -> bool:
    """Whether labeling, which may still load its classifier, answers."""
    try:
        return len(list(client.label_images(NAME, [data]))) == 1
    except Unavailable:
        return False


def concurrent(data: Sequence[bytes], ask: Callable[[bytes], Any]) -> float:
    """Images a second of `CLIENTS` callers who take turns through `data`."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(ask, data[:CLIENTS]))
        _, seconds = timed(lambda: list(pool.map(ask, data)))
    return len(data) / seconds


def clients(store: Store, folder: Path, data: Sequence[bytes], kinds: Sequence[str]) -> Lines:
    classifier = load(store, NAME, device="cpu")
    classifier.predict(np.stack([pixels_of(image) for image in data[:4]]))
    _, seconds = timed(lambda: classifier.predict(np.stack([pixels_of(image) for image in data])))
    ceiling = len(data) / seconds
    with labeling(folder) as address, Client(address) as client:
        wait_until(lambda: answers(client, data[0]))
        mine = concurrent(data, lambda image: list(client.label_images(NAME, [image])))
    settings = OpenInferenceSettings(address=f"127.0.0.1:{PORTS['port']}", images=1, requests=CLIENTS)
    models = folder / "models"
    model = ModelKey(NAME, Precision.FLOAT32)
    write_model(store, model, models)
    with torchserve(models):
        server = ModelServer(settings, queue=64)
        predictor = OnServer(server, model, Classifier(classes=tuple(kinds)), name=settings.model, window=1)
        theirs = concurrent(data, lambda image: list(predictor.predict(iter([image]))))
        server.close()
    print(f"\n{CLIENTS} clients, {len(data)} images\n\n| who answers | images/s |\n|---|---:|")
    for name, rate in (("one process that has all images", ceiling), ("labeling", mine), ("TorchServe", theirs)):
        print(f"| {name} | {rate:.2f} |")
    return [line("clients.ours", mine / ceiling, 0.9), line("clients.torchserve", theirs / ceiling, 0.9)]


def embedding(store: Store, data: Sequence[bytes], kinds: Sequence[str]) -> Lines:
    """Labelling a batch, then features of the same images for t-SNE and matching."""
    rows = []
    for image in data:
        digest = sha256(image)
        store.as_role("generation").put_new(f"draws/{digest[:2]}/{digest[:32]}", image)
        rows.append(
            Row(digest[:32], f"draws/{digest[:2]}/{digest[:32]}", digest, "", kinds[0], "train", source="synthetic",
                prompt=kinds[0])
        )  # fmt: skip
    batch = "batches/" + "2" * 32
    write_rows(store.as_role("generation"), f"{batch}/manifest.parquet", rows)
    server, model = serving(store, Settings(), name="benchmark"), ModelKey(NAME, Precision.FLOAT32)
    encoder = LocalEncoder(server, model, window=128)
    list(encoder.predict(iter(data[:4])))
    predictor = InProcess(server, model, read_record(store, NAME), window=128)
    _, label = timed(lambda: list(label_batch(LabelRequest(classifier=NAME, batch=batch), store, lambda: predictor)))
    _, embed = timed(lambda: list(predict_all(store, [row.uri for row in rows], encoder)))
    server.close()
    print(f"\n{len(data)} images labelled in {label:.2f} s, embedded after in {embed:.3f} s")
    return [line("embed", (label + embed) / label, 1.1, "lower")]


def trainings(weights: Path, pictures: Sequence[Picture], kinds: Sequence[str], *, update: float) -> Lines:
    batch = pictures[:8]
    pixels = np.stack([pixels_of(picture.data) for picture in batch])
    targets = np.array([list(kinds).index(picture.kind) for picture in batch], np.int64)
    frozen = published(weights, len(kinds))
    frozen.preprocess(pixels[:2])
    _, seconds = timed(lambda: frozen.preprocess(pixels))
    image = seconds / len(batch)
    # The published five classes: 842 images, seven updates an epoch.
    once, always = 842 * image + EPOCHS * 7 * update, EPOCHS * (842 * image + 7 * update)
    print(f"\nA frozen head: {image * 1e3:.0f} ms an image, {update * 1e3:.1f} ms an update on kept features")
    lines = [line("train.cached", always / once, 20)]

    def step(count: int, *, precision: Precision = Precision.FLOAT32, planes: bool = False) -> float:
        network = published(weights, len(kinds), tuning=Tuning.FINE_TUNED)
        if planes:
            network.backbone.maps = network.backbone.network  # type: ignore[union-attr]
            network.to(memory_format=torch.contiguous_format)
        data = Labelled(network.preprocess(pixels[:count]), targets[:count])
        plan = TrainingConfig(1, count, 1e-5, options=TrainingOptions(precision=precision))
        train(copy.deepcopy(network), data, schedule=plan)
        return timed(lambda: train(network, data, schedule=plan))[1]

    count = 8 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else 2
    exact = step(count)
    seconds_of = {"bfloat16": step(count, precision=Precision.BFLOAT16), "layout": step(count, planes=True)}
    print(
        f"All layers, {count} images an update: float32 {exact:.2f} s, bfloat16 {seconds_of['bfloat16']:.2f} s, ",
        end="",
    )
    print(f"float32 with planes one after the other {seconds_of['layout']:.2f} s")
    lines.append(line("train.bfloat16", exact / seconds_of["bfloat16"], 2.2))
    return [*lines, line("train.layout", seconds_of["layout"] / exact, 1.0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--odir", type=Path, help="folder of full_df.csv and preprocessed_images")
    parser.add_argument("--weights", type=Path, help="VGG19's convolutions, safetensors with torchvision's names")
    parser.add_argument("--images", type=int, default=64, help="images to label")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        weights = asked.weights or folder / "vgg19.safetensors"
        if not asked.weights:
            torch.manual_seed(0)
            layers = VGG19.build(image_size=SIZE, channels=3).network.state_dict()
            tensors = {f"features.{name}": tensor.contiguous() for name, tensor in layers.items()}
            safetensors.torch.save_file(tensors, weights)
        shown = asked.images
        learnt = min(shown, 400)
        pictures = photographs(asked.odir, shown + learnt) if asked.odir else drawn(shown + learnt)
        if len(pictures) < shown + learnt:
            raise SystemExit(f"--images {shown}: there are {len(pictures)}; the labeler learns from {learnt} others")
        kinds = sorted({picture.kind for picture in pictures})
        train_store = Store.open(StoreSettings(url=f"file://{folder / 'store'}"), "train")
        store = train_store.as_role("labeling")
        update = train_classifier(train_store, pictures[shown:], weights, kinds)
        data = [picture.data for picture in pictures[:shown]]
        lines = labels(store, pictures[:shown], kinds, weights)
        lines += clients(store, folder / "store", data[:96], kinds)
        lines += embedding(store, data[:128], kinds)
        lines += trainings(weights, pictures[shown:], kinds, update=update)
    print()
    for entry in lines:
        print(json.dumps(entry))


if __name__ == "__main__":
    main()
