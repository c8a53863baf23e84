from __future__ import annotations

import numpy as np
import pytest

from genaug.selection.project import principal_components, project


def clumps(count: int, *, dimensions: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    kinds = np.arange(count) % 3
    centres = rng.normal(scale=8, size=(3, dimensions))
    return (centres[kinds] + rng.normal(size=(count, dimensions))).astype(np.float32), kinds


def test_neighbours_stay_neighbours() -> None:
    features, kinds = clumps(150)
    points = project(features, seed=0)
    gaps = np.linalg.norm(points[:, None] - points[None], axis=2) + np.diag(np.full(150, np.inf))
    assert (kinds[gaps.argmin(axis=1)] == kinds).mean() > 0.98


def test_the_same_seed_draws_the_same_map() -> None:
    features, _ = clumps(60)
    first = project(features, seed=3)
    assert (project(features, seed=3) == first).all()
    assert (project(features, seed=4) != first).any()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 11, 12, 13, 20])
def test_few_images_have_a_map(count: int) -> None:
    points = project(clumps(count)[0], seed=0)
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()


@pytest.mark.parametrize("shape", [(30, 1), (30, 2), (3, 1), (40, 3)])
def test_few_dimensions_have_a_map(shape: tuple[int, int]) -> None:
    points = project(np.random.default_rng(0).normal(size=shape).astype(np.float32), seed=0)
    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all()


def test_equal_images_have_a_map() -> None:
    assert (project(np.ones((30, 4), np.float32), seed=0) == 0).all()
    doubled = np.repeat(clumps(15)[0], 2, axis=0)
    assert np.isfinite(project(doubled, seed=0)).all()


@pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
def test_components_follow_from_the_singular_value_decomposition(shape: tuple[int, int]) -> None:
    features = (np.random.default_rng(0).normal(size=shape) * np.arange(1, shape[1] + 1)).astype(np.float32)
    components = principal_components(features, 3)
    left, values, _ = np.linalg.svd(features.astype(np.float64) - features.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(components), np.abs(left[:, :3] * values[:3]), atol=1e-3)
    assert principal_components(features, 100).shape == (shape[0], 6)


def test_components_do_not_depend_on_the_order_of_rows() -> None:
    """Their signs included."""
    features, _ = clumps(30)
    order = np.random.default_rng(1).permutation(30)
    np.testing.assert_allclose(
        principal_components(features[order], 3), principal_components(features, 3)[order], atol=1e-3
    )
