"""Memorization of training images: distances from samples to them, beside the training images' own distances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genaug.generation.sampling.receipts import DrawnImage
from genaug.schema.generators import GridMemorization
from genaug.vision.images.pixels import Pixels, resize

_SIDE = 32
# A sample counts as memorized when its nearest-neighbour distance is below this quantile of the training images' own.
_QUANTILE = 0.01


class MemorizationProbe:
    """Distances to the training images of a class: 1 minus the correlation of pixels at 32×32.

    Args:
        pixels: Training images, uint8 [n, side, side, channels].
        labels: Index of each image's class.
        groups: Subject of each image. An image's natural neighbours are images of other subjects.
    """

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], groups: Sequence[str]) -> None:
        self._labels = labels
        self._thumbnails = _thumbnails(list(pixels))
        subjects = np.array(groups)
        nearest = []
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            distances = 1 - self._thumbnails[members] @ self._thumbnails[members].T
            distances[subjects[members][:, None] == subjects[members][None, :]] = np.inf
            nearest.append(distances.min(axis=1))
        natural = np.concatenate(nearest)
        natural = natural[np.isfinite(natural)]
        self.natural_median = float(np.median(natural)) if len(natural) else 0.0
        self._limit = float(np.quantile(natural, _QUANTILE)) if len(natural) else 0.0

    def measure(self, samples: Sequence[DrawnImage], classes: Sequence[str], *, update: int) -> GridMemorization:
        """Measure a grid's samples.

        Args:
            samples: The grid.
            classes: The label map.
            update: Updates done when the grid was drawn.
        """
        distances = []
        for thumbnail, sample in zip(_thumbnails([sample.pixels for sample in samples]), samples, strict=True):
            members = self._thumbnails[self._labels == classes.index(sample.request.class_name)]
            distances.append(float((1 - members @ thumbnail).min()))
        return GridMemorization(
            update=update,
            median=round(float(np.median(distances)), 6),
            natural_median=round(self.natural_median, 6),
            memorized=round(float(np.mean([distance < self._limit for distance in distances])), 6),
        )


def _thumbnails(images: Sequence[Pixels]) -> NDArray[np.float32]:
    """Thumbnails with mean 0 and length 1, so that their products are correlations."""
    small = np.stack([resize(image, _SIDE) if min(image.shape[:2]) > _SIDE else image for image in images])
    flat = small.astype(np.float32).reshape(len(small), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    thumbnails: NDArray[np.float32] = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return thumbnails
