"""Step 1: make a generator from the training rows of a dataset version. A Job; it alone writes `generators/`."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import nn

from genaug.generation.artefacts import Artefact, write_artefact
from genaug.generation.autoencoder import Decoder, Encoder, load_encoder
from genaug.generation.draw import draw
from genaug.generation.generators import class_conditional, transforms
from genaug.generation.generators.class_conditional import DECODER, ClassConditional, Config
from genaug.generation.receipts import Sampler, Wanted
from genaug.generation.shown import Batches, HeldOut, Images, PixelImages, TrainingSet, encode
from genaug.generation.train import Checkpoint, Course, Training
from genaug.shared.digests import digest_of, seed_of
from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.shared.manifest import Row, read_rows
from genaug.shared.names import version_ids
from genaug.shared.provenance import now, provenance
from genaug.shared.requests import RECIPES, Report, generator_name
from genaug.shared.store import Store
from genaug.vision.arrays import load_pixels
from genaug.vision.augment import Ranges
from genaug.vision.devices import pick_device
from genaug.vision.images import encode_png

log = logging.getLogger(__name__)

DEFAULTS: dict[str, Any] = {
    "prediction": "PREDICTION_V",
    "ema_decay": 0.995,
    "horizontal_flip": False,
    "precision": "PRECISION_FLOAT32",
    "patch_size": 0,
    "held_out": 0.05,
    "sample_grids": 4,
    "autoencoder": "",
}
"""What a diffusion generator's specification may leave out."""

_FEWEST_IMAGES = 2
_LARGEST_PIXELS, _LARGEST_SIDE = 64, 512
_PREDICTIONS = {"PREDICTION_V": "v_prediction", "PREDICTION_EPSILON": "epsilon", "PREDICTION_IMAGE": "sample"}
_PRECISIONS = ("PRECISION_FLOAT32", "PRECISION_BFLOAT16")
# Subjects of a class below which none of them is held out.
_ENOUGH_SUBJECTS = 20
# Images of each class in a sample grid, and how they are drawn.
_GRID_IMAGES = 4
_GRID_SAMPLER = Sampler(steps=12)


@dataclass
class Made:
    """What fine-tuning leaves."""

    config: dict[str, Any]
    weights: bytes
    facts: dict[str, Any] = field(default_factory=dict)
    """Fields of the message `Generator`."""


@dataclass(frozen=True)
class Place:
    """Where a fine-tuning works."""

    name: str
    """The generator's, "generators/{digest}"."""
    store: Store
    report: Report
    device: torch.device


def finetune(inputs: dict[str, Any], store: Store, report: Report, *, device: str) -> str:
    """Make the generator of `inputs` unless the store has it. Safe to kill and to run again: it goes on.

    Args:
        inputs: dataset_version; classes, in the order of the label map; generator: the message `GeneratorSpec` as
            JSON (what it leaves out is in `DEFAULTS`), and the dataset's `channels`.
        store: As the identity "finetune".
        report: Told of updates.
        device: "auto", "cpu", "cuda", …

    Returns:
        "generators/{digest}".

    Raises:
        InvalidArgument: the specification is out of range.
        FailedPrecondition: a class has fewer than two training images, or the autoencoder's weights do not fit.
        NotFound: the dataset version is not there.
        Cancelled: `report` said so; what was done is in a checkpoint.
    """
    name = generator_name(inputs)
    if store.exists(f"{name}/generator.json"):
        return name
    start = time.monotonic()
    spec, classes = DEFAULTS | inputs["generator"], list(inputs["classes"])
    makers = {class_conditional.KIND: train_diffusion, transforms.KIND: pack_images}
    if spec["kind"] not in makers:
        raise InvalidArgument(
            f"generator.kind: {spec['kind']!r} is none of {', '.join(makers)}", reason="BAD_GENERATOR_KIND"
        )
    _check_shape(spec)
    rows = training_rows(store, inputs["dataset_version"], classes=classes)
    share = spec["held_out"] if spec["kind"] == class_conditional.KIND else 0.0
    seen, held_out = hold_out(rows, share=share, seed=spec["seed"])
    place = Place(name, store, report, pick_device(device))
    made = makers[spec["kind"]](
        spec, classes, _load(place, seen, spec, classes), _load(place, held_out, spec, classes), place
    )
    record = _record(name, inputs, seen, facts=made.facts, seconds=time.monotonic() - start)
    if held_out:
        record["held_out"] = _counts(held_out, classes)
    write_artefact(store, Artefact(name, record, made.config, made.weights))
    Checkpoint(store, name).delete()
    log.info("generator made", extra={"generator": name, "seconds": record["provenance"]["seconds"]})
    return name


def _load(place: Place, rows: Sequence[Row], spec: Mapping[str, Any], classes: Sequence[str]) -> TrainingSet:
    pixels = load_pixels(place.store, rows, image_size=spec["image_size"], channels=spec["channels"])
    labels = np.array([classes.index(row.class_name) for row in rows], np.int64)
    return TrainingSet([row.image_id for row in rows], pixels, labels)


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


def hold_out(rows: Sequence[Row], *, share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Rows to train on, and rows to measure the denoising loss on: whole subjects, seeded, whatever the rows' order.

    Of each class `share` of its subjects, at least one, is held out. A subject leaves with all its images, of whatever
    class; none that has an image of a class with fewer than 20 subjects.

    Args:
        rows: Real training rows.
        share: 0 to 0.5.
        seed: The fine-tuning's.
    """
    subjects: dict[str, set[str]] = {}
    for row in rows:
        subjects.setdefault(row.class_name, set()).add(_subject(row))
    rare: set[str] = set().union(*(found for found in subjects.values() if len(found) < _ENOUGH_SUBJECTS))
    leaving: set[str] = set()
    for found in (subjects[name] for name in sorted(subjects)):
        if not share or len(found) < _ENOUGH_SUBJECTS:
            continue
        order = sorted(found - rare, key=lambda one: digest_of("hold out/1", {"seed": seed, "subject": one}))
        missing = max(1, round(share * len(found))) - len(found & leaving)
        leaving |= set([one for one in order if one not in leaving][: max(0, missing)])
    return [row for row in rows if _subject(row) not in leaving], [row for row in rows if _subject(row) in leaving]


def _subject(row: Row) -> str:
    return row.group_id or row.image_id


def pack_images(
    spec: dict[str, Any], classes: list[str], training: TrainingSet, held_out: TrainingSet, place: Place
) -> Made:
    """KIND_TRANSFORMS: nothing to learn; the images travel with the ranges, and are transformed when drawn."""
    ranges = Ranges(**spec.get("transforms", {}))
    ranges.check("generator.transforms")
    weights = transforms.pack(training.pixels, ids=training.ids, labels=training.labels.tolist())
    total = len(training.ids)
    config = transforms.config_json(
        ranges, classes=classes, image_size=spec["image_size"], channels=spec["channels"], images=total
    )
    place.report(total, total, "images")
    return Made(config, weights)


def train_diffusion(
    spec: dict[str, Any], classes: list[str], training: TrainingSet, held_out: TrainingSet, place: Place
) -> Made:
    """KIND_CLASS_CONDITIONAL: train the network from scratch, in pixels or in an autoencoder's latents.

    Batches hold each class equally often in expectation. The weights that are kept are an exponential moving average.
    """
    course = _course(spec)
    seed = seed_of("finetune", spec["seed"])
    encoder = load_encoder(spec["autoencoder"], device=place.device) if spec["autoencoder"] else None
    config, images, unseen = _prepare(spec, classes, training, held_out, encoder=encoder, seed=seed)
    # Only the initial weights come from torch's global generator; leave it as it was found.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = class_conditional.build_network(config)
    batches = Batches(
        config, images, training.labels, size=spec["batch_size"], mirror=spec["horizontal_flip"], seed=seed
    )
    question = HeldOut(config, unseen, held_out.labels, seed=seed) if len(held_out.labels) else None
    run = Training(config, network.to(place.device), batches, question, course)
    run.run(
        place.report,
        checkpoint=Checkpoint(place.store, place.name),
        drawing=lambda update, average: _draw_grid(place, config, average, update, encoder),
    )
    weights = {key: value.cpu().contiguous() for key, value in run.average.state_dict().items()}
    if encoder is not None:
        weights |= {f"{DECODER}network.{key}": value.contiguous() for key, value in encoder.decoder_weights.items()}
    facts: dict[str, Any] = {"losses": run.losses, "held_out_losses": run.held_out_losses}
    facts["sample_grids"] = [{"update": u, "object": _grid_key(place.name, u)} for u in sorted(course.draws_at())]
    if encoder is not None:
        facts["autoencoder_sha256"] = encoder.sha256
    return Made(class_conditional.config_json(config), safetensors.torch.save(weights), facts)


def _prepare(
    spec: Mapping[str, Any],
    classes: Sequence[str],
    training: TrainingSet,
    held_out: TrainingSet,
    *,
    encoder: Encoder | None,
    seed: int,
) -> tuple[Config, Images, Images]:
    """The network's configuration, and the images in its shape: to train on, and held out."""
    shape = {
        "classes": classes,
        "image_size": spec["image_size"],
        "channels": spec["channels"],
        "base_channels": spec["base_channels"],
        "patch_size": spec["patch_size"],
        "prediction": _PREDICTIONS[spec["prediction"]],
    }
    if encoder is None:
        config = class_conditional.new_config(**shape)
        return config, PixelImages(config, training), PixelImages(config, held_out)
    latents = encode(training, encoder, mirror=spec["horizontal_flip"], moved=True, seed=seed)
    config = class_conditional.new_config(**shape, latents=latents.moments())
    if not len(held_out.labels):
        return config, latents.settle(config), latents
    unseen = encode(held_out, encoder, mirror=False, moved=False, seed=seed)
    return config, latents.settle(config), unseen.settle(config)


def _draw_grid(place: Place, config: Config, average: nn.Module, update: int, encoder: Encoder | None) -> None:
    """A row of images per class, from the same noise each time, as one PNG."""
    decoder = None
    if encoder is not None:
        decoder = Decoder()
        decoder.network.load_state_dict(encoder.decoder_weights)
    generator = ClassConditional(place.name, config, average, device=place.device, decoder=decoder)
    wanted = [Wanted(name, 0, index) for name in config.classes for index in range(_GRID_IMAGES)]
    drawn = list(draw(generator, wanted, sampler=_GRID_SAMPLER, active=lambda: True))
    rows = [drawn[start : start + _GRID_IMAGES] for start in range(0, len(drawn), _GRID_IMAGES)]
    grid = np.concatenate([np.concatenate([one.pixels for one in row], axis=1) for row in rows])
    place.store.put_new(_grid_key(place.name, update), encode_png(grid))


def _grid_key(name: str, update: int) -> str:
    return f"{name}/grids/{update}.png"


def _check_shape(spec: Mapping[str, Any]) -> None:
    side, channels = spec["image_size"], spec["channels"]
    # Only a network that draws pixels is limited by them: transforms take any size.
    pixels = spec["kind"] == class_conditional.KIND and not spec["autoencoder"]
    step, largest = (16 if spec["autoencoder"] else 8, _LARGEST_PIXELS if pixels else _LARGEST_SIDE)
    if side % step or not step <= side <= largest:
        hint = "; larger ones are drawn in latents: name generator.autoencoder" if pixels and side > largest else ""
        raise InvalidArgument(
            f"generator.image_size: {side} is not a multiple of {step} from {step} to {largest}{hint}",
            reason="BAD_SIZE",
        )
    if channels not in (1, 3):
        raise InvalidArgument(f"generator.channels: {channels} is neither 1 nor 3", reason="BAD_CHANNELS")


def _course(spec: Mapping[str, Any]) -> Course:
    for key in ("train_steps", "batch_size", "learning_rate"):
        if not spec[key] > 0:
            raise InvalidArgument(f"generator.{key}: {spec[key]} is not above 0", reason="BAD_TRAINING")
    for key, highest in (("ema_decay", 1.0), ("held_out", 0.5)):
        if not 0 <= spec[key] <= highest:
            raise InvalidArgument(
                f"generator.{key}: {spec[key]} is not within 0 and {highest:g}", reason="BAD_TRAINING"
            )
    if spec["precision"] not in _PRECISIONS or spec["sample_grids"] < 0:
        raise InvalidArgument(
            f"generator: precision {spec['precision']!r} is none of {', '.join(_PRECISIONS)}, or sample_grids "
            f"{spec['sample_grids']} is negative",
            reason="BAD_TRAINING",
        )
    if spec["prediction"] not in _PREDICTIONS:
        raise InvalidArgument(
            f"generator.prediction: {spec['prediction']!r} is none of {', '.join(_PREDICTIONS)}", reason="BAD_TRAINING"
        )
    return Course(
        updates=spec["train_steps"],
        learning_rate=spec["learning_rate"],
        ema_decay=spec["ema_decay"],
        bfloat16=spec["precision"] == "PRECISION_BFLOAT16",
        grids=spec["sample_grids"],
    )


def _counts(rows: Sequence[Row], classes: Sequence[str]) -> list[dict[str, Any]]:
    counts = Counter(row.class_name for row in rows)
    return [{"class_name": name, "count": counts[name]} for name in classes]


def _record(
    name: str, inputs: dict[str, Any], rows: Sequence[Row], *, facts: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """The message `Generator` as JSON."""
    spec = inputs["generator"]
    return {
        "name": name,
        "classes": inputs["classes"],
        # The wire's GeneratorSpec has no `channels`: they are the dataset's.
        "spec": {key: value for key, value in spec.items() if key != "channels"},
        "dataset_version": inputs["dataset_version"],
        "training": _counts(rows, inputs["classes"]),
        "image_size": spec["image_size"],
        "channels": spec["channels"],
        **facts,
        "create_time": now(),
        "provenance": provenance(RECIPES["finetune"], seconds=seconds),
    }
