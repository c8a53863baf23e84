"""Calibration of a labeler on out-of-fold logits: what its probabilities mean, and from which one on it is believed."""

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
"""Range of temperatures. A labeler without an out-of-fold error would otherwise call itself infinitely sure."""

TARGET_PRECISION = 0.8
"""Share of accepted images that are what they were accepted as, on held-out real images.

0.95 accepts next to nothing where a labeler is right two times in three, as on fundus photographs at 64 pixels.
"""

THRESHOLDS = (0.5, 0.99)
"""Range of thresholds: never accept an unlikely class, never ask for more than a softmax can give."""

UNKNOWN_THRESHOLD = 0.9
"""Threshold of a class that fewer than `ENOUGH` held-out images were taken for."""

ENOUGH = 5
"""Accepted held-out images below which a precision says nothing."""


@dataclass(frozen=True)
class Calibration:
    """What turns logits into labels."""

    temperature: float
    """Divides logits before the softmax."""
    thresholds: Mapping[str, float]
    """Per class, the calibrated probability from which a label is accepted."""


def calibrate(logits: NDArray[np.float32], targets: NDArray[np.int64], *, classes: Sequence[str]) -> Calibration:
    """Temperature and thresholds from held-out real images; defaults where there are none.

    Args:
        logits: [n, classes], of images that their network was not trained on.
        targets: [n], their true classes.
        classes: The label map.
    """
    temperature = fit_temperature(logits, targets) if len(targets) else 1.0
    probabilities = softmax((logits / temperature).astype(np.float64), axis=1)
    predicted = probabilities.argmax(axis=1)
    thresholds = {}
    for index, name in enumerate(classes):
        taken = predicted == index
        thresholds[name] = fit_threshold(probabilities[taken, index], correct=targets[taken] == index)
    log.info("labeler calibrated", extra={"temperature": round(temperature, 3), "thresholds": thresholds})
    return Calibration(temperature, thresholds)


def fit_temperature(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    """The temperature within `TEMPERATURES` at which held-out images are most probable (Guo et al. 2017, section 4.2).

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
    """The lowest probability from which on held-out images taken for a class are of that class often enough.

    Thresholds that accept at least `ENOUGH` images are looked at. The lowest with `TARGET_PRECISION` is taken; where
    none has it, the one of the best precision. With too few images it is `UNKNOWN_THRESHOLD`. Clamped to `THRESHOLDS`.

    Args:
        probabilities: [n], calibrated, of the class that the images were taken for.
        correct: [n], whether they are of it.
    """
    if len(probabilities) < ENOUGH:
        return UNKNOWN_THRESHOLD
    order = np.argsort(-probabilities, kind="stable")
    falling = probabilities[order]
    precision = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    # A threshold takes all images of equal probability or none: only the last of each run of equals counts.
    possible = np.append(falling[1:] != falling[:-1], True)
    possible[: ENOUGH - 1] = False
    good = possible & (precision >= TARGET_PRECISION)
    if good.any():
        chosen = np.flatnonzero(good)[-1]
    else:
        best = precision[possible].max()
        chosen = np.flatnonzero(possible & (precision == best))[-1]
    return float(np.clip(falling[chosen], *THRESHOLDS))
