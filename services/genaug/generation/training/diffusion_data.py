"""Training data of diffusion networks: class-balanced sampling, noise with its targets, a fixed validation batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genaug.generation.diffusion.schedulers import build_scheduler
from genaug.generation.training.loop import DiffusionBatch
from genaug.vision.images.augment import affine

_JITTER_DEGREES = 5.0
_JITTER_SHIFT = 0.06
_JITTER_SCALE = 0.06
# Times at which each validation image is noised: one in each quarter of the diffusion.
_VALIDATION_TIMES = 4


@dataclass(frozen=True)
class TrainingSet:
    """Real images of a generator's classes."""

    ids: list[str]
    pixels: NDArray[np.uint8]
    """[n, image_size, image_size, channels]"""
    labels: NDArray[np.int64]
    """Index of each image's class."""
    groups: list[str]
    """Subject of each image."""

    @property
    def channels(self) -> int:
        """Color channels: 1 or 3."""
        return int(self.pixels.shape[-1])

    @property
    def image_size(self) -> int:
        """Height and width, pixels."""
        return int(self.pixels.shape[1])


class ImageSource(Protocol):
    """Source of augmented images."""

    def augment(self, chosen: Tensor, *, moved: Tensor, mirrored: Tensor, random: torch.Generator) -> Tensor:
        """Return augmented images in the network's shape.

        Args:
            chosen: Indices of the images, [n].
            moved: Whether each is jittered, [n].
            mirrored: Whether each is mirrored, [n].
            random: Source of randomness.
        """


class ClassBalancedSampler:
    """Random images, each class equally often in expectation.

    Args:
        labels: Index of each image's class, [n].
        classes: Number of classes; each has an image.
    """

    def __init__(self, labels: NDArray[np.int64], *, classes: int) -> None:
        by_class = [torch.from_numpy(np.flatnonzero(labels == index)) for index in range(classes)]
        self._counts = torch.tensor([len(members) for members in by_class])
        self._starts = self._counts.cumsum(0) - self._counts
        self._order = torch.cat(by_class)

    def draw(self, size: int, *, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Labels and indices of `size` images."""
        labels = torch.randint(len(self._counts), (size,), generator=random)
        within = (torch.rand(size, generator=random) * self._counts[labels]).long()
        return labels, self._order[self._starts[labels] + within]


class NoiseSchedule:
    """Noise schedule of a diffusion, and the network's prediction target: noise, velocity or image.

    Args:
        schedule: Arguments of diffusers' schedulers.
        min_snr: Gamma of min-SNR weighting (Hang et al. 2023, arXiv:2303.09556); 0 for none. Without it, errors of an
            image are weighted as those of the velocity that follows from it, by 1 / (1 - alpha_cumprod), at most
            `_MAX_WEIGHT` (Li & He 2025, arXiv:2511.13720, do the same with another bound); other errors by 1.
    """

    _MAX_WEIGHT = 25.0

    def __init__(self, schedule: Mapping[str, Any], *, min_snr: float = 0.0) -> None:
        self._scheduler = build_scheduler("DDPMScheduler", schedule)
        self._prediction = schedule.get("prediction_type", "epsilon")
        self._min_snr = min_snr

    @property
    def times(self) -> int:
        """Number of timesteps."""
        return len(self._scheduler.alphas_cumprod)

    def batch(self, images: Tensor, *, times: Tensor, noise: Tensor, labels: Tensor) -> DiffusionBatch:
        """Noise `images` up to `times`, with their targets."""
        noisy = self._scheduler.add_noise(images, noise, times)
        velocity = self._scheduler.get_velocity(images, noise, times)
        target = {"epsilon": noise, "sample": images}.get(self._prediction, velocity)
        alphas = torch.as_tensor(self._scheduler.alphas_cumprod)[times][:, None, None, None]
        return DiffusionBatch(noisy, times, labels, target, self._weights(alphas))

    def _weights(self, alphas: Tensor) -> Tensor:
        if self._min_snr:
            snr = alphas / (1 - alphas).clamp(min=1e-8)
            bounded = snr.clamp(max=self._min_snr)
            # min(snr, gamma) weights the image's error; the same error in terms of the noise, and of the velocity.
            return {"sample": bounded, "epsilon": bounded / snr}.get(self._prediction, bounded / (snr + 1))
        if self._prediction == "sample":
            return (1 / (1 - alphas)).clamp(max=self._MAX_WEIGHT)
        return torch.ones_like(alphas)


def validation_batch(
    schedule: NoiseSchedule, images: ImageSource, labels: NDArray[np.int64], *, seed: int
) -> DiffusionBatch | None:
    """Fixed validation batch: held-out images at fixed timesteps and noise.

    Args:
        schedule: The noise schedule.
        images: The held-out images.
        labels: Label of each, [n].
        seed: Seed of the noise.

    Returns:
        Each image once in each quarter of the diffusion; None if there is no image.
    """
    if not len(labels):
        return None
    random = torch.Generator().manual_seed(seed)
    chosen = torch.arange(len(labels)).repeat_interleave(_VALIDATION_TIMES)
    unchanged = torch.zeros(len(chosen), dtype=torch.bool)
    places = images.augment(chosen, moved=unchanged, mirrored=unchanged, random=random)
    quarter = torch.arange(_VALIDATION_TIMES).repeat(len(labels))
    within = torch.rand(len(chosen), generator=random)
    times = ((quarter + within) / _VALIDATION_TIMES * schedule.times).long()
    noise = torch.randn(places.shape, generator=random)
    return schedule.batch(places, times=times, noise=noise, labels=torch.from_numpy(labels)[chosen])


def jitter(images: Tensor, *, random: torch.Generator) -> Tensor:
    """Rotate, scale and shift each image by up to 5 degrees, 6 % and 6 % of its side; the border is repeated.

    Args:
        images: float32 [n, channels, side, side] within ±1; so is the result.
        random: Source of randomness.
    """
    turn, scale, right, down = torch.rand((4, len(images)), generator=random) * 2 - 1
    turn, scale = turn * math.radians(_JITTER_DEGREES), 1 + scale * _JITTER_SCALE
    cos, sin = scale * turn.cos(), scale * turn.sin()
    # Places run from -1 to 1 along a side: a share of the side is twice as much there.
    right, down = right * 2 * _JITTER_SHIFT, down * 2 * _JITTER_SHIFT
    matrices = torch.stack([torch.stack([cos, -sin, right], 1), torch.stack([sin, cos, down], 1)], 1)
    return affine(images, matrices, mode="bicubic").clamp(-1, 1)
