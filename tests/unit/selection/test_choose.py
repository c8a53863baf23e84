from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genaug.selection.choose import (
    METHODS,
    Method,
    choose,
    choose_at_random,
    choose_on_grid,
    coverage,
    grid_cells,
    quality,
    squared_mmd,
)


def points(count: int, *, seed: int = 0) -> np.ndarray:
    """Points in clumps of different density."""
    rng = np.random.default_rng(seed)
    return rng.normal(scale=[5, 2], size=(4, 2))[rng.integers(0, 4, count) ** 2 % 4] + rng.normal(size=(count, 2))


@given(
    count=st.integers(1, 120),
    kept=st.integers(1, 150),
    seed=st.integers(0, 2**63 - 1),
    method=st.sampled_from(METHODS),
)
@settings(max_examples=60, deadline=None)
def test_exactly_as_many_as_wanted_each_once(count: int, kept: int, seed: int, method: Method) -> None:
    found = choose(points(count), method=method, kept=kept, seed=seed)
    assert len(found) == min(kept, count)
    assert (np.diff(found) > 0).all()
    assert found.min() >= 0
    assert found.max() < count
    assert (found == choose(points(count), method=method, kept=kept, seed=seed)).all()


@given(count=st.integers(1, 120), kept=st.integers(1, 150), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_the_grid_covers_as_many_cells_as_can_be(count: int, kept: int, seed: int) -> None:
    where = points(count, seed=seed)
    occupied = len(np.unique(grid_cells(where, kept=kept)))
    found = coverage(where, choose_on_grid(where, kept=kept, seed=seed), kept=kept)
    assert found == min(kept, occupied) / occupied
    control = choose_at_random(count, kept=kept, seed=seed, purpose="control")
    assert found >= coverage(where, control, kept=kept)


def test_cells_get_their_share() -> None:
    """Two clumps of 90 and 10 points: after one each, the rest is dealt by their numbers."""
    where = np.concatenate([np.zeros((90, 2)), np.ones((10, 2))])
    found = choose_on_grid(where, kept=20, seed=0)
    assert (found < 90).sum() == 18


def test_a_lonely_point_is_kept() -> None:
    where = np.concatenate([np.random.default_rng(0).random((99, 2)), [[50.0, 50.0]]])
    assert all(99 in choose_on_grid(where, kept=10, seed=seed) for seed in range(20))


@pytest.mark.parametrize("where", [np.zeros((7, 2)), np.stack([np.arange(7.0), np.zeros(7)], axis=1)])
def test_maps_without_extent_are_maps(where: np.ndarray) -> None:
    assert len(choose_on_grid(where, kept=3, seed=0)) == 3
    assert 0 < coverage(where, np.arange(7), kept=3) <= 1


def test_seed_and_purpose_make_other_choices() -> None:
    def found(seed: int, purpose: str) -> tuple[int, ...]:
        return tuple(choose_at_random(100, kept=10, seed=seed, purpose=purpose).tolist())

    assert len({found(0, "choice"), found(1, "choice"), found(0, "control"), found(1, "control")}) == 4
    grids = {tuple(choose_on_grid(points(100), kept=10, seed=seed).tolist()) for seed in range(5)}
    assert len(grids) == 5


def test_random_takes_every_image_alike() -> None:
    times = np.zeros(20)
    for seed in range(600):
        times[choose_at_random(20, kept=5, seed=seed, purpose="choice")] += 1
    assert abs(times / 600 - 0.25).max() < 0.08


def discrepancy_by_definition(features: np.ndarray, chosen: np.ndarray) -> float:
    gaps = np.linalg.norm(features[:, None] - features[None], axis=2)
    upper = gaps[np.triu_indices(len(gaps), 1)]
    kernel = np.exp(-(gaps**2) / (2 * np.median(upper[upper > 0]) ** 2))
    return float(kernel[np.ix_(chosen, chosen)].mean() - 2 * kernel[chosen].mean() + kernel.mean())


@given(count=st.integers(2, 60), kept=st.integers(1, 60), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_discrepancy_is_what_its_definition_says(count: int, kept: int, seed: int) -> None:
    features = (np.random.default_rng(seed).normal(size=(count, 5)) + 100).astype(np.float32)
    chosen = choose_at_random(count, kept=kept, seed=seed, purpose="choice")
    found = squared_mmd(features, chosen)
    assert found >= 0
    # The median of squares is not always the square of the median: an even number of gaps has two middles.
    assert found == pytest.approx(discrepancy_by_definition(features.astype(np.float64), chosen), rel=0.2, abs=1e-9)


def test_discrepancy_of_all_is_none() -> None:
    features = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    assert squared_mmd(features, np.arange(50)) == pytest.approx(0, abs=1e-12)
    assert squared_mmd(np.ones((5, 3), np.float32), np.array([0, 1])) == 0
    assert squared_mmd(np.ones((1, 3), np.float32), np.array([0])) == 0


def test_discrepancy_sees_a_lopsided_choice() -> None:
    features = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    lopsided = np.argsort(features[:, 0])[:50]
    even = choose_at_random(200, kept=50, seed=0, purpose="choice")
    assert squared_mmd(features, lopsided) > 10 * squared_mmd(features, even)


def test_large_classes_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genaug.selection.choose._SAMPLE", 400)
    features = np.random.default_rng(0).normal(size=(1500, 2)).astype(np.float32)
    half = np.argsort(features[:, 0])[:750]
    assert squared_mmd(features, half, seed=1) == squared_mmd(features, half, seed=1)
    assert squared_mmd(features, half, seed=1) == pytest.approx(discrepancy_by_definition(features, half), rel=0.25)


def test_the_grid_stands_for_its_class_better_than_chance() -> None:
    """On average, on a map as t-SNE draws them: patches of even density."""
    gains = []
    for seed in range(10):
        where = np.random.default_rng(seed).random((200, 2)) * [3, 1]
        where[:60] += [5, 2]
        found = quality(
            where,
            where.astype(np.float32),
            chosen=choose_on_grid(where, kept=40, seed=seed),
            control=choose_at_random(200, kept=40, seed=seed, purpose="control"),
        )
        assert (found.available, found.kept) == (200, 40)
        assert found.coverage >= found.random_coverage
        gains.append(found.random_mmd2 - found.mmd2)
    assert np.mean(gains) > 0
