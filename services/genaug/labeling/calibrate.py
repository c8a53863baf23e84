"""Calibration of a labeler on out-of-fold logits: temperature scaling, and an acceptance threshold per class."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import softmax

log = logging.getLogger(__name__)

TEMPERATURES = (0.5, 10.0)
"""Range of temperatures. Without an out-of-fold error, the best temperature would be 0."""

TARGET_PRECISION = 0.8
"""Precision that a threshold aims at: share of correct labels among accepted held-out real images.

0.95 accepts next to nothing where a labeler is right two times in three, as on fundus photographs at 64 pixels.
"""

THRESHOLDS = (0.5, 0.99)
"""Range of thresholds: an unlikely class is never accepted, and no softmax reaches 1."""

UNKNOWN_THRESHOLD = 0.9
"""Threshold of a class that was predicted for fewer than `ENOUGH` held-out images."""

ENOUGH = 5
"""Accepted held-out images from which a precision is an estimate."""


@dataclass(frozen=True)
class Calibration:
    """Temperature and thresholds of a labeler."""

    temperature: float
    """Divides logits before the softmax."""
    thresholds: Mapping[str, float]
    """Per class, the lowest calibrated probability of an accepted label."""


def calibrate(logits: NDArray[np.float32], targets: NDArray[np.int64], *, classes: Sequence[str]) -> Calibration:
    """Fit temperature and thresholds to held-out real images; defaults where there are none.

    Args:
        logits: [n, classes], of images outside their network's training rows.
        targets: [n], their true classes.
        classes: The label map.
    """
    temperature = fit_temperature(logits, targets) if len(targets) else 1.0
    probabilities = softmax((logits / temperature).astype(np.float64), axis=1)
    predicted = probabilities.argmax(axis=1)
    thresholds = {}
    for index, name in enumerate(classes):
        own = predicted == index
        thresholds[name] = fit_threshold(probabilities[own, index], correct=targets[own] == index)
    log.info("labeler calibrated", extra={"temperature": round(temperature, 3), "thresholds": thresholds})
    return Calibration(temperature, thresholds)


def fit_temperature(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    """Fit the temperature, within `TEMPERATURES`, of least cross-entropy (Guo et al. 2017, section 4.2).

    Mean cross-entropy is convex in 1/T, so its slope there has one zero.

    Args:
        logits: [n, classes], n ≥ 1.
        targets: [n].
    """
    values = logits.astype(np.float64)
    true = values[np.arange(len(targets)), targets].mean()

    def slope(inverse: float) -> float:
        return float((softmax(values * inverse, axis=1) * values).sum(axis=1).mean() - true)

    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    if slope(low) >= 0:
        return TEMPERATURES[1]
    if slope(high) <= 0:
        return TEMPERATURES[0]
    # The temperature is stored: to its last bits, beyond brentq's default tolerance.
    return 1 / float(brentq(slope, low, high, xtol=1e-15, rtol=4 * np.finfo(np.float64).eps))


def fit_threshold(probabilities: NDArray[np.float64], *, correct: NDArray[np.bool_]) -> float:
    """Find the lowest threshold of one class with `TARGET_PRECISION` on held-out images.

    Candidates accept at least `ENOUGH` images. Where none reaches `TARGET_PRECISION`, the one of the best precision
    counts; with too few images, `UNKNOWN_THRESHOLD`. Clamped to `THRESHOLDS`.

    Args:
        probabilities: [n], calibrated, of images for which the class was predicted.
        correct: [n], whether it is their class.
    """
    if len(probabilities) < ENOUGH:
        return UNKNOWN_THRESHOLD
    order = np.argsort(-probabilities, kind="stable")
    falling = probabilities[order]
    precision = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    # A threshold accepts all images of equal probability or none: only the last of each run of equals is a candidate.
    possible = np.append(falling[1:] != falling[:-1], True)
    possible[: ENOUGH - 1] = False
    precise = possible & (precision >= TARGET_PRECISION)
    if precise.any():
        chosen = np.flatnonzero(precise)[-1]
    else:
        best = precision[possible].max()
        chosen = np.flatnonzero(possible & (precision == best))[-1]
    return float(np.clip(falling[chosen], *THRESHOLDS))
