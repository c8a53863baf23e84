"""Data augmentation of training batches, on the device that trains."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from genaug.schema.common import TransformSpec
from genaug.shared.digests import seed_of


def augmented(pixels: Tensor, ranges: TransformSpec, *, seed: int, update: int) -> Tensor:
    """Transform each image by parameters of its own, uniform within `ranges`.

    Flip, rotation about the centre, scale and shift are one bilinear resampling; pixels from outside repeat the border.
    Then brightness is a factor of all values, and contrast a factor of their distance from the image's mean. The
    parameters follow from `seed` and `update` alone, on any device.

    Args:
        pixels: [n, channels, height, width], 0 to 255, of any number format.

    Returns:
        float32 of the same shape, 0 to 255.
    """
    count, _, height, width = pixels.shape
    rng = np.random.default_rng(seed_of("augment/1", seed, update))
    angle = np.radians(rng.uniform(-1, 1, count) * ranges.rotate_degrees)
    scale = 1 + rng.uniform(-1, 1, count) * ranges.scale
    # In units of the sampling grid, whose sides run from -1 to 1.
    right, down = rng.uniform(-1, 1, (2, count)) * ranges.shift * 2
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0) if ranges.horizontal_flip else np.ones(count)
    brightness, contrast = 1 + rng.uniform(-1, 1, (2, count)) * ranges.color
    # Resampling looks up, for each pixel of the result, its place in the source: so these matrices are the inverse
    # transform, hence the division by the scale and the reversed shift.
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    # Grid units are half a side, which differ between the axes of an oblong image; a rotation must be one of pixels.
    ratio = height / width
    rows = np.stack(
        [
            np.stack([mirror * cos, mirror * sin * ratio, -mirror * (cos * right + sin * ratio * down)], 1),
            np.stack([-sin / ratio, cos, sin / ratio * right - cos * down], 1),
        ],
        1,
    )
    moved = affine(pixels.float(), torch.from_numpy(rows.astype(np.float32)).to(pixels.device), mode="bilinear")
    factors = torch.from_numpy(np.stack([brightness, contrast]).astype(np.float32)).to(pixels.device)
    bright = moved * factors[0, :, None, None, None]
    mean = bright.mean((1, 2, 3), keepdim=True)
    return ((bright - mean) * factors[1, :, None, None, None] + mean).clamp(0, 255)


def affine(images: Tensor, matrices: Tensor, *, mode: Literal["bilinear", "bicubic"]) -> Tensor:
    """Resample each image by its own affine map; places outside an image repeat its border.

    Args:
        images: float32 [n, channels, height, width].
        matrices: [n, 2, 3], from places of the result to places of the source; both run from -1 to 1 along each side.
        mode: Interpolation.

    Returns:
        float32 of the same shape; "bicubic" may leave the range of the source.
    """
    grid = nn.functional.affine_grid(matrices, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, mode=mode, padding_mode="border", align_corners=False)
