"""Conversion between pixels and the tensors of diffusion networks."""

from __future__ import annotations

import torch
from torch import Tensor

from genaug.vision.images.pixels import Pixels


def to_images(pixels: Pixels) -> Tensor:
    """uint8 [n, side, side, channels] as float32 [n, channels, side, side] within ±1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pixels(images: Tensor, *, channels: int) -> Pixels:
    """float32 [n, c, side, side] as uint8 [n, side, side, channels]; values are clipped to ±1.

    One channel is the mean of the colors.
    """
    if channels < images.shape[1]:
        images = images.mean(1, keepdim=True)
    pixels: Pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return pixels
