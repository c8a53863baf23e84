"""Training of an evaluator: a classifier that shows what a training set is worth. It never sees the seal."""

from __future__ import annotations

import time
from typing import Any

from genaug.schema.common import provenance
from genaug.schema.jobs import RECIPES, classifier_name
from genaug.shared.errors import FailedPrecondition
from genaug.shared.manifest import check_training, read_rows, view_rows
from genaug.shared.progress import ProgressCallback
from genaug.shared.provenance import now
from genaug.shared.store import Store
from genaug.vision.devices import pick_device
from genaug.vision.features.feature_index import Shelf
from genaug.vision.models import classifiers
from genaug.vision.models.classifiers import Classifier
from genaug.vision.models.networks import build_network
from genaug.vision.training.config import TrainingConfig
from genaug.vision.training.fit import check_classes, fit, load_labelled

ROLE = "ROLE_EVALUATOR"


def train_evaluator(
    item: dict[str, Any], store: Store, report: ProgressCallback, *, device: str, shelf: Shelf | None = None
) -> str:
    """Train one evaluator on the training rows of a dataset version, real and made.

    The weights kept are those that did best on the validation rows, which are real. Rows of classes outside the label
    map are left out.

    Args:
        item: One item of a `train` Job: role, classifier (`genaug.v1.ClassifierSpec`), channels, dataset_version,
            classes (the label map), sampling, updates, batch_size, learning_rate, seed, training
            (`genaug.v1.TrainingOptions`).
        report: Told of images, then of updates.
        device: As in the settings.
        shelf: Where features of a frozen backbone may lie, and are kept.

    Returns:
        Its name, "classifiers/{digest}". One that is there already is not trained again.

    Raises:
        InvalidArgument: a made row is outside training, or a value is out of range.
        FailedPrecondition: a class has no training rows, there are no validation rows, or the backbone's weights
            cannot be had.
    """
    name = classifier_name(item)
    if classifiers.exists(store, name):
        return name
    start = time.monotonic()
    rows = read_rows(store, f"{item['dataset_version']}/rows.parquet")
    check_training(rows)
    rows = view_rows(rows, classes=item["classes"])
    training = [row for row in rows if row.split == "train"]
    validation = [row for row in rows if row.split == "validation"]
    check_classes(training, classes=item["classes"])
    if not validation:
        raise FailedPrecondition(
            f"{item['dataset_version']}: no validation images of these classes; import the dataset with a validation "
            "share, such as --split 0.7,0.15,0.15",
            reason="NO_VALIDATION_IMAGES",
        )
    schedule = TrainingConfig.of(item)
    network = build_network(
        **item["classifier"], channels=item["channels"], classes=len(item["classes"]), seed=item["seed"], store=store
    ).to(pick_device(device))
    looks = fit(
        network,
        load_labelled(store, training, network, classes=item["classes"], report=report, shelf=shelf),
        schedule=schedule,
        validation=load_labelled(store, validation, network, classes=item["classes"], report=report, shelf=shelf),
        advance=lambda update, note: report(update, schedule.updates, "updates", note),
    )
    best = max(looks, key=lambda look: look.rank)
    record = {
        "dataset_version": item["dataset_version"],
        "role": ROLE,
        "seed": item["seed"],
        "updates": schedule.updates,
        "best_update": best.update,
        "macro_recall": best.macro_recall,
        "create_time": now(),
        "provenance": provenance(RECIPES["train"], seconds=time.monotonic() - start),
    }
    trained = Classifier(tuple(item["classes"]), network)
    classifiers.save(store, trained, name=name, record=record)
    return name
