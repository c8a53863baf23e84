from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genaug.selection.choose import choose_at_random
from genaug.selection.kernel import Gaussian


def discrepancy_by_definition(features: np.ndarray, chosen: np.ndarray) -> float:
    gaps = np.linalg.norm(features[:, None] - features[None], axis=2)
    upper = gaps[np.triu_indices(len(gaps), 1)] ** 2
    kernel = np.exp(-(gaps**2) / (2 * np.median(upper[upper > 0])))
    return float(kernel[np.ix_(chosen, chosen)].mean() - 2 * kernel[chosen].mean() + kernel.mean())


@given(count=st.integers(2, 60), kept=st.integers(1, 60), seed=st.integers(0, 1000))
@settings(max_examples=40)
def test_discrepancy_follows_its_definition(count: int, kept: int, seed: int) -> None:
    features = (np.random.default_rng(seed).normal(size=(count, 5)) + 100).astype(np.float32)
    chosen = choose_at_random(count, kept=kept, seed=seed, purpose="choice")
    mmd2 = Gaussian.of(features).squared_mmd(chosen)
    assert mmd2 >= 0
    assert mmd2 == pytest.approx(discrepancy_by_definition(features.astype(np.float64), chosen), rel=1e-4, abs=1e-9)


def test_columns_and_means_are_the_kernels() -> None:
    features = np.random.default_rng(1).normal(size=(30, 4))
    kernel = Gaussian.of(features)
    columns = np.stack([kernel.column(index) for index in range(30)])
    np.testing.assert_allclose(columns, columns.T)
    np.testing.assert_allclose(np.diag(columns), 1)
    np.testing.assert_allclose(columns.mean(axis=1), kernel.means)


def test_discrepancy_of_all_is_none() -> None:
    features = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    assert Gaussian.of(features).squared_mmd(np.arange(50)) == pytest.approx(0, abs=1e-12)
    assert Gaussian.of(np.ones((5, 3), np.float32)).squared_mmd(np.array([0, 1])) == 0
    assert Gaussian.of(np.ones((1, 3), np.float32)).squared_mmd(np.array([0])) == 0


def test_discrepancy_sees_a_lopsided_choice() -> None:
    features = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    lopsided = np.argsort(features[:, 0])[:50]
    even = choose_at_random(200, kept=50, seed=0, purpose="choice")
    kernel = Gaussian.of(features)
    assert kernel.squared_mmd(lopsided) > 10 * kernel.squared_mmd(even)


def test_large_classes_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genaug.selection.kernel._SAMPLE", 400)
    monkeypatch.setattr("genaug.selection.kernel._MEDIAN_SAMPLE", 200)
    features = np.random.default_rng(0).normal(size=(1500, 2)).astype(np.float32)
    half = np.argsort(features[:, 0])[:750]
    kernel = Gaussian.of(features, seed=1)
    assert kernel.squared_mmd(half) == Gaussian.of(features, seed=1).squared_mmd(half)
    assert kernel.squared_mmd(half) == pytest.approx(discrepancy_by_definition(features, half), rel=0.25)


def test_memory_does_not_grow_with_the_square(monkeypatch: pytest.MonkeyPatch) -> None:
    """4,000 rows: the whole matrix would take 128 MB."""
    monkeypatch.setattr("genaug.selection.kernel._MEDIAN_SAMPLE", 500)
    features = np.random.default_rng(0).normal(size=(4000, 8)).astype(np.float32)
    tracemalloc.start()
    try:
        Gaussian.of(features).squared_mmd(np.arange(0, 4000, 2))
        assert tracemalloc.get_traced_memory()[1] < 64e6
    finally:
        tracemalloc.stop()
