"""Step 1: make a generator from the training rows of a dataset version. A Job; it alone writes `generators/`."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from genaug.generation.artefacts import Artefact, write_artefact
from genaug.generation.generators import class_conditional, transforms
from genaug.shared.digests import seed_of
from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.shared.manifest import Row, read_rows
from genaug.shared.names import version_ids
from genaug.shared.provenance import now, provenance
from genaug.shared.requests import RECIPES, Report, generator_name
from genaug.shared.store import Store
from genaug.vision.arrays import load_pixels
from genaug.vision.devices import pick_device

log = logging.getLogger(__name__)

_FEWEST_IMAGES = 2
_LARGEST_SIDE = 64
_LOSSES = 50
# Share of images that are shown without their class, so that one network learns both halves of guidance.
_CLASS_DROPOUT = 0.1
# Every other image is shown moved a little, and labelled so: a few dozen images are not learnt by heart.
_JITTER_SHARE = 0.5
_JITTER_DEGREES = 5.0
_JITTER_SHIFT = 0.06
_JITTER_SCALE = 0.06
_WARM_UP = 50
_EMA_DECAY = 0.995
_LARGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class TrainingSet:
    """What a generator may see: real training images of its classes."""

    ids: list[str]
    pixels: NDArray[np.uint8]
    """[n, image_size, image_size, channels]"""
    labels: NDArray[np.int64]
    """Index of each image's class."""


@dataclass(frozen=True)
class Made:
    """What fine-tuning leaves."""

    config: dict[str, Any]
    weights: bytes
    losses: list[float]


def finetune(inputs: dict[str, Any], store: Store, report: Report, *, device: str) -> str:
    """Make the generator of `inputs` unless the store has it. Safe to kill and to run again.

    Args:
        inputs: dataset_version; classes, in the order of the label map; generator: the message `GeneratorSpec` as
            JSON with every default written out, and the dataset's `channels`.
        device: "auto", "cpu", "cuda", …

    Returns:
        "generators/{digest}".

    Raises:
        InvalidArgument: the specification is out of range.
        FailedPrecondition: a class has fewer than two training images.
        NotFound: the dataset version is not there.
    """
    name = generator_name(inputs)
    if store.exists(f"{name}/generator.json"):
        return name
    start = time.monotonic()
    spec, classes = inputs["generator"], list(inputs["classes"])
    rows = training_rows(store, inputs["dataset_version"], classes=classes)
    makers = {class_conditional.KIND: train_diffusion, transforms.KIND: pack_images}
    if spec["kind"] not in makers:
        raise InvalidArgument(
            f"generator.kind: {spec['kind']!r} is none of {', '.join(makers)}", reason="BAD_GENERATOR_KIND"
        )
    _check_shape(spec)
    pixels = load_pixels(store, rows, image_size=spec["image_size"], channels=spec["channels"])
    labels = np.array([classes.index(row.class_name) for row in rows], np.int64)
    training = TrainingSet([row.image_id for row in rows], pixels, labels)
    made = makers[spec["kind"]](spec, classes, training, report=report, device=pick_device(device))
    record = _record(name, inputs, rows, losses=made.losses, seconds=time.monotonic() - start)
    write_artefact(store, Artefact(name, record, made.config, made.weights))
    log.info("generator made", extra={"generator": name, "seconds": record["provenance"]["seconds"]})
    return name


def training_rows(store: Store, version: str, *, classes: Sequence[str]) -> list[Row]:
    """The real training rows of `classes`, sorted by image id: their order is no accident of the manifest's.

    Raises:
        InvalidArgument: no class is named, or one twice.
        FailedPrecondition: a class has fewer than two images.
    """
    version_ids(version)
    if not classes or len(set(classes)) != len(classes):
        raise InvalidArgument(
            f"classes: {', '.join(classes) or 'none'}; name each class to draw, once", reason="BAD_CLASSES"
        )
    rows = read_rows(store, f"{version}/rows.parquet")
    found = [row for row in rows if row.split == "train" and row.source == "real" and row.class_name in classes]
    counts = Counter(row.class_name for row in found)
    few = [f"{name} has {counts[name]}" for name in classes if counts[name] < _FEWEST_IMAGES]
    if few:
        raise FailedPrecondition(
            f"{version}: a generator needs {_FEWEST_IMAGES} training images of each class and class {', '.join(few)}; "
            "import more, or leave it out of `classes`",
            reason="TOO_FEW_IMAGES",
        )
    return sorted(found, key=lambda row: row.image_id)


def pack_images(
    spec: dict[str, Any], classes: list[str], training: TrainingSet, *, report: Report, device: torch.device
) -> Made:
    """KIND_TRANSFORMS: nothing to learn; the images travel with the ranges, and are transformed when drawn."""
    ranges = transforms.Ranges(**spec.get("transforms", {}))
    ranges.check()
    weights = transforms.pack(training.pixels, ids=training.ids, labels=training.labels.tolist())
    total = len(training.ids)
    config = transforms.config_json(
        ranges, classes=classes, image_size=spec["image_size"], channels=spec["channels"], images=total
    )
    report(total, total, "images")
    return Made(config, weights, losses=[])


def train_diffusion(
    spec: dict[str, Any], classes: list[str], training: TrainingSet, *, report: Report, device: torch.device
) -> Made:
    """KIND_CLASS_CONDITIONAL: train the network from scratch to predict the velocity v (Salimans & Ho 2022, section 4).

    Batches hold each class equally often in expectation. The weights that are kept are an exponential moving average.
    """
    _check_training(spec)
    config = class_conditional.new_config(
        classes=classes,
        image_size=spec["image_size"],
        channels=spec["channels"],
        base_channels=spec["base_channels"],
    )
    seed, updates = seed_of("finetune", spec["seed"]), spec["train_steps"]
    # Only the initial weights come from torch's global generator; leave it as it was found.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = class_conditional.build_network(config)
    network = network.to(device).train()
    average = copy.deepcopy(network).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=spec["learning_rate"], weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: _learning_rate(update, updates))
    batches = _Batches(config, training, size=spec["batch_size"], seed=seed, device=device)
    losses = []
    with class_conditional.fitting_threads(config):
        for update in range(updates):
            noisy, times, labels, velocity = batches.draw()
            predicted = network(noisy, times, class_labels=labels).sample
            loss = (predicted - velocity).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            clip_grad_norm_(network.parameters(), _LARGEST_GRADIENT)
            optimizer.step()
            schedule.step()
            _follow(average, network, decay=min(_EMA_DECAY, (1 + update) / (10 + update)))
            losses.append(loss.item())
            report(update + 1, updates, "updates")
    weights = {key: value.cpu().contiguous() for key, value in average.state_dict().items()}
    return Made(class_conditional.config_json(config), safetensors.torch.save(weights), losses=_intervals(losses))


def _check_shape(spec: dict[str, Any]) -> None:
    side, channels = spec["image_size"], spec["channels"]
    if side % 8 or not 8 <= side <= _LARGEST_SIDE:
        raise InvalidArgument(
            f"generator.image_size: {side} is not a multiple of 8 from 8 to {_LARGEST_SIDE}", reason="BAD_SIZE"
        )
    if channels not in (1, 3):
        raise InvalidArgument(f"generator.channels: {channels} is neither 1 nor 3", reason="BAD_CHANNELS")


def _check_training(spec: dict[str, Any]) -> None:
    for field in ("train_steps", "batch_size", "learning_rate"):
        if not spec[field] > 0:
            raise InvalidArgument(f"generator.{field}: {spec[field]} is not above 0", reason="BAD_TRAINING")


class _Batches:
    """Random batches with their noise; the same on every device, for they are drawn on the CPU."""

    def __init__(
        self, config: class_conditional.Config, training: TrainingSet, *, size: int, seed: int, device: torch.device
    ) -> None:
        self._config = config
        self._images = class_conditional.to_images(training.pixels)
        labels = torch.from_numpy(training.labels)
        self._of_class = [torch.nonzero(labels == index)[:, 0] for index in range(len(config.classes))]
        self._counts = torch.tensor([len(images) for images in self._of_class])
        self._starts = self._counts.cumsum(0) - self._counts
        self._order = torch.cat(self._of_class)
        self._keep = class_conditional.build_scheduler(config).alphas_cumprod
        self._size = size
        self._source = torch.Generator().manual_seed(seed)
        self._device = device

    def draw(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Noisy images, their times, their labels (some withheld) and the velocity to predict."""
        labels = torch.randint(len(self._of_class), (self._size,), generator=self._source)
        within = (torch.rand(self._size, generator=self._source) * self._counts[labels]).long()
        images = self._images[self._order[self._starts[labels] + within]]
        moved = torch.rand(self._size, generator=self._source) < _JITTER_SHARE
        shown = torch.where(moved[:, None, None, None], jitter(images, source=self._source), images)
        places = class_conditional.to_places(self._config, shown)
        withheld = torch.rand(self._size, generator=self._source) < _CLASS_DROPOUT
        times = torch.randint(len(self._keep), (self._size,), generator=self._source)
        noise = torch.randn(places.shape, generator=self._source)
        signal = self._keep[times].sqrt()[:, None, None, None]
        spread = (1 - self._keep[times]).sqrt()[:, None, None, None]
        batch = (
            signal * places + spread * noise,
            times,
            (labels + moved * self._config.moved).masked_fill(withheld, self._config.null_class),
            signal * noise - spread * places,
        )
        noisy, moments, classes, velocity = (part.to(self._device) for part in batch)
        return noisy, moments, classes, velocity


def jitter(images: Tensor, *, source: torch.Generator) -> Tensor:
    """Turn, scale and shift each image by up to 5 degrees, 6 % and 6 % of its side; the border is repeated.

    Args:
        images: float32 [n, channels, side, side] within ±1; so is the result.
    """
    turn, scale, right, down = torch.rand((4, len(images)), generator=source) * 2 - 1
    turn, scale = turn * math.radians(_JITTER_DEGREES), 1 + scale * _JITTER_SCALE
    cos, sin = scale * turn.cos(), scale * turn.sin()
    # affine_grid counts from -1 to 1 across the image: a share of the side is twice as much there.
    right, down = right * 2 * _JITTER_SHIFT, down * 2 * _JITTER_SHIFT
    where = torch.stack([torch.stack([cos, -sin, right], 1), torch.stack([sin, cos, down], 1)], 1)
    grid = functional.affine_grid(where, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return moved.clamp(-1, 1)


def _learning_rate(update: int, updates: int) -> float:
    """Share of the learning rate: a short rise, then half a cosine down to a twentieth."""
    fall: float = 0.5 * (1 + np.cos(np.pi * update / updates))
    return min(1.0, (update + 1) / _WARM_UP) * (0.05 + 0.95 * fall)


def _follow(average: nn.Module, network: nn.Module, *, decay: float) -> None:
    """average ← decay · average + (1 - decay) · network. The network has no buffers that learn."""
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)


def _intervals(losses: Sequence[float]) -> list[float]:
    """Means over at most 50 even intervals."""
    return [round(float(part.mean()), 6) for part in np.array_split(np.array(losses), min(_LOSSES, len(losses)))]


def _record(
    name: str, inputs: dict[str, Any], rows: Sequence[Row], *, losses: list[float], seconds: float
) -> dict[str, Any]:
    """The message `Generator` as JSON."""
    spec = inputs["generator"]
    counts = Counter(row.class_name for row in rows)
    return {
        "name": name,
        "classes": inputs["classes"],
        # The wire's GeneratorSpec has no `channels`: they are the dataset's.
        "spec": {key: value for key, value in spec.items() if key != "channels"},
        "dataset_version": inputs["dataset_version"],
        "training": [{"class_name": name, "count": counts[name]} for name in inputs["classes"]],
        "image_size": spec["image_size"],
        "channels": spec["channels"],
        "losses": losses,
        "create_time": now(),
        "provenance": provenance(RECIPES["finetune"], seconds=seconds),
    }
