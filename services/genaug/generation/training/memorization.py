"""Whether a generator remembers its training images: how near what it draws is to them, beside how near they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genaug.generation.sampling.receipts import Drawn
from genaug.vision.images.pixels import Pixels, resize

_SIDE = 32
# What is nearer than all but this share of training images are to their nearest is remembered.
_UNNATURAL = 0.01


class Closeness:
    """Distances to the training images of a class: 1 minus the correlation of pixels at 32×32.

    Args:
        pixels: Training images, uint8 [n, side, side, channels].
        labels: Index of each image's class.
        groups: Whom each shows: an image's natural neighbours are those of others.
    """

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], groups: Sequence[str]) -> None:
        self._labels = labels
        self._signs = _signs(list(pixels))
        known = np.array(groups)
        nearest = []
        for label in np.unique(labels):
            mine = np.flatnonzero(labels == label)
            distances = 1 - self._signs[mine] @ self._signs[mine].T
            distances[known[mine][:, None] == known[mine][None, :]] = np.inf
            nearest.append(distances.min(axis=1))
        natural = np.concatenate(nearest)
        natural = natural[np.isfinite(natural)]
        self.natural_median = float(np.median(natural)) if len(natural) else 0.0
        self._limit = float(np.quantile(natural, _UNNATURAL)) if len(natural) else 0.0

    def of(self, drawn: Sequence[Drawn], classes: Sequence[str]) -> dict[str, Any]:
        """What the message `GridCloseness` says of a grid, but for its update."""
        signs = _signs([one.pixels for one in drawn])
        distances = []
        for sign, one in zip(signs, drawn, strict=True):
            mine = self._signs[self._labels == classes.index(one.wanted.class_name)]
            distances.append(float((1 - mine @ sign).min()))
        return {
            "median": round(float(np.median(distances)), 6),
            "natural_median": round(self.natural_median, 6),
            "remembered": round(float(np.mean([one < self._limit for one in distances])), 6),
        }


def _signs(images: Sequence[Pixels]) -> NDArray[np.float32]:
    """Thumbnails with mean 0 and length 1, so that products are correlations."""
    small = np.stack([resize(one, _SIDE) if min(one.shape[:2]) > _SIDE else one for one in images]).astype(np.float32)
    flat = small.reshape(len(small), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    signs: NDArray[np.float32] = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return signs
