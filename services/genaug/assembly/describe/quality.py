"""The look of one photograph in five numbers."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from genaug.vision.images.pixels import Pixels, resize, with_channels

SIDE = 256
"""Pixels at which sharpness is measured, so that photographs of different sizes can be compared."""


@dataclass(frozen=True)
class Quality:
    """What one photograph is like; field names are those of `DatasetDescription.Measure`."""

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
    at = resize(grey, SIDE)[:, :, 0].astype(np.float32)
    inner = at[1:-1, 1:-1]
    laplacian = at[:-2, 1:-1] + at[2:, 1:-1] + at[1:-1, :-2] + at[1:-1, 2:] - 4 * inner
    return float(laplacian.var(dtype=np.float64))
