"""Test whether properties of the image files tell the class, so that a network could learn them instead of the disease.

A class-balanced additive classifier (ridge regression on one-hot bins of each property) is cross-validated over groups
of subjects. It finds any dependence on single properties, and sums of them; combinations of size and encoder have
levels of their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from genaug.assembly.describe.facts import ImageFacts
from genaug.schema.datasets import Shortcut
from genaug.shared.manifest import Row

MIN_GROUPS = 10
"""Groups of subjects that a class must have in training and validation to be tested."""
MARGIN = 0.10
"""An accuracy tells the class if its lower bound exceeds chance by more."""
CLASS_MARGIN = 0.15
"""The same for one class against all others."""

_FOLDS = 5
_BINS = 12
_MOST_LEVELS = 24
# Bounds memory and time; intervals of this many images are narrower than any margin.
_MOST_IMAGES_OF_CLASS = 4000
_RIDGE = 1.0
# Standard normal quantile of 99 % intervals: many sets of properties and classes are tested at once.
_Z = 2.576
# Trials that an interval adds to those observed, all with the outcome of a guess.
_PRIOR = 4

Column = NDArray[np.float64] | NDArray[np.str_]
"""Values of one property: numbers, which are binned, or names, each a level of its own."""

FILE_PROPERTIES = {
    "width": ("width",),
    "height": ("height",),
    "aspect": ("aspect",),
    "format": ("format",),
    "encoder settings": ("encoder",),
    "width, height and format": ("width", "height", "aspect", "format"),
    "size and encoder settings": ("camera", "encoder", "width", "height"),
}
"""Sets of properties of the file, by name, as columns of `_columns`: no disease changes them."""

IMAGE_PROPERTIES = {
    "file size": ("bytes",),
    "mean color": ("red", "green", "blue"),
    "border": ("top", "bottom", "left", "right", "border luma"),
}
"""Sets of properties of the image, by name, as columns of `_columns`: the disease may change them, too."""

ALL = "all properties together"


def find_shortcuts(rows: Sequence[Row], facts: Mapping[str, ImageFacts]) -> tuple[Shortcut, ...]:
    """Measure how well each set of properties tells the class, and all of them together.

    Args:
        rows: Training and validation rows.
        facts: Facts of each image, by its id.

    Returns:
        The result of each set; none with fewer than two classes of `MIN_GROUPS` groups.
    """
    sample = _sample(rows)
    if len({row.class_name for row in sample}) < 2:
        return ()
    columns = _columns([facts[row.image_id] for row in sample])
    sets = {**FILE_PROPERTIES, **IMAGE_PROPERTIES}
    sets[ALL] = tuple(dict.fromkeys(chain.from_iterable(sets.values())))
    trial = _Trial.of(sample)
    return tuple(trial.run(name, [columns[column] for column in members]) for name, members in sets.items())


def _sample(rows: Sequence[Row]) -> list[Row]:
    """Rows of classes with enough groups, at most `_MOST_IMAGES_OF_CLASS` of each, by id."""
    of_class: dict[str, list[Row]] = defaultdict(list)
    # Ids are digests, so that their order is a random one.
    for row in sorted(rows, key=lambda row: row.image_id):
        of_class[row.class_name].append(row)
    return [
        row
        for _, members in sorted(of_class.items())
        if len({_group(row) for row in members}) >= MIN_GROUPS
        for row in members[:_MOST_IMAGES_OF_CLASS]
    ]


def _group(row: Row) -> str:
    return row.group_id or row.image_id


def _columns(facts: Sequence[ImageFacts]) -> dict[str, Column]:
    quality = [entry.quality for entry in facts]
    width = np.array([entry.width for entry in quality])
    height = np.array([entry.height for entry in quality])
    columns: dict[str, Column] = {
        "width": width,
        "height": height,
        "aspect": width / height,
        "bytes": np.array([entry.size_bytes for entry in facts], dtype=np.float64),
        "format": np.array([entry.format for entry in facts]),
        "encoder": np.array([entry.encoder for entry in facts]),
        "camera": np.array([f"{entry.encoder} {entry.quality.width}×{entry.quality.height}" for entry in facts]),
        "border luma": np.array([entry.border.luma for entry in facts]),
    }
    for channel, color in enumerate(("red", "green", "blue")):
        columns[color] = np.array([entry.mean_color[channel] for entry in facts])
    for side in ("top", "bottom", "left", "right"):
        columns[side] = np.array([getattr(entry.border, side) for entry in facts])
    return columns


@dataclass(frozen=True)
class _Trial:
    """Classes, groups and folds of the images that are tested."""

    names: list[str]
    """Class names, sorted."""
    classes: NDArray[np.int64]
    """Class of each image, an index into `names`."""
    folds: NDArray[np.int64]
    """Fold of each image; a group has one fold."""
    groups: NDArray[np.int64]
    """Group of each image."""

    @classmethod
    def of(cls, rows: Sequence[Row]) -> _Trial:
        names, classes = np.unique([row.class_name for row in rows], return_inverse=True)
        _, groups = np.unique([_group(row) for row in rows], return_inverse=True)
        # Groups of the rarest classes are dealt out first, so that each fold has some of them.
        frequency = np.bincount(classes)
        order = sorted(range(len(rows)), key=lambda n: (frequency[classes[n]], classes[n], rows[n].image_id))
        fold_of_group: dict[int, int] = {}
        for n in order:
            fold_of_group.setdefault(int(groups[n]), len(fold_of_group) % _FOLDS)
        folds = np.array([fold_of_group[int(group)] for group in groups])
        return cls([str(name) for name in names], classes, folds, groups)

    def run(self, properties: str, columns: Sequence[Column]) -> Shortcut:
        """Cross-validate the classifier on these columns."""
        predicted = np.empty_like(self.classes)
        for fold in range(_FOLDS):
            learned, held_out = self.folds != fold, self.folds == fold
            design = np.concatenate([_one_hot(column, learned) for column in columns], axis=1)
            predicted[held_out] = _fit(design[learned], self.classes[learned], len(self.names), design[held_out])
        return self._shortcut(properties, predicted)

    def _shortcut(self, properties: str, predicted: NDArray[np.int64]) -> Shortcut:
        count = len(self.names)
        others = count - 1
        shares = [[self._share(true, predicted == guess) for guess in range(count)] for true in range(count)]
        recalls = [shares[k][k] for k in range(count)]
        accuracy = sum(share.mean for share in recalls) / count
        center = sum(share.center for share in recalls) / count
        error = sqrt(sum(share.variance for share in recalls)) / count
        # One class against the others, which weigh alike.
        means, lowers = [], []
        for k in range(count):
            false = [shares[other][k] for other in range(count) if other != k]
            means.append((recalls[k].mean + 1 - sum(share.mean for share in false) / others) / 2)
            middle = (recalls[k].center + 1 - sum(share.center for share in false) / others) / 2
            spread = sqrt(recalls[k].variance + sum(share.variance for share in false) / others**2) / 2
            lowers.append(middle - _Z * spread)
        best = max(range(count), key=lambda k: lowers[k])
        lower, chance = center - _Z * error, 1 / count
        return Shortcut(
            properties=properties,
            accuracy=round(accuracy, 4),
            lower=round(max(lower, 0.0), 4),
            upper=round(min(center + _Z * error, 1.0), 4),
            chance=round(chance, 4),
            class_name=self.names[best],
            class_accuracy=round(means[best], 4),
            class_lower=round(max(lowers[best], 0.0), 4),
            tells=lower > chance + MARGIN or lowers[best] > 0.5 + CLASS_MARGIN,
        )

    def _share(self, true: int, hits: NDArray[np.bool_]) -> _Share:
        """Share of hits among the images of a class; each group counts once."""
        members = self.classes == true
        images = np.bincount(self.groups[members])
        per_group = np.bincount(self.groups[members], weights=hits[members])[images > 0] / images[images > 0]
        return _Share(float(per_group.sum()), len(per_group), 1 / len(self.names))


@dataclass(frozen=True)
class _Share:
    """Hits among trials, with the interval of Agresti and Coull (1998) around the chance of a guess.

    Unlike the plain normal interval it holds for few trials, and for shares of 0 and 1.
    """

    hits: float
    trials: int
    chance: float

    @property
    def mean(self) -> float:
        return self.hits / self.trials

    @property
    def center(self) -> float:
        return (self.hits + _PRIOR * self.chance) / (self.trials + _PRIOR)

    @property
    def variance(self) -> float:
        return self.center * (1 - self.center) / (self.trials + _PRIOR)


def _one_hot(column: Column, learned: NDArray[np.bool_]) -> NDArray[np.float32]:
    """One column per bin or level; these come from the `learned` rows alone."""
    if column.dtype.kind == "U":
        names, counts = np.unique(column[learned], return_counts=True)
        levels = names[np.argsort(-counts, kind="stable")][:_MOST_LEVELS]
        hot: NDArray[np.bool_] = column[:, None] == levels[None]
        return hot.astype(np.float32)
    values = np.sort(column[learned])
    edges = np.unique(values[len(values) * np.arange(1, _BINS) // _BINS])
    # A frequent value is an edge; it has a bin of its own, apart from those below and above it.
    places = np.searchsorted(edges, column, side="left") + np.searchsorted(edges, column, side="right")
    hot = places[:, None] == np.arange(2 * len(edges) + 1)[None]
    return hot.astype(np.float32)


def _fit(
    design: NDArray[np.float32], classes: NDArray[np.int64], count: int, questions: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Fit a ridge regression of the class indicators, each class with the same weight; return the predicted classes."""
    size = np.bincount(classes, minlength=count)
    weights = (len(classes) / (count * np.maximum(size, 1)))[classes]
    targets = np.eye(count)[classes] - 1 / count
    weighted = design * weights[:, None]
    gram = weighted.T @ design + _RIDGE * np.eye(design.shape[1])
    coefficients = np.linalg.solve(gram, weighted.T @ targets)
    predicted: NDArray[np.int64] = (questions @ coefficients).argmax(axis=1)
    return predicted
