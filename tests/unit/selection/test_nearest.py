from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genaug.selection.nearest import ENOUGH, copy_distance, find_pairs, natural_distances, nearest, unit


def rows_of_unit_length(count: int, *, seed: int, dimensions: int = 5) -> np.ndarray:
    """Some of them equal."""
    rng = np.random.default_rng(seed)
    return unit(rng.normal(size=(count, dimensions)).astype(np.float32)[rng.integers(0, count, count)])


def by_definition(queries: np.ndarray, targets: np.ndarray) -> np.ndarray:
    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return 1 - sum(float(x) * float(y) for x, y in zip(a, b, strict=True))

    return np.array([[distance(query, target) for target in targets] for query in queries])


@given(real=st.integers(1, 25), made=st.integers(1, 25), block=st.integers(1, 8), seed=st.integers(0, 1000))
@settings(max_examples=60)
def test_pairs_equal_brute_force(real: int, made: int, block: int, seed: int) -> None:
    a, b = rows_of_unit_length(real, seed=seed), rows_of_unit_length(made, seed=seed + 1)
    expected = np.round(by_definition(a, b), 7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genaug.selection.nearest._BLOCK", block)
        pairs = find_pairs(a, b)
    for row, indices, distances in zip(expected, pairs.made, pairs.made_distances, strict=True):
        assert indices.tolist() == sorted(range(made), key=lambda index: (row[index], index))[:10]
        np.testing.assert_allclose(distances, row[indices], atol=1.5e-7)
    assert pairs.real[:, 0].tolist() == expected.argmin(axis=0).tolist()
    np.testing.assert_allclose(pairs.real_distances[:, 0], expected.min(axis=0), atol=1.5e-7)


@given(count=st.integers(1, 25), groups=st.integers(1, 6), block=st.integers(1, 8), seed=st.integers(0, 1000))
@settings(max_examples=60)
def test_natural_closeness_is_between_subjects(count: int, groups: int, block: int, seed: int) -> None:
    rows = rows_of_unit_length(count, seed=seed)
    group = [str(number) for number in np.random.default_rng(seed).integers(0, groups, count)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genaug.selection.nearest._BLOCK", block)
        natural = natural_distances(rows, group)
    distances = by_definition(rows, rows)
    expected = [
        min(distances[i][j] for j in range(count) if group[j] != group[i])
        for i in range(count)
        if any(other != group[i] for other in group)
    ]
    np.testing.assert_allclose(natural, expected, atol=1.5e-7)


def test_zeros_are_far_from_everything() -> None:
    zeros, ones = unit(np.zeros((1, 3), np.float32)), unit(np.ones((2, 3), np.float32))
    assert nearest(zeros, ones, 1)[1].tolist() == [[1.0]]
    assert nearest(ones, -ones, 1)[1].tolist() == [[2.0], [2.0]]


def test_classes_with_too_few_subjects_borrow_from_all() -> None:
    own, pooled = np.linspace(0.1, 0.2, ENOUGH), np.linspace(0.5, 0.6, 200)
    assert copy_distance(own, lambda: pooled) == np.percentile(own, 1)
    assert copy_distance(own[1:], lambda: pooled) == np.percentile(pooled, 1)
    assert copy_distance(own[:0], lambda: own[:0]) == 0
