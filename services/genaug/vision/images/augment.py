"""Changes within which an image stays what it was: their ranges, and a batch changed on the device that trains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from genaug.shared.digests import seed_of
from genaug.shared.errors import InvalidArgument


@dataclass(frozen=True)
class Ranges:
    """Within these an image stays what it was; the message `TransformSpec`."""

    horizontal_flip: bool = False
    rotate_degrees: float = 10.0
    shift: float = 0.05
    """Share of the side."""
    scale: float = 0.1
    """Share."""
    colour: float = 0.1
    """Share, of brightness and of contrast."""

    def check(self, path: str) -> None:
        """Refuse ranges that turn images into others, or leave them as they are.

        Args:
            path: Where in the run file they stand.

        Raises:
            InvalidArgument: a range is out of bounds, or all are empty.
        """
        for field, value, most in (
            ("rotate_degrees", self.rotate_degrees, 180.0),
            ("shift", self.shift, 0.5),
            ("scale", self.scale, 0.5),
            ("colour", self.colour, 0.5),
        ):
            if not 0 <= value <= most:
                raise InvalidArgument(f"{path}.{field}: {value} is not within 0 and {most}", reason="BAD_TRANSFORM")
        if not (self.horizontal_flip or self.rotate_degrees or self.shift or self.scale or self.colour):
            raise InvalidArgument(
                f"{path}: every range is 0, so that each image would be a copy; allow at least one",
                reason="BAD_TRANSFORM",
            )


def augmented(pixels: Tensor, ranges: Ranges, *, seed: int, update: int) -> Tensor:
    """Each image changed by parameters of its own, uniform within `ranges`.

    Flip, rotation about the centre, scale and shift are one bilinear resampling; what moves in from outside repeats the
    border. Then brightness is a factor of all values, and contrast a factor of their distance from the image's mean.
    The parameters follow from `seed` and `update` alone, on whatever device.

    Args:
        pixels: [n, channels, height, width], 0 to 255, of any number format.

    Returns:
        float32 of the same shape, 0 to 255.
    """
    count, _, height, width = pixels.shape
    rng = np.random.default_rng(seed_of("augment/1", seed, update))
    angle = np.radians(rng.uniform(-1, 1, count) * ranges.rotate_degrees)
    scale = 1 + rng.uniform(-1, 1, count) * ranges.scale
    # Of the grid, whose sides run from -1 to 1.
    right, down = rng.uniform(-1, 1, (2, count)) * ranges.shift * 2
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0) if ranges.horizontal_flip else np.ones(count)
    brightness, contrast = 1 + rng.uniform(-1, 1, (2, count)) * ranges.colour
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    # The grid says where each pixel of the result comes from, in units of half a side: turned in pixels.
    ratio = height / width
    rows = np.stack(
        [
            np.stack([mirror * cos, mirror * sin * ratio, -mirror * (cos * right + sin * ratio * down)], 1),
            np.stack([-sin / ratio, cos, sin / ratio * right - cos * down], 1),
        ],
        1,
    )
    matrices = torch.from_numpy(rows.astype(np.float32)).to(pixels.device)
    grid = nn.functional.affine_grid(matrices, list(pixels.shape), align_corners=False)
    moved = nn.functional.grid_sample(pixels.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    factors = torch.from_numpy(np.stack([brightness, contrast]).astype(np.float32)).to(pixels.device)
    bright = moved * factors[0, :, None, None, None]
    mean = bright.mean((1, 2, 3), keepdim=True)
    return ((bright - mean) * factors[1, :, None, None, None] + mean).clamp(0, 255)
