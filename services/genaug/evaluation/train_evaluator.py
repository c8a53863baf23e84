"""Training of an evaluator: a classifier that measures the worth of a training set. It never reads sealed rows."""

from __future__ import annotations

import time

from genaug.schema.classifiers import Classifier, Role
from genaug.schema.common import provenance
from genaug.schema.jobs import RECIPES, TrainItem
from genaug.shared.errors import FailedPrecondition
from genaug.shared.manifest import check_training, read_rows, view_rows
from genaug.shared.progress import ProgressCallback
from genaug.shared.provenance import now
from genaug.shared.store import Store
from genaug.vision.devices import pick_device
from genaug.vision.features.feature_index import FeatureIndex
from genaug.vision.images.windows import window_of
from genaug.vision.models import classifiers
from genaug.vision.models.classifiers import TrainedClassifier
from genaug.vision.models.networks import build_network
from genaug.vision.training.config import TrainingConfig
from genaug.vision.training.fit import check_classes, fit, load_labelled


def train_evaluator(
    item: TrainItem,
    store: Store,
    report: ProgressCallback,
    *,
    device: str,
    features: FeatureIndex | None = None,
) -> str:
    """Train one evaluator on the training rows of a dataset version, real and made.

    The weights that did best on the validation rows, which are real, are kept. Rows of classes outside the label map
    are left out.

    Args:
        item: Item of a `train` Job.
        store: As the identity "train".
        report: Called with images, then with updates.
        device: As in the settings.
        features: Index of the features of frozen backbones that the store holds.

    Returns:
        Its name, "classifiers/{digest}". An existing one is not trained again.

    Raises:
        InvalidArgument: a made row is outside training, or a value is out of range.
        FailedPrecondition: a class has no training rows, there are no validation rows, or the backbone's weights
            are not available.
    """
    name = item.result
    if classifiers.exists(store, name):
        return name
    start = time.monotonic()
    rows = read_rows(store, f"{item.dataset_version}/rows.parquet")
    check_training(rows)
    rows = view_rows(rows, classes=item.classes)
    training = [row for row in rows if row.split == "train"]
    validation = [row for row in rows if row.split == "validation"]
    check_classes(training, classes=item.classes)
    if not validation:
        raise FailedPrecondition(
            f"{item.dataset_version}: no validation images of these classes; import the dataset with a validation "
            "share, such as --split 0.7,0.15,0.15",
            reason="NO_VALIDATION_IMAGES",
        )
    config = TrainingConfig.of(item)
    network = build_network(
        item.classifier, channels=item.channels, classes=len(item.classes), seed=item.seed, store=store
    ).to(pick_device(device))
    validations = fit(
        network,
        load_labelled(store, training, network, classes=item.classes, report=report, features=features),
        schedule=config,
        validation=load_labelled(store, validation, network, classes=item.classes, report=report, features=features),
        advance=lambda update, note: report(update, config.updates, "updates", note),
    )
    best = max(validations, key=lambda validation: validation.rank)
    record = Classifier(
        dataset_version=item.dataset_version,
        role=Role.EVALUATOR,
        seed=item.seed,
        updates=config.updates,
        best_update=best.update,
        macro_recall=best.macro_recall,
        create_time=now(),
        provenance=provenance(RECIPES["train"], seconds=time.monotonic() - start),
    )
    trained = TrainedClassifier(item.classes, network, window=window_of(store, item.dataset_version))
    classifiers.save(store, trained, name=name, record=record)
    return name
