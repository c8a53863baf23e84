from __future__ import annotations

import numpy as np

from genaug.schema.selection import SelectionMethod
from genaug.selection.choose import choose, choose_at_random, choose_on_grid, feature_space
from genaug.selection.kernel import Gaussian
from genaug.selection.quality import coverage, quality


def patches(seed: int) -> np.ndarray:
    """A map as t-SNE draws them: patches of even density."""
    where = np.random.default_rng(seed).random((200, 2)) * [3, 1]
    where[:60] += [5, 2]
    return where


def test_the_grid_stands_for_its_class_better_than_chance() -> None:
    gains = []
    for seed in range(10):
        where = patches(seed)
        measured = quality(
            "a",
            where,
            Gaussian.of(where),
            method=SelectionMethod.TSNE_GRID,
            choices={SelectionMethod.TSNE_GRID: choose_on_grid(where, kept=40, seed=seed)},
            control=choose_at_random(200, kept=40, seed=seed, purpose="control"),
        )
        assert (measured.available, measured.kept) == (200, 40)
        assert measured.coverage >= measured.random_coverage
        gains.append(measured.random_mmd2 - measured.mmd2)
    assert np.mean(gains) > 0


def test_every_method_is_shown_beside_the_one_that_chose() -> None:
    where = patches(0)
    kernel = Gaussian.of(where)
    space = feature_space(where.astype(np.float32))
    choices = {method: choose(where, space, method=method, kept=40, seed=0) for method in SelectionMethod}
    control = choose_at_random(200, kept=40, seed=0, purpose="control")
    measured = quality("a", where, kernel, method=SelectionMethod.HERDING, choices=choices, control=control)
    assert [other.method for other in measured.alternatives] == list(SelectionMethod)
    for other in measured.alternatives:
        assert other.mmd2 == kernel.squared_mmd(choices[other.method])
        assert other.coverage == coverage(where, choices[other.method], kept=40)
    by_method = {other.method: other for other in measured.alternatives}
    herding = by_method[SelectionMethod.HERDING]
    assert (measured.mmd2, measured.coverage) == (herding.mmd2, herding.coverage)
    assert herding.mmd2 < measured.random_mmd2 < by_method[SelectionMethod.K_CENTER].mmd2
