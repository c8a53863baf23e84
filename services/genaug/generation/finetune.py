"""Step 1: make a generator from the training rows of a dataset version. A Job; it alone writes `generators/`."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from genaug.generation.artifacts import Artefact, write_artefact
from genaug.generation.generators.class_conditional import generator as class_conditional
from genaug.generation.generators.class_conditional.autoencoder import Autoencoder, load_autoencoder
from genaug.generation.generators.class_conditional.generator import DECODER, ClassConditional, Config
from genaug.generation.generators.stable_diffusion import generator as stable_diffusion
from genaug.generation.generators.stable_diffusion.train import train_stable_diffusion
from genaug.generation.generators.transforms import generator as transforms
from genaug.generation.training.diffusion_data import (
    Batches,
    Images,
    Noising,
    PixelImages,
    TrainingSet,
    encode,
    question,
)
from genaug.generation.training.distributed import Processes
from genaug.generation.training.finetune_context import Grids, Made, Place, course_of
from genaug.generation.training.loop import Noised, Task, Training
from genaug.schema.common import provenance
from genaug.schema.jobs import RECIPES, generator_name
from genaug.shared.digests import digest_of, seed_of, sha256
from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.shared.manifest import Row, read_rows
from genaug.shared.names import version_ids
from genaug.shared.progress import ProgressCallback
from genaug.shared.provenance import now
from genaug.shared.store import Store
from genaug.vision.devices import pick_device
from genaug.vision.images.augment import Ranges
from genaug.vision.images.load_images import load_pixels

log = logging.getLogger(__name__)

_FROM_SCRATCH: dict[str, Any] = {
    "prediction": "PREDICTION_V",
    "ema_decay": 0.995,
    "horizontal_flip": False,
    "precision": "PRECISION_FLOAT32",
    "patch_size": 0,
    "held_out": 0.05,
    "sample_grids": 4,
    "autoencoder": "",
}
"""What a class-conditional generator's specification may leave out."""

_FEWEST_IMAGES = 2
_LARGEST_PIXELS, _LARGEST_SIDE = 64, 1024
_PREDICTIONS = {"PREDICTION_V": "v_prediction", "PREDICTION_EPSILON": "epsilon", "PREDICTION_IMAGE": "sample"}
# Subjects of a class below which none of them is held out.
_ENOUGH_SUBJECTS = 20


def finetune(inputs: dict[str, Any], store: Store, report: ProgressCallback, *, device: str) -> str:
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
    spec, classes = inputs["generator"], list(inputs["classes"])
    if spec["kind"] not in _MAKERS:
        raise InvalidArgument(
            f"generator.kind: {spec['kind']!r} is none of {', '.join(_MAKERS)}", reason="BAD_GENERATOR_KIND"
        )
    if spec["kind"] == class_conditional.KIND:
        spec = _FROM_SCRATCH | spec
    _check_shape(spec)
    rows = training_rows(store, inputs["dataset_version"], classes=classes)
    learns = spec["kind"] != transforms.KIND
    seen, held_out = hold_out(rows, share=spec.get("held_out", 0.05) if learns else 0.0, seed=spec["seed"])
    processes = Processes(pick_device(device))
    place = Place(name, store, report, processes)
    sets = [_load(place, part, spec, classes) for part in (seen, held_out)]
    made = _MAKERS[spec["kind"]](spec, classes, sets[0], sets[1], place)
    if processes.first:
        facts = made.facts | {"weights_sha256": sha256(made.weights)}
        record = _record(name, inputs, seen, facts=facts, seconds=time.monotonic() - start)
        if held_out:
            record["held_out"] = _counts(held_out, classes)
        write_artefact(store, Artefact(name, record, made.config, made.weights))
        place.clear()
        log.info("generator made", extra={"generator": name, "seconds": record["provenance"]["seconds"]})
    processes.wait()
    return name


def _load(place: Place, rows: Sequence[Row], spec: Mapping[str, Any], classes: Sequence[str]) -> TrainingSet:
    pixels = load_pixels(place.store, rows, image_size=spec["image_size"], channels=spec["channels"])
    labels = np.array([classes.index(row.class_name) for row in rows], np.int64)
    return TrainingSet([row.image_id for row in rows], pixels, labels, [_subject(row) for row in rows])


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
    course = course_of(spec)
    processes = place.processes
    processes.check(batch_size=spec["batch_size"], accumulation=1)
    seed = seed_of("finetune", spec["seed"])
    encoder, digest = load_autoencoder(spec["autoencoder"]) if spec["autoencoder"] else (None, "")
    if encoder is not None:
        encoder.to(place.device)
    config, images, unseen = _prepare(spec, classes, training, held_out, place, encoder=encoder, seed=seed)
    # Only the initial weights come from torch's global generator; leave it as it was found.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = class_conditional.build_network(config).to(place.device)
    batches = Batches(
        config, images, training.labels, size=spec["batch_size"], mirror=spec["horizontal_flip"], seed=seed
    )

    def predict(batch: Noised) -> Tensor:
        return cast(Tensor, network(batch.noisy, batch.times, class_labels=batch.labels).sample)

    task = Task(
        network,
        predict,
        batches.draw,
        batches.source,
        question(Noising(config.schedule), unseen, held_out.labels, seed=seed),
        around=lambda: class_conditional.fitting_threads(config),
    )
    run = Training(task, course, processes)
    grids = Grids(place, training, classes)
    generator = ClassConditional(place.name, config, network, device=place.device, decoder=encoder)

    def looking(update: int) -> bool:
        # Such a network is told by its own report whether it remembers; it is not stopped.
        grids.draw(generator, update)
        return False

    run.run(place.report, checkpoint=place.checkpoint(), looking=looking)
    weights = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    if encoder is not None:
        weights |= {DECODER + key: value.cpu().contiguous() for key, value in encoder.decoding().items()}
    told = run.told
    facts: dict[str, Any] = {"losses": told.losses, "held_out_losses": told.held_out_losses}
    facts |= grids.facts(course, told)
    if encoder is not None:
        facts["autoencoder_sha256"] = digest
    return Made(class_conditional.config_json(config), safetensors.torch.save(weights), facts)


def _prepare(
    spec: Mapping[str, Any],
    classes: Sequence[str],
    training: TrainingSet,
    held_out: TrainingSet,
    place: Place,
    *,
    encoder: Autoencoder | None,
    seed: int,
) -> tuple[Config, Images, Images]:
    """The network's configuration, and the images in its shape: to train on, and held out."""
    if spec["prediction"] not in _PREDICTIONS:
        raise InvalidArgument(
            f"generator.prediction: {spec['prediction']!r} is none of {', '.join(_PREDICTIONS)}",
            reason="BAD_TRAINING",
        )
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

    def tell(done: int, total: int) -> None:
        place.report(0, spec["train_steps"], "updates", f"encoding images, {done} of {total}" if done < total else "")

    latents = encode(training, encoder, mirror=spec["horizontal_flip"], moved=True, seed=seed, on_progress=tell)
    config = class_conditional.new_config(**shape, latents=latents.moments(), encoder=encoder)
    if not len(held_out.labels):
        return config, latents.settle(config), latents
    unseen = encode(held_out, encoder, mirror=False, moved=False, seed=seed)
    return config, latents.settle(config), unseen.settle(config)


def _check_shape(spec: Mapping[str, Any]) -> None:
    side, channels = spec["image_size"], spec["channels"]
    # Only a network that draws pixels is limited by them: transforms take any size.
    latent = bool(spec.get("autoencoder"))
    pixels = spec["kind"] == class_conditional.KIND and not latent
    step, largest = (16 if latent else 8, _LARGEST_PIXELS if pixels else _LARGEST_SIDE)
    if side % step or not step <= side <= largest:
        hint = "; larger ones are drawn in latents: name generator.autoencoder" if pixels and side > largest else ""
        raise InvalidArgument(
            f"generator.image_size: {side} is not a multiple of {step} from {step} to {largest}{hint}",
            reason="BAD_SIZE",
        )
    if channels not in (1, 3):
        raise InvalidArgument(f"generator.channels: {channels} is neither 1 nor 3", reason="BAD_CHANNELS")


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


_MAKERS: dict[str, Callable[[dict[str, Any], list[str], TrainingSet, TrainingSet, Place], Made]] = {
    class_conditional.KIND: train_diffusion,
    stable_diffusion.KIND: train_stable_diffusion,
    transforms.KIND: pack_images,
}
