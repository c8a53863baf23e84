from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from genaug.labeling.calibrate import (
    ENOUGH,
    TARGET_PRECISION,
    TEMPERATURES,
    THRESHOLDS,
    UNKNOWN_THRESHOLD,
    calibrate,
    fit_temperature,
    fit_threshold,
)


def drawn(count: int, *, classes: int = 4, overconfidence: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and targets drawn from the very probabilities the logits mean, then sharpened."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(count, classes))
    targets = np.array([rng.choice(classes, p=p) for p in softmax(logits, axis=1)])
    return (logits * overconfidence).astype(np.float32), targets


def cross_entropy(logits: np.ndarray, targets: np.ndarray, temperature: float) -> float:
    return float(-log_softmax(logits / temperature, axis=1)[np.arange(len(targets)), targets].mean())


@pytest.mark.parametrize("overconfidence", [0.7, 1.0, 3.0])
def test_temperature_undoes_overconfidence(overconfidence: float) -> None:
    logits, targets = drawn(4000, overconfidence=overconfidence)
    assert fit_temperature(logits, targets) == pytest.approx(overconfidence, rel=0.1)


def test_temperature_minimises_cross_entropy() -> None:
    logits, targets = drawn(300, overconfidence=2.0, seed=1)
    best = fit_temperature(logits, targets)
    least = cross_entropy(logits, targets, best)
    assert all(cross_entropy(logits, targets, best * factor) >= least for factor in (0.8, 0.95, 1.05, 1.25))


def test_temperature_is_found_to_its_last_bits() -> None:
    """Stored temperatures do not depend on how the root is calibration: here by halving 60 times."""
    logits, targets = drawn(300, overconfidence=2.0, seed=1)
    values = logits.astype(np.float64)

    def slope(inverse: float) -> float:
        expected = (softmax(values * inverse, axis=1) * values).sum(axis=1)
        return float(expected.mean() - values[np.arange(len(targets)), targets].mean())

    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    assert fit_temperature(logits, targets) == pytest.approx(2 / (low + high), rel=1e-12)


def test_temperature_stays_in_its_range() -> None:
    sure = np.eye(3, dtype=np.float32)[[0, 1, 2]] * 5
    assert fit_temperature(sure, np.array([0, 1, 2])) == TEMPERATURES[0]
    assert fit_temperature(sure, np.array([1, 2, 0])) == TEMPERATURES[1]


def test_threshold_is_the_lowest_that_is_precise_enough() -> None:
    probabilities = np.linspace(0.99, 0.51, 49)
    correct = np.ones(49, bool)
    correct[29:] = False
    # 29 right ones, then wrong ones: 29/36 is enough, 29/37 is not.
    assert fit_threshold(probabilities, correct=correct) == pytest.approx(probabilities[35])


def test_equal_probabilities_are_taken_together() -> None:
    probabilities = np.array([0.9] * 10 + [0.8] * 10)
    correct = np.array([True] * 10 + [True] * 5 + [False] * 5)
    assert fit_threshold(probabilities, correct=correct) == pytest.approx(0.9)


def test_an_unreachable_precision_gives_the_best_there_is() -> None:
    probabilities = np.linspace(0.95, 0.6, 20)
    # Five of the first seven is the best there is.
    correct = np.array([True, True, False, True, False, True, True, False, False, False] + [False] * 10)
    assert fit_threshold(probabilities, correct=correct) == pytest.approx(probabilities[6])


def test_few_images_say_nothing() -> None:
    assert fit_threshold(np.full(ENOUGH - 1, 0.7), correct=np.ones(ENOUGH - 1, bool)) == UNKNOWN_THRESHOLD
    assert fit_threshold(np.empty(0), correct=np.empty(0, bool)) == UNKNOWN_THRESHOLD


@given(seed=st.integers(0, 10_000), count=st.integers(0, 60), accuracy=st.floats(0, 1))
@settings(max_examples=80)
def test_thresholds_are_in_range_and_keep_their_promise(seed: int, count: int, accuracy: float) -> None:
    rng = np.random.default_rng(seed)
    probabilities, correct = rng.uniform(0.3, 1, count).round(2), rng.random(count) < accuracy
    threshold = fit_threshold(probabilities, correct=correct)
    assert THRESHOLDS[0] <= threshold <= THRESHOLDS[1]
    reachable = [
        t
        for t in probabilities
        if (probabilities >= t).sum() >= ENOUGH and correct[probabilities >= t].mean() >= TARGET_PRECISION
    ]
    if reachable and min(reachable) >= THRESHOLDS[0] and threshold < THRESHOLDS[1]:
        assert threshold == min(reachable)
        assert correct[probabilities >= threshold].mean() >= TARGET_PRECISION


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
def test_few_images_do_not_break_it(count: int) -> None:
    logits, targets = drawn(count)
    calibration = calibrate(logits, targets, classes=["a", "b", "c", "d"])
    assert set(calibration.thresholds) == {"a", "b", "c", "d"}
    assert TEMPERATURES[0] <= calibration.temperature <= TEMPERATURES[1]


def test_each_class_has_its_own_threshold() -> None:
    logits = np.array([[3.0, 0.0]] * 40 + [[0.0, 1.0]] * 20 + [[0.0, 4.0]] * 30, np.float32)
    targets = np.array([0] * 40 + [0] * 16 + [1] * 4 + [1] * 30)
    calibration = calibrate(logits, targets, classes=["easy", "hard"])
    assert calibration.thresholds["easy"] < calibration.thresholds["hard"]
