from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genaug.schema.selection import SelectionMethod
from genaug.selection.choose import (
    choose,
    choose_at_random,
    choose_by_herding,
    choose_centres,
    choose_on_grid,
    feature_space,
    grid_cells,
)
from genaug.selection.kernel import Gaussian
from genaug.selection.quality import coverage


def points(count: int, *, seed: int = 0) -> np.ndarray:
    """Points in clumps of different density."""
    rng = np.random.default_rng(seed)
    return rng.normal(scale=[5, 2], size=(4, 2))[rng.integers(0, 4, count) ** 2 % 4] + rng.normal(size=(count, 2))


@given(
    count=st.integers(1, 120),
    kept=st.integers(1, 150),
    seed=st.integers(0, 2**63 - 1),
    method=st.sampled_from(SelectionMethod),
)
@settings(max_examples=60)
def test_exactly_as_many_as_requested_each_once(count: int, kept: int, seed: int, method: SelectionMethod) -> None:
    where = points(count)
    space = feature_space(where.astype(np.float32))
    chosen = choose(where, space, method=method, kept=kept, seed=seed)
    assert len(chosen) == min(kept, count)
    assert (np.diff(chosen) > 0).all()
    assert chosen.min() >= 0
    assert chosen.max() < count
    assert (chosen == choose(where, space, method=method, kept=kept, seed=seed)).all()


@given(count=st.integers(1, 120), kept=st.integers(1, 150), seed=st.integers(0, 1000))
@settings(max_examples=60)
def test_the_grid_covers_as_many_cells_as_can_be(count: int, kept: int, seed: int) -> None:
    where = points(count, seed=seed)
    occupied = len(np.unique(grid_cells(where, kept=kept)))
    covered = coverage(where, choose_on_grid(where, kept=kept, seed=seed), kept=kept)
    assert covered == min(kept, occupied) / occupied
    control = choose_at_random(count, kept=kept, seed=seed, purpose="control")
    assert covered >= coverage(where, control, kept=kept)


def test_cells_get_their_share() -> None:
    """Two clumps of 90 and 10 points: after one each, the rest is dealt by their numbers."""
    where = np.concatenate([np.zeros((90, 2)), np.ones((10, 2))])
    chosen = choose_on_grid(where, kept=20, seed=0)
    assert (chosen < 90).sum() == 18


def test_a_lonely_point_is_kept() -> None:
    where = np.concatenate([np.random.default_rng(0).random((99, 2)), [[50.0, 50.0]]])
    assert all(99 in choose_on_grid(where, kept=10, seed=seed) for seed in range(20))


@pytest.mark.parametrize("where", [np.zeros((7, 2)), np.stack([np.arange(7.0), np.zeros(7)], axis=1)])
def test_maps_without_extent_are_maps(where: np.ndarray) -> None:
    assert len(choose_on_grid(where, kept=3, seed=0)) == 3
    assert 0 < coverage(where, np.arange(7), kept=3) <= 1


def test_seed_and_purpose_make_other_choices() -> None:
    def chosen(seed: int, purpose: str) -> tuple[int, ...]:
        return tuple(choose_at_random(100, kept=10, seed=seed, purpose=purpose).tolist())

    assert len({chosen(0, "choice"), chosen(1, "choice"), chosen(0, "control"), chosen(1, "control")}) == 4
    grids = {tuple(choose_on_grid(points(100), kept=10, seed=seed).tolist()) for seed in range(5)}
    assert len(grids) == 5


def test_random_takes_every_image_alike() -> None:
    times = np.zeros(20)
    for seed in range(600):
        times[choose_at_random(20, kept=5, seed=seed, purpose="choice")] += 1
    assert abs(times / 600 - 0.25).max() < 0.08


def blobs(count: int, *, seed: int, dimensions: int = 8) -> np.ndarray:
    """Three clumps of unequal size, float32 [count, dimensions]."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(scale=4, size=(3, dimensions))
    kinds = rng.choice(3, count, p=[0.6, 0.3, 0.1])
    return (centres[kinds] + rng.normal(size=(count, dimensions))).astype(np.float32)


def test_herding_follows_its_formula() -> None:
    space = blobs(25, seed=3, dimensions=3).astype(np.float64)
    gaps = np.linalg.norm(space[:, None] - space[None], axis=2)
    # The scale is that of squares: an even number of gaps has two middles.
    kernel = np.exp(-(gaps**2) / (2 * np.median(gaps[np.triu_indices(25, 1)] ** 2)))
    taken: list[int] = []
    for step in range(10):
        gain = kernel.mean(axis=1) - kernel[:, taken].sum(axis=1) / (step + 1)
        gain[taken] = -np.inf
        taken.append(int(gain.argmax()))
        assert choose_by_herding(space, kept=step + 1, seed=0).tolist() == sorted(taken)


def test_herding_stands_for_its_class_better_than_chance() -> None:
    gains = []
    for seed in range(12):
        features = blobs(150, seed=seed)
        kernel = Gaussian.of(features)
        herded = choose_by_herding(feature_space(features), kept=25, seed=seed)
        control = choose_at_random(150, kept=25, seed=seed, purpose="control")
        gains.append(kernel.squared_mmd(control) / kernel.squared_mmd(herded))
    assert np.exp(np.mean(np.log(gains))) > 3


def radius(space: np.ndarray, chosen: np.ndarray) -> float:
    return float(np.linalg.norm(space[:, None] - space[None, chosen], axis=2).min(axis=1).max())


@given(count=st.integers(1, 9), kept=st.integers(1, 5), seed=st.integers(0, 10_000))
@settings(max_examples=60)
def test_centres_cover_within_twice_the_best_radius(count: int, kept: int, seed: int) -> None:
    space = np.random.default_rng(seed).normal(size=(count, 2))
    greedy = radius(space, choose_centres(space, kept=kept, seed=seed))
    best = min(radius(space, np.array(centres)) for centres in combinations(range(count), min(kept, count)))
    assert greedy <= 2 * best + 1e-9


def test_centres_reach_the_outliers() -> None:
    space = np.concatenate([np.random.default_rng(0).random((99, 2)), [[50.0, 50.0]]])
    assert all(99 in choose_centres(space, kept=2, seed=seed) for seed in range(20))


@pytest.mark.parametrize("method", SelectionMethod)
def test_equal_images_are_chosen_among(method: SelectionMethod) -> None:
    features = np.ones((9, 5), np.float32)
    chosen = choose(np.zeros((9, 2)), feature_space(features), method=method, kept=4, seed=0)
    assert len(set(chosen.tolist())) == 4


def test_among_equals_the_first_is_taken() -> None:
    """Each image twice: herding never takes the second before the first."""
    space = np.repeat(blobs(20, seed=1, dimensions=3), 2, axis=0).astype(np.float64)
    chosen = set(choose_by_herding(space, kept=11, seed=0).tolist())
    assert all(index - 1 in chosen for index in chosen if index % 2)


def test_features_of_any_scale_count_alike() -> None:
    features = blobs(60, seed=2)
    scaled = features * np.array([1, 1e4, 1e-4, 1, 1, 1, 1, 1], np.float32)
    with_constant = np.concatenate([features, np.full((60, 1), 7, np.float32)], axis=1)
    expected = np.linalg.norm(feature_space(features), axis=1)
    for other in (scaled, with_constant):
        np.testing.assert_allclose(np.linalg.norm(feature_space(other), axis=1), expected, rtol=1e-3)
    assert feature_space(np.random.default_rng(0).normal(size=(80, 200)).astype(np.float32)).shape == (80, 50)
