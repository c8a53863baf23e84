from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from genaug.evaluation import metrics

SEEDS = st.integers(0, 2**32 - 1)


def predictions(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth that holds every class, and coarse probabilities, so that there are ties."""
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 6))
    truth = np.concatenate([np.arange(classes), rng.integers(0, classes, int(rng.integers(0, 60)))])
    probabilities = rng.integers(0, 5, (len(truth), classes)).astype(np.float32) + 0.25
    return truth, probabilities / probabilities.sum(1, keepdims=True)


@settings(max_examples=40)
@given(SEEDS)
def test_figures_are_those_of_scikit_learn(seed: int) -> None:
    truth, probabilities = predictions(seed)
    labels, kinds = probabilities.argmax(1), list(range(probabilities.shape[1]))
    matrix = metrics.confusion(truth, labels, len(kinds))
    counts = metrics.confusion_counts(matrix)
    ask = {"labels": kinds, "zero_division": 0}
    assert matrix.tolist() == [[int(((truth == a) & (labels == b)).sum()) for b in kinds] for a in kinds]
    assert metrics.accuracy(counts) == pytest.approx(reference.accuracy_score(truth, labels))
    assert metrics.macro(metrics.recalls(counts)) == pytest.approx(reference.balanced_accuracy_score(truth, labels))
    for average, mean in (("macro", metrics.macro), ("weighted", lambda x: metrics.weighted(x, counts))):
        precision, recall, f1, _ = reference.precision_recall_fscore_support(truth, labels, average=average, **ask)
        assert mean(metrics.precisions(counts)) == pytest.approx(precision)
        assert mean(metrics.recalls(counts)) == pytest.approx(recall)
        assert mean(metrics.f1s(counts)) == pytest.approx(f1)


@settings(max_examples=40)
@given(SEEDS)
def test_areas_are_shares_of_ordered_pairs_and_specificities_those_of_scikit_learn(seed: int) -> None:
    truth, probabilities = predictions(seed)
    labels = probabilities.argmax(1)
    areas = metrics.aucs(truth, probabilities)
    specificity = metrics.specificities(
        metrics.confusion_counts(metrics.confusion(truth, labels, probabilities.shape[1]))
    )
    for kind in range(probabilities.shape[1]):
        inside, outside = probabilities[truth == kind, kind, None], probabilities[None, truth != kind, kind]
        pairs = (inside > outside) + 0.5 * (inside == outside)
        assert areas[kind] == pytest.approx(pairs.mean(), rel=1e-12)
        assert specificity[kind] == pytest.approx(reference.recall_score(truth != kind, labels != kind))


@settings(max_examples=40)
@given(SEEDS)
def test_average_precisions_are_those_of_scikit_learn(seed: int) -> None:
    truth, probabilities = predictions(seed)
    weights = np.random.default_rng(seed).integers(0, 4, (3, len(truth))).astype(float)
    weights[:, : probabilities.shape[1]] += 1
    plain, weighted = (metrics.average_precisions(truth, probabilities, w) for w in (None, weights))
    for kind, scores in enumerate(probabilities.T):
        assert plain[kind] == pytest.approx(reference.average_precision_score(truth == kind, scores))
        for row, found in zip(weights, weighted[:, kind], strict=True):
            expected = reference.average_precision_score(truth == kind, scores, sample_weight=row)
            assert found == pytest.approx(expected)


@settings(max_examples=40)
@given(SEEDS)
def test_curves_are_those_of_every_threshold(seed: int) -> None:
    truth, probabilities = predictions(seed)
    curves = metrics.roc(truth, probabilities)
    rates = np.linspace(0, 1, metrics.ROC_POINTS)
    for kind, scores in enumerate(probabilities.T):
        inside, above = truth == kind, scores >= np.append(np.unique(scores), np.inf)[:, None]
        false_positives, sensitivity = above[:, ~inside].mean(1), above[:, inside].mean(1)
        top = np.array([sensitivity[false_positives == rate].max() for rate in np.unique(false_positives)])
        np.testing.assert_allclose(curves[kind], np.interp(rates, np.unique(false_positives), top), atol=1e-9)
        assert (np.diff(curves[kind]) >= -1e-12).all()


@settings(max_examples=40)
@given(SEEDS)
def test_reliability_bins_hold_every_image(seed: int) -> None:
    truth, probabilities = predictions(seed)
    bins = metrics.reliability(truth, probabilities)
    assert bins.shape == (10, 3)
    assert bins[:, 0].sum() == len(truth)
    assert bins[:, 1].sum() == pytest.approx(probabilities.max(1).astype(float).sum())
    assert bins[:, 2].sum() == (probabilities.argmax(1) == truth).sum()
    # The calibration error is theirs, bin by bin.
    gap = np.abs(metrics.reliability(truth, probabilities, bins=15)[:, 1:] @ [1, -1]).sum() / len(truth)
    assert gap == pytest.approx(metrics.calibration_error(truth, probabilities))


def test_accuracy_of_uniform_guesses_is_not_flattered() -> None:
    # Keras' BinaryAccuracy, as the published notebooks use it, gives 80 % here.
    truth = np.repeat(np.arange(5), 10)
    labels = np.zeros(50, int)
    assert metrics.accuracy(metrics.confusion_counts(metrics.confusion(truth, labels, 5))) == pytest.approx(0.2)


def test_calibration_error_is_zero_when_confidence_is_the_share_right() -> None:
    probabilities = np.tile(np.array([[0.75, 0.25]], np.float32), (8, 1))
    assert metrics.calibration_error(np.array([0, 0, 0, 1] * 2), probabilities) == pytest.approx(0.0)
    assert metrics.calibration_error(np.ones(8, int), probabilities) == pytest.approx(0.75)


def test_a_class_that_is_not_there_has_no_recall() -> None:
    assert np.isnan(metrics.recalls(metrics.confusion_counts(np.array([[3, 0], [0, 0]]))))[1]
