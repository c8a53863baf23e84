"""Choice of images of a class: coverage of its map, beside a random control; and how well each stands for all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from genaug.selection.project import Plane
from genaug.shared.digests import seed_of

Method = Literal["METHOD_TSNE_GRID", "METHOD_RANDOM"]
METHODS: tuple[Method, ...] = ("METHOD_TSNE_GRID", "METHOD_RANDOM")

Indices = NDArray[np.int64]

# Images of a class beyond which discrepancies are taken on a seeded sample: their cost grows with the square.
_SAMPLE = 5_000


@dataclass(frozen=True)
class Quality:
    """How well a choice stands for its class, beside the control."""

    available: int
    kept: int
    mmd2: float
    random_mmd2: float
    coverage: float
    random_coverage: float


def grid_cells(points: Plane, *, kept: int) -> Indices:
    """The cell of each point, [n]: a grid over the points' bounding box, with about as many cells as images are kept.

    Args:
        points: [n, 2], n ≥ 1.
        kept: Images to keep, ≥ 1.
    """
    side = math.ceil(math.sqrt(kept))
    low, span = points.min(axis=0), np.ptp(points, axis=0)
    place = np.floor((points - low) / np.where(span > 0, span, 1.0) * side).astype(np.int64).clip(0, side - 1)
    cells: Indices = place[:, 0] * side + place[:, 1]
    return cells


def choose_on_grid(points: Plane, *, kept: int, seed: int) -> Indices:
    """Indices of min(kept, n) points that cover the map and keep its densities, ascending.

    Every occupied cell of `grid_cells` gives one point, the fullest cells first where there are more cells than points
    to keep. The others are dealt to the cells by their numbers of points (Sainte-Laguë's highest averages): equal
    shares would make sparse regions look dense. Which points a cell gives is drawn by the seed.
    """
    rng = np.random.default_rng(seed_of("choice on the grid", seed))
    _, cell, counts = np.unique(grid_cells(points, kept=kept), return_inverse=True, return_counts=True)
    # A point's turn: how many points of its cell come before it.
    turn = np.empty(len(points), np.int64)
    for index in range(len(counts)):
        members = np.flatnonzero(cell == index)
        turn[rng.permutation(members)] = np.arange(len(members))
    order = np.lexsort((rng.permutation(len(points)), (turn + 0.5) / counts[cell], turn > 0))
    return np.sort(order[:kept])


def choose_at_random(count: int, *, kept: int, seed: int, purpose: str) -> Indices:
    """Indices of min(kept, count) of `count` images, each set alike, ascending.

    Args:
        purpose: Another purpose gives another choice from the same seed.
    """
    rng = np.random.default_rng(seed_of("choice at random", purpose, seed))
    return np.sort(rng.permutation(count)[:kept])


def choose(points: Plane, *, method: Method, kept: int, seed: int) -> Indices:
    """Indices of min(kept, n) images by `method`, ascending."""
    if method == "METHOD_RANDOM":
        return choose_at_random(len(points), kept=kept, seed=seed, purpose="choice")
    return choose_on_grid(points, kept=kept, seed=seed)


def coverage(points: Plane, chosen: Indices, *, kept: int) -> float:
    """Share of the occupied cells of `grid_cells` that hold a chosen point, 0 to 1."""
    cells = grid_cells(points, kept=kept)
    return len(np.unique(cells[chosen])) / len(np.unique(cells))


def squared_mmd(features: NDArray[np.float32], chosen: Indices, *, seed: int = 0) -> float:
    """Squared maximum mean discrepancy between the chosen rows and all rows; 0 when all are chosen.

    The biased estimate of Gretton et al. 2012 (equation 5), which is never negative, with the kernel
    exp(-|a-b|²/(2 m²)), m the median distance between rows. Of more than 5,000 rows a seeded sample stands for all.

    Args:
        features: [n, d], n ≥ 1.
        chosen: Indices, at least one.
    """
    rng = np.random.default_rng(seed_of("discrepancy sample", seed))
    every = features.astype(np.float64)
    some = every[chosen if len(chosen) <= _SAMPLE else rng.choice(chosen, _SAMPLE, replace=False)]
    if len(every) > _SAMPLE:
        every = every[rng.choice(len(every), _SAMPLE, replace=False)]
    # Centred first: distances of large, near numbers would lose their digits.
    centre = every.mean(axis=0)
    some, every = some - centre, every - centre
    among_all = _squared_distances(every, every)
    between = among_all[np.triu_indices(len(every), 1)]
    positive = between[between > 0]
    if not positive.size:
        return 0.0
    scale = -1.0 / (2.0 * float(np.median(positive)))
    means = [
        float(np.exp(_squared_distances(a, b) * scale).mean()) for a, b in ((some, some), (some, every), (every, every))
    ]
    return max(0.0, means[0] - 2 * means[1] + means[2])


def quality(
    points: Plane, features: NDArray[np.float32], *, chosen: Indices, control: Indices, seed: int = 0
) -> Quality:
    """How well `chosen` and `control`, of equal size, stand for one class.

    Args:
        points: [n, 2], all images of the class on the map.
        features: [n, d], the same images in feature space.
    """
    kept = len(chosen)
    return Quality(
        available=len(points),
        kept=kept,
        mmd2=squared_mmd(features, chosen, seed=seed),
        random_mmd2=squared_mmd(features, control, seed=seed),
        coverage=coverage(points, chosen, kept=kept),
        random_coverage=coverage(points, control, kept=kept),
    )


def _squared_distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None, :] - 2.0 * (a @ b.T)
    np.maximum(result, 0.0, out=result)
    return result
