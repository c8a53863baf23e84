"""Training of a labeler: on training rows alone, calibrated out of fold."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genaug.labeling.calibrate import calibrate
from genaug.schema.classifiers import Classifier, Role
from genaug.schema.common import provenance
from genaug.schema.jobs import RECIPES, TrainItem
from genaug.shared.manifest import Row, read_rows, view_rows
from genaug.shared.progress import ProgressCallback
from genaug.shared.provenance import now
from genaug.shared.store import Store
from genaug.vision.devices import pick_device
from genaug.vision.features.feature_index import FeatureIndex
from genaug.vision.images.load_images import load_pixels
from genaug.vision.images.pixels import Pixels
from genaug.vision.images.windows import window_of
from genaug.vision.models import classifiers
from genaug.vision.models.classifiers import TrainedClassifier
from genaug.vision.models.networks import Network, build_network
from genaug.vision.training.config import TrainingConfig
from genaug.vision.training.fit import Labelled, check_classes, fit, load_labelled, logits_of, macro_recall

PARTS = 3
"""Out-of-fold networks: each part of the training rows is labelled by a network trained on the others."""

# Most images that the activation ranges of a backbone are measured on.
_MEASURED = 64


def train_labeler(
    item: TrainItem, store: Store, report: ProgressCallback, *, device: str, features: FeatureIndex | None = None
) -> str:
    """Train and calibrate one labeler on the real training rows of a dataset version.

    Validation rows and made images are not used. Three networks, each trained without one part of the rows, label that
    part; temperature, thresholds and macro recall come from these out-of-fold labels. A fourth network, trained on all
    rows, is kept, after its last update.

    Args:
        item: One item of a `train` Job; with `quantized`, the labeler can compute in INT8 afterwards.
        report: Receives images, then updates, of all four networks.
        device: As in the settings.
        features: Feature index of frozen backbones; None to compute all features.

    Returns:
        "classifiers/{digest}"; an existing one is not trained again.

    Raises:
        InvalidArgument: a value is out of range.
        FailedPrecondition: a class has no training rows.
    """
    name = item.result
    if classifiers.exists(store, name):
        return name
    start = time.monotonic()
    rows = view_rows(read_rows(store, f"{item.dataset_version}/rows.parquet"), classes=item.classes)
    rows = [row for row in rows if row.split == "train" and row.source == "real"]
    check_classes(rows, classes=item.classes)
    training = _Training(item, store, report, device=device)
    labelled = load_labelled(
        store, rows, training.new_network(), classes=item.classes, report=report, features=features
    )
    logits, has_logits = training.out_of_fold(labelled, parts_of(rows))
    targets = labelled.targets[has_logits]
    calibration = calibrate(logits[has_logits], targets, classes=item.classes)
    network = training.run(labelled)
    if item.quantized:
        network.measure(_pixels_of(store, rows[:: math.ceil(len(rows) / _MEASURED)], network))
    record = Classifier(
        dataset_version=item.dataset_version,
        role=Role.LABELER,
        seed=item.seed,
        updates=item.updates,
        best_update=item.updates,
        macro_recall=macro_recall(targets, logits[has_logits].argmax(axis=1)) if len(targets) else 0.0,
        create_time=now(),
        provenance=provenance(RECIPES["train"], seconds=time.monotonic() - start),
    )
    trained = TrainedClassifier(
        item.classes,
        network,
        temperature=calibration.temperature,
        thresholds=calibration.thresholds,
        window=window_of(store, item.dataset_version),
    )
    classifiers.save(store, trained, name=name, record=record)
    return name


def _pixels_of(store: Store, rows: Sequence[Row], network: Network) -> Pixels:
    return load_pixels(
        store, rows, image_size=network.image_size, channels=network.channels, pre_resize=network.pre_resize
    )


def parts_of(rows: Sequence[Row]) -> NDArray[np.int64]:
    """Deal rows to parts 0 to `PARTS`-1 of about equal size, with no subject in two parts.

    The outer folds are joined to parts; where there are fewer folds than parts, the groups of subjects are.
    """
    folds = {row.fold for row in rows if row.fold >= 0}
    by_fold = len(folds) >= PARTS and all(row.fold >= 0 for row in rows)
    units = [str(row.fold) if by_fold else row.group_id or row.subject_id or row.image_id for row in rows]
    sizes = [0] * PARTS
    part_of: dict[str, int] = {}
    for unit, size in sorted(Counter(units).items(), key=lambda unit_size: (-unit_size[1], unit_size[0])):
        part_of[unit] = sizes.index(min(sizes))
        sizes[part_of[unit]] += size
    return np.array([part_of[unit] for unit in units], np.int64)


class _Training:
    """Trains the networks of one labeler, all by the same schedule."""

    def __init__(self, item: TrainItem, store: Store, report: ProgressCallback, *, device: str) -> None:
        self._item = item
        self._store = store
        self._report = report
        self._device = pick_device(device)
        self._schedule = TrainingConfig.of(item)
        self._networks = 0

    def new_network(self) -> Network:
        """Build the network before its first update, the same each time."""
        item = self._item
        network = build_network(
            item.classifier, channels=item.channels, classes=len(item.classes), seed=item.seed, store=self._store
        )
        return network.to(self._device)

    def run(self, labelled: Labelled) -> Network:
        """Train a network; return it after its last update."""
        network, before = self.new_network(), self._networks * self._schedule.updates
        total = (PARTS + 1) * self._schedule.updates
        fit(
            network,
            labelled,
            schedule=self._schedule,
            advance=lambda update, note: self._report(before + update, total, "updates", note),
        )
        self._networks += 1
        return network

    def out_of_fold(
        self, labelled: Labelled, parts: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Compute logits of each row by a network trained on the other parts.

        Returns:
            Logits, and a mask of the rows that have them: a row has none where the other parts hold no image of its
            class, since that network cannot know it.
        """
        logits = np.zeros((len(parts), len(self._item.classes)), np.float32)
        has_logits = np.zeros(len(parts), bool)
        for part in range(PARTS):
            own, others = parts == part, parts != part
            known = own & np.isin(labelled.targets, labelled.targets[others])
            if known.any():
                network = self.run(Labelled(labelled.inputs[others], labelled.targets[others]))
                logits[known] = logits_of(network, labelled.inputs[known])
                has_logits |= known
            else:
                self._networks += 1
        return logits, has_logits
