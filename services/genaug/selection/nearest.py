"""Nearest images by the cosine of their features, and the distance below which a copy is suspected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genaug.selection.embed import Features
from genaug.shared.errors import Cancelled
from genaug.vision.features.image_encoder import IsActive

NEAREST = 10
"""Most made images listed for each real one."""
COPY_PERCENTILE = 1.0
"""Percentile of natural distances below which a made image is a suspected copy."""
ENOUGH = 50
"""Natural distances that a class needs for a percentile of its own; with fewer, all classes are pooled."""

Reals = NDArray[np.float64]
Indices = NDArray[np.int64]

# Rows of a block of the distance matrix.
_BLOCK = 512
# Digits of a distance, below the precision of float32 features: equal images tie, and the first id wins.
_DIGITS = 7


@dataclass(frozen=True)
class Pairs:
    """The nearest images in both directions, for one class of n real and m made images."""

    made: Indices
    """[n, min(10, m)]: the made images nearest to each real one, nearest first."""
    made_distances: Reals
    real: Indices
    """[m, 1]: the real image nearest to each made one."""
    real_distances: Reals


def find_pairs(real: Reals, made: Reals, *, is_active: IsActive = lambda: True) -> Pairs:
    """Find the nearest images in both directions; among equally near ones the first.

    Args:
        real: [n, d], n ≥ 1, rows of length 1 (or 0).
        made: [m, d], m ≥ 1, likewise.
    """
    return Pairs(*nearest(real, made, NEAREST, is_active=is_active), *nearest(made, real, 1, is_active=is_active))


def nearest(queries: Reals, targets: Reals, count: int, *, is_active: IsActive = lambda: True) -> tuple[Indices, Reals]:
    """Find the `count` targets nearest to each query, nearest first; the first among equals.

    Args:
        queries: [q, d], rows of length 1 (or 0).
        targets: [t, d], likewise.

    Returns:
        Indices and distances, both [q, min(count, t)].
    """
    indices = np.empty((len(queries), min(count, len(targets))), np.int64)
    distances = np.empty(indices.shape)
    for start in range(0, len(queries), _BLOCK):
        stop_unless(is_active)
        block = _distances(queries[start : start + _BLOCK], targets)
        order = np.argsort(block, axis=1, kind="stable")[:, :count]
        indices[start : start + _BLOCK] = order
        distances[start : start + _BLOCK] = np.take_along_axis(block, order, axis=1)
    return indices, distances


def natural_distances(features: Reals, groups: Sequence[str], *, is_active: IsActive = lambda: True) -> Reals:
    """Distance of each image to the nearest image of another group: the natural closeness of different subjects.

    Args:
        features: [n, d], rows of length 1 (or 0), of one class.
        groups: The group of each.

    Returns:
        [n], or [0] where all images are of one group.
    """
    _, group = np.unique(np.array(groups), return_inverse=True)
    if group.size == 0 or group.max() == 0:
        return np.empty(0)
    result = np.empty(len(features))
    for start in range(0, len(features), _BLOCK):
        stop_unless(is_active)
        block = _distances(features[start : start + _BLOCK], features)
        block[group[start : start + _BLOCK, None] == group[None, :]] = np.inf
        result[start : start + _BLOCK] = block.min(axis=1)
    return result


def copy_distance(own: Reals, of_all: Callable[[], Reals]) -> float:
    """Distance below which a made image is a suspected copy: the first percentile of natural distances.

    Args:
        own: Natural distances of the class.
        of_all: Returns the natural distances of all classes, used where the class has fewer than `ENOUGH`.

    Returns:
        0, so that no image is suspected, where no class has two subjects.
    """
    distances = own if len(own) >= ENOUGH else of_all()
    return float(np.percentile(distances, COPY_PERCENTILE)) if len(distances) else 0.0


def unit(features: Features) -> Reals:
    """Scale `features` [n, d] to length 1; rows of zeros stay, at distance 1 from everything."""
    rows = features.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    result: Reals = rows / np.where(lengths > 0, lengths, 1.0)
    return result


def _distances(a: Reals, b: Reals) -> Reals:
    result: Reals = np.round(1.0 - a @ b.T, _DIGITS).clip(0.0, 2.0)
    return result


def stop_unless(is_active: IsActive) -> None:
    """Raise Cancelled unless the caller still waits."""
    if not is_active():
        raise Cancelled("matching was cancelled; nothing was written")
