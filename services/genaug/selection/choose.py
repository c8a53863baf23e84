"""Selection of representative images of a class: on its map, by its kernel mean, by its centres, or at random.

Rows ascend by image id: among equals the first is taken, so that the order of a manifest changes nothing.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from genaug.schema.selection import SelectionMethod
from genaug.selection.kernel import Gaussian, Indices, Reals, squared_distances
from genaug.selection.project import COMPONENTS, Plane, principal_components
from genaug.shared.digests import seed_of


def grid_cells(points: Plane, *, kept: int) -> Indices:
    """Assign points to the cells, [n], of a grid over their bounding box, with about as many cells as images are kept.

    Args:
        points: [n, 2], n ≥ 1.
        kept: Images to keep, ≥ 1.
    """
    side = math.ceil(math.sqrt(kept))
    low, span = points.min(axis=0), np.ptp(points, axis=0)
    position = np.floor((points - low) / np.where(span > 0, span, 1.0) * side).astype(np.int64).clip(0, side - 1)
    cells: Indices = position[:, 0] * side + position[:, 1]
    return cells


def choose_on_grid(points: Plane, *, kept: int, seed: int) -> Indices:
    """Select min(kept, n) points that cover the map and keep its densities; return their indices, ascending.

    Every occupied cell of `grid_cells` gives one point, the fullest cells first where there are more cells than points
    to keep. The others are dealt to the cells by their numbers of points (Sainte-Laguë's highest averages): equal
    shares would make sparse regions look dense. Within a cell, the seed draws the points.
    """
    rng = np.random.default_rng(seed_of("choice on the grid", seed))
    _, cell, counts = np.unique(grid_cells(points, kept=kept), return_inverse=True, return_counts=True)
    # A point's turn: number of points of its cell before it.
    turn = np.empty(len(points), np.int64)
    for index in range(len(counts)):
        members = np.flatnonzero(cell == index)
        turn[rng.permutation(members)] = np.arange(len(members))
    order = np.lexsort((rng.permutation(len(points)), (turn + 0.5) / counts[cell], turn > 0))
    return np.sort(order[:kept])


def choose_at_random(count: int, *, kept: int, seed: int, purpose: str) -> Indices:
    """Draw min(kept, count) of `count` images, each set equally likely; return their indices, ascending.

    Args:
        purpose: Another purpose gives another choice from the same seed.
    """
    rng = np.random.default_rng(seed_of("choice at random", purpose, seed))
    return np.sort(rng.permutation(count)[:kept])


def feature_space(features: NDArray[np.float32]) -> Reals:
    """Compute the space of herding and k-center: the first 50 principal components of standardized features.

    Args:
        features: [n, d], n ≥ 1.

    Returns:
        [n, at most 50]. Features that are constant within the class are left out.
    """
    rows = features.astype(np.float64)
    deviation = rows.std(axis=0)
    varies = deviation > 1e-6 * np.maximum(1.0, np.abs(rows).max(axis=0))
    if not varies.any():
        return np.zeros((len(rows), 1))
    standard = (rows[:, varies] - rows[:, varies].mean(axis=0)) / deviation[varies]
    return principal_components(standard.astype(np.float32), COMPONENTS)


def choose_by_herding(space: Reals, *, kept: int, seed: int) -> Indices:
    """Select min(kept, n) rows by kernel herding; return their indices, ascending.

    Kernel herding (Chen, Welling & Smola 2010, equation 8) over the rows themselves, none taken twice: the next row has
    the largest mean kernel with all rows, less the sum of its kernels with the t rows taken over t + 1. The kernel is
    `Gaussian`. Deterministic; `seed` matters above 5,000 rows, where the means are of a sample.

    Args:
        space: [n, d], n ≥ 1; see `feature_space`.
    """
    kernel = Gaussian.of(space, seed=seed)
    taken = np.zeros(len(space), np.bool_)
    sums = np.zeros(len(space))
    for step in range(min(kept, len(space))):
        # Rounded: equal images tie, whatever the last bits of their sums.
        gain = np.round(kernel.means - sums / (step + 1), 12)
        best = int(np.where(taken, -np.inf, gain).argmax())
        taken[best] = True
        sums += kernel.column(best)
    return np.flatnonzero(taken)


def choose_centres(space: Reals, *, kept: int, seed: int) -> Indices:
    """Select min(kept, n) rows by greedy k-center; return their indices, ascending.

    Gonzalez 1985: the seed draws the first centre; each next one is the row farthest from all centres so far. The
    largest distance of a row to its nearest centre is at most twice the optimum.

    Args:
        space: [n, d], n ≥ 1; see `feature_space`.
    """
    index = int(np.random.default_rng(seed_of("first centre", seed)).integers(len(space)))
    taken = np.zeros(len(space), np.bool_)
    nearest = np.full(len(space), np.inf)
    for _ in range(min(kept, len(space))):
        taken[index] = True
        np.minimum(nearest, squared_distances(space, space[index : index + 1])[:, 0], out=nearest)
        index = int(np.where(taken, -np.inf, nearest).argmax())
    return np.flatnonzero(taken)


def choose(points: Plane, space: Reals, *, method: SelectionMethod, kept: int, seed: int) -> Indices:
    """Select min(kept, n) images by `method`; return their indices, ascending.

    Args:
        points: [n, 2], the images on the map.
        space: [n, d], the same images; see `feature_space`.
    """
    if method == SelectionMethod.TSNE_GRID:
        return choose_on_grid(points, kept=kept, seed=seed)
    if method == SelectionMethod.HERDING:
        return choose_by_herding(space, kept=kept, seed=seed)
    if method == SelectionMethod.K_CENTER:
        return choose_centres(space, kept=kept, seed=seed)
    return choose_at_random(len(points), kept=kept, seed=seed, purpose="choice")
