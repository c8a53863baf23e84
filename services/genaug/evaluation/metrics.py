"""Metrics of a classifier, from truth and probabilities: numpy in, numpy out.

Counts may carry leading axes (scenarios, seeds, resamples); the last axis is the class, in the label map's order.
scikit-learn's recall, precision and F1 take one set of labels at a time, not the bootstrap's thousands of counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from genaug.schema.evaluation import METRICS
from genaug.schema.registry import load
from genaug.shared.errors import FailedPrecondition

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]


LoadedMetric = Callable[[Ints, Floats], float]
"""A loaded metric: from truth [n] and probabilities [n, k]."""


class Metric(Protocol):
    """A further metric, registered in `genaug.schema.evaluation.METRICS` and named by `evaluation.metrics`."""

    @property
    def name(self) -> str:
        """Name in tables."""
        ...

    @property
    def direction(self) -> Literal["higher", "lower"]:
        """Which values are better."""
        ...

    def __call__(self, truth: Ints, probabilities: Floats) -> float:
        """Compute the metric of one training.

        Args:
            truth: [n], 0 to k-1; every class occurs.
            probabilities: float32 [n, k].
        """
        ...


@dataclass(frozen=True)
class ConfusionCounts:
    """Marginals and diagonal of confusion matrices. Weights may be fractional."""

    actual: Floats
    """[..., k]: images of each class."""
    predicted: Floats
    """[..., k]: images labelled as each class."""
    hits: Floats
    """[..., k]: images of each class labelled as it."""


def confusion(truth: Ints, labels: Ints, classes: int) -> NDArray[np.int64]:
    """Counts [k, k], class first, label second, of truth and labels [n], each 0 to k-1."""
    counts: NDArray[np.int64] = confusion_matrix(truth, labels, labels=np.arange(classes))
    return counts


def confusion_counts(matrix: Ints) -> ConfusionCounts:
    """Marginals and diagonal of confusion matrices [..., k, k]."""
    counts = np.asarray(matrix, np.float64)
    return ConfusionCounts(counts.sum(-1), counts.sum(-2), np.diagonal(counts, axis1=-2, axis2=-1))


def recalls(counts: ConfusionCounts) -> Floats:
    """Share of each class that is labelled right, [..., k]; NaN for a class without images."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(counts.actual > 0, counts.hits / counts.actual, np.nan)


def precisions(counts: ConfusionCounts) -> Floats:
    """Share of each label that is right, [..., k]; 0 for a label that is never given."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(counts.predicted > 0, counts.hits / counts.predicted, 0.0)


def f1s(counts: ConfusionCounts) -> Floats:
    """Harmonic mean of precision and recall, [..., k]; 0 where there is neither class nor label."""
    both = counts.actual + counts.predicted
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(both > 0, 2.0 * counts.hits / both, 0.0)


def specificities(counts: ConfusionCounts) -> Floats:
    """Share of the other classes' images that do not get the label, [..., k]; NaN when there are no others."""
    others = counts.actual.sum(-1, keepdims=True) - counts.actual
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(others > 0, 1.0 - (counts.predicted - counts.hits) / others, np.nan)


def accuracy(counts: ConfusionCounts) -> Floats:
    """Trace of the confusion matrix over n, [...]."""
    total: Floats = counts.hits.sum(-1) / counts.actual.sum(-1)
    return total


def macro(per_class: Floats) -> Floats:
    """Mean over classes, each alike. The macro recall is also called balanced accuracy."""
    mean: Floats = per_class.mean(-1)
    return mean


def weighted(per_class: Floats, counts: ConfusionCounts) -> Floats:
    """Mean over classes by their images."""
    mean: Floats = (per_class * counts.actual).sum(-1) / counts.actual.sum(-1)
    return mean


def aucs(truth: Ints, probabilities: Floats) -> Floats:
    """Area under the ROC curve of each class against the rest, [k]; ties count one half.

    Args:
        truth: [n], 0 to k-1; every class and its rest must be there, else its area is NaN.
        probabilities: [n, k].
    """
    areas: Floats = roc_auc_score(truth[:, None] == np.arange(probabilities.shape[1]), probabilities, average=None)
    return areas


def calibration_error(truth: Ints, probabilities: Floats, *, bins: int = 15) -> float:
    """Expected calibration error, 0 to 1: gap between confidence and accuracy, by equal bins of confidence (Guo 2017).

    Args:
        truth: [n], 0 to k-1.
        probabilities: [n, k].
        bins: Bins of confidence over 0 to 1.
    """
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == truth
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(place, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(truth))


def average_precisions(truth: Ints, probabilities: Floats, weights: Floats | None = None) -> Floats:
    """Average precision of each class against the rest, [..., k]: mean precision over the steps of recall.

    Images of equal probability are taken together, as in scikit-learn. NaN for a class without images.
    Ours takes many weightings at once, as the bootstrap needs: scikit-learn's takes one, 19 times as long for 500.

    Args:
        truth: [n], 0 to k-1.
        probabilities: [n, k].
        weights: Of the images, [..., n]; all alike without.
    """
    held = np.ones(len(truth)) if weights is None else weights
    return np.stack(
        [_average_precision(truth == kind, scores, held) for kind, scores in enumerate(probabilities.T)], -1
    )


def _average_precision(member: NDArray[np.bool_], scores: Floats, weights: Floats) -> Floats:
    order = np.argsort(-scores, kind="stable")
    inside, falling, held = member[order], scores[order], weights[..., order]
    # The last of each run of equal scores.
    steps = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    hits, taken = np.cumsum(held * inside, -1)[..., steps], np.cumsum(held, -1)[..., steps]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(taken > 0, hits / taken, 0.0)
        gained = np.diff(hits, axis=-1, prepend=0.0)
        result: Floats = (precision * gained).sum(-1) / hits[..., -1]
    return result


ROC_POINTS = 51


def roc(truth: Ints, probabilities: Floats) -> Floats:
    """Sensitivity of each class at `ROC_POINTS` even false positive rates from 0 to 1, [k, points].

    Args:
        truth: [n], 0 to k-1; every class and its rest must be there.
        probabilities: [n, k].
    """
    rates = np.linspace(0.0, 1.0, ROC_POINTS)
    curves = []
    for kind, scores in enumerate(probabilities.T):
        false_positives, sensitivity, _ = roc_curve(truth == kind, scores, drop_intermediate=False)
        # Where the curve rises straight up, its upper end counts.
        last = np.append(false_positives[1:] != false_positives[:-1], True)
        curves.append(np.interp(rates, false_positives[last], sensitivity[last]))
    return np.stack(curves)


def reliability(truth: Ints, probabilities: Floats, *, bins: int = 10) -> Floats:
    """Images by equal bins of the winning probability, [bins, 3]: their number, summed confidence, number right.

    Args:
        truth: [n], 0 to k-1.
        probabilities: [n, k].
        bins: Bins over 0 to 1.
    """
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == truth
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    columns = (np.ones_like(confidence), confidence, right)
    return np.stack([np.bincount(place, weights=column, minlength=bins) for column in columns], -1)


def load_metrics(names: Sequence[str], *, classes: int) -> dict[str, LoadedMetric]:
    """Load further metrics, and try each on made-up predictions before sealed rows are read for it.

    Args:
        names: Names in the registry.
        classes: k.

    Raises:
        InvalidArgument: unknown name.
        FailedPrecondition: reason BROKEN_PLUGIN, it cannot be loaded; reason METRIC_FAILED, it raises.
    """
    loaded = {name: _checked(name) for name in names}
    truth = np.arange(10 * classes) % classes
    probabilities = np.random.default_rng(0).dirichlet(np.ones(classes), len(truth)).astype(np.float32)
    for metric in loaded.values():
        metric(truth, probabilities)
    return loaded


def _checked(name: str) -> LoadedMetric:
    """The metric `name`, whose errors name it."""
    try:
        metric: Metric = load(METRICS.get(name, path="evaluation.metrics"))
    except (ImportError, AttributeError) as error:
        raise FailedPrecondition(
            f"metric {name!r} cannot be loaded: {type(error).__name__}: {error}", reason="BROKEN_PLUGIN"
        ) from error

    def compute(truth: Ints, probabilities: Floats) -> float:
        try:
            return float(metric(truth, probabilities))
        except Exception as error:
            raise FailedPrecondition(
                f"metric {name!r} failed: {type(error).__name__}: {error}", reason="METRIC_FAILED"
            ) from error

    return compute
