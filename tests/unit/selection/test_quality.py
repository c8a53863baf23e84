from __future__ import annotations

import numpy as np

from genaug.selection.choose import METHODS, choose, choose_at_random, choose_on_grid, feature_space
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
        found = quality(
            where,
            Gaussian.of(where),
            method="METHOD_TSNE_GRID",
            choices={"METHOD_TSNE_GRID": choose_on_grid(where, kept=40, seed=seed)},
            control=choose_at_random(200, kept=40, seed=seed, purpose="control"),
        )
        assert (found.available, found.kept) == (200, 40)
        assert found.coverage >= found.random_coverage
        gains.append(found.random_mmd2 - found.mmd2)
    assert np.mean(gains) > 0


def test_every_method_is_shown_beside_the_one_that_chose() -> None:
    where = patches(0)
    kernel = Gaussian.of(where)
    space = feature_space(where.astype(np.float32))
    choices = {method: choose(where, space, method=method, kept=40, seed=0) for method in METHODS}
    control = choose_at_random(200, kept=40, seed=0, purpose="control")
    found = quality(where, kernel, method="METHOD_HERDING", choices=choices, control=control)
    assert [one.method for one in found.alternatives] == list(METHODS)
    for one in found.alternatives:
        assert one.mmd2 == kernel.squared_mmd(choices[one.method])
        assert one.coverage == coverage(where, choices[one.method], kept=40)
    by_method = {one.method: one for one in found.alternatives}
    assert (found.mmd2, found.coverage) == (by_method["METHOD_HERDING"].mmd2, by_method["METHOD_HERDING"].coverage)
    assert by_method["METHOD_HERDING"].mmd2 < found.random_mmd2 < by_method["METHOD_K_CENTER"].mmd2
