"""Size, brightness, contrast and sharpness of one image."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from genaug.vision.images.pixels import Pixels, resize, with_channels

SIDE = 256
"""Pixels to which images are scaled before sharpness is measured, so that sizes can be compared."""


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


def quality(pixels: Pixels) -> Quality:
    """Measure an image; luma is that of ITU-R 601."""
    grey = with_channels(pixels, 1)[:, :, 0]
    height, width = grey.shape
    luma = grey / 255.0
    return Quality(float(width), float(height), float(luma.mean()), float(luma.std()), _sharpness(grey[:, :, None]))


def _sharpness(grey: Pixels) -> float:
    luma = resize(grey, SIDE)[:, :, 0].astype(np.float32)
    inner = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
    return float(laplacian.var(dtype=np.float64))
