"""Size, brightness, contrast and sharpness of one image."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from genaug.vision.images.pixels import Pixels, resize

SIDE = 256
"""Pixels to which images are scaled before sharpness is measured, so that sizes can be compared."""

Luma = NDArray[np.uint8]
"""Luma of ITU-R 601, uint8 [height, width]."""


@dataclass(frozen=True)
class Quality:
    """Measures of one image; field names are the names of `Measure`s."""

    width: float
    """Pixels."""
    height: float
    """Pixels."""
    brightness: float
    """Mean luma, 0 to 1."""
    contrast: float
    """Standard deviation of luma, 0 to 1 (root mean square contrast, Peli 1990); above 0.5 for no image."""
    sharpness: float
    """Variance of the Laplacian of luma 0 to 255 (Pech-Pacheco et al. 2000), of the centred square at `SIDE` pixels."""


MEASURES = tuple(field.name for field in fields(Quality))


def quality(luma: Luma, counts: NDArray[np.int64]) -> Quality:
    """Measure an image.

    Args:
        luma: uint8 [height, width].
        counts: Its pixels by value, int64 [256].
    """
    height, width = luma.shape
    values = np.arange(256) / 255
    mean = float(counts @ values) / luma.size
    variance = float(counts @ (values - mean) ** 2) / luma.size
    return Quality(float(width), float(height), mean, variance**0.5, _sharpness(luma))


def _sharpness(luma: Luma) -> float:
    square: Pixels = resize(luma[:, :, None], SIDE)
    scaled = square[:, :, 0].astype(np.int16)
    inner = scaled[1:-1, 1:-1]
    laplacian = scaled[:-2, 1:-1] + scaled[2:, 1:-1] + scaled[1:-1, :-2] + scaled[1:-1, 2:] - 4 * inner
    return float(laplacian.var(dtype=np.float64))
