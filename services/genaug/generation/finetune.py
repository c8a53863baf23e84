"""Step 1: make a generator from the training rows of a dataset version. A Job; it alone writes `generators/`."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from genaug.generation.artifacts import Artifact, write_artifact
from genaug.generation.generators import load_kind
from genaug.generation.training.diffusion_data import TrainingSet
from genaug.generation.training.distributed import Processes
from genaug.generation.training.finetune_context import FinetuneContext
from genaug.schema.common import ClassCount, class_counts, provenance
from genaug.schema.jobs import RECIPES, FinetuneInputs
from genaug.shared.digests import digest_of, sha256
from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.shared.manifest import Row, read_rows
from genaug.shared.names import version_ids
from genaug.shared.progress import ProgressCallback
from genaug.shared.provenance import now
from genaug.shared.store import Store
from genaug.vision.devices import pick_device
from genaug.vision.images.load_images import load_pixels

log = logging.getLogger(__name__)

_MIN_IMAGES = 2
# Subjects of a class below which none of them is held out.
_MIN_SUBJECTS = 20
# Share of held-out subjects for kinds without such a setting.
_HELD_OUT = 0.05


def finetune(inputs: FinetuneInputs, store: Store, report: ProgressCallback, *, device: str) -> str:
    """Make a generator unless the store has it. After a kill, it continues from the last checkpoint.

    Args:
        inputs: Inputs of the Job.
        store: As the identity "finetune".
        report: Progress in updates.
        device: "auto", "cpu", "cuda", …

    Returns:
        "generators/{digest}".

    Raises:
        InvalidArgument: the specification does not suit the images, or what it names cannot be found.
        FailedPrecondition: a class has fewer than two training images, or weights that are named do not fit.
        NotFound: the dataset version does not exist.
        Cancelled: raised by `report`; a checkpoint holds the work done.
    """
    name, spec, classes = inputs.result, inputs.generator, inputs.classes
    if store.exists(f"{name}/generator.json"):
        return name
    start = time.monotonic()
    kind = load_kind(spec.kind)
    rows = training_rows(store, inputs.dataset_version, classes=classes)
    share = float(getattr(spec.settings, "held_out", _HELD_OUT)) if spec.kind.learns else 0.0
    seen, held_out = hold_out(rows, share=share, seed=spec.seed or 0)
    processes = Processes(pick_device(device))
    context = FinetuneContext(name, store, report, processes)
    training, unseen = (_load(store, part, inputs) for part in (seen, held_out))
    result = kind.train(spec, classes, training, unseen, context)
    if processes.first:
        seconds = time.monotonic() - start
        record = result.record.replace(
            name=name,
            classes=classes,
            spec=spec,
            dataset_version=inputs.dataset_version,
            training=_counts(seen, classes),
            held_out=_counts(held_out, classes) if held_out else (),
            image_size=spec.image_size,
            channels=inputs.channels,
            weights_sha256=sha256(result.weights),
            create_time=now(),
            provenance=provenance(RECIPES["finetune"], seconds=seconds),
        )
        write_artifact(store, Artifact(name, record, result.config.stored(), result.weights))
        context.clear()
        log.info("generator made", extra={"generator": name, "seconds": record.provenance.seconds})
    processes.wait()
    return name


def _load(store: Store, rows: Sequence[Row], inputs: FinetuneInputs) -> TrainingSet:
    pixels = load_pixels(store, rows, image_size=inputs.generator.image_size, channels=inputs.channels)
    labels = np.array([inputs.classes.index(row.class_name) for row in rows], np.int64)
    return TrainingSet([row.image_id for row in rows], pixels, labels, [_subject(row) for row in rows])


def training_rows(store: Store, version: str, *, classes: Sequence[str]) -> list[Row]:
    """The real training rows of `classes`, sorted by image id: their order does not depend on the manifest's.

    Raises:
        InvalidArgument: no class is named, or one twice.
        FailedPrecondition: a class has fewer than two images.
    """
    version_ids(version)
    if not classes or len(set(classes)) != len(classes):
        raise InvalidArgument(
            f"classes: {', '.join(classes) or 'none'}; name each class to draw, once", reason="BAD_CLASSES"
        )
    rows = [
        row
        for row in read_rows(store, f"{version}/rows.parquet")
        if row.split == "train" and row.source == "real" and row.class_name in classes
    ]
    counts = Counter(row.class_name for row in rows)
    few = [f"{name} has {counts[name]}" for name in classes if counts[name] < _MIN_IMAGES]
    if few:
        raise FailedPrecondition(
            f"{version}: a generator needs {_MIN_IMAGES} training images of each class and class {', '.join(few)}; "
            "import more, or leave it out of `classes`",
            reason="TOO_FEW_IMAGES",
        )
    return sorted(rows, key=lambda row: row.image_id)


def hold_out(rows: Sequence[Row], *, share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Split rows into training rows and held-out rows by whole subjects, independent of the rows' order.

    `share` of each class's subjects, at least one, is held out, with all their images of any class. Subjects with an
    image of a class that has fewer than 20 subjects are never held out.

    Args:
        rows: Real training rows.
        share: 0 to 0.5.
        seed: Seed of the choice.
    """
    by_class: dict[str, set[str]] = {}
    for row in rows:
        by_class.setdefault(row.class_name, set()).add(_subject(row))
    rare = {subject for subjects in by_class.values() if len(subjects) < _MIN_SUBJECTS for subject in subjects}
    chosen: set[str] = set()
    for _, subjects in sorted(by_class.items()):
        if not share or len(subjects) < _MIN_SUBJECTS:
            continue
        order = sorted(subjects - rare, key=lambda subject: digest_of("hold out/1", {"seed": seed, "subject": subject}))
        missing = max(1, round(share * len(subjects))) - len(subjects & chosen)
        chosen |= set([subject for subject in order if subject not in chosen][: max(0, missing)])
    return [row for row in rows if _subject(row) not in chosen], [row for row in rows if _subject(row) in chosen]


def _subject(row: Row) -> str:
    return row.group_id or row.image_id


def _counts(rows: Sequence[Row], classes: Sequence[str]) -> tuple[ClassCount, ...]:
    counts = Counter(row.class_name for row in rows)
    return class_counts({name: counts[name] for name in classes})
