"""Training data of class-conditional diffusion: jittered and mirrored images, in pixels or in latents."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genaug.generation.generators.class_conditional.autoencoder import Autoencoder
from genaug.generation.generators.class_conditional.generator import Config, Moments, to_places
from genaug.generation.generators.pixels import to_images
from genaug.generation.training.diffusion_data import (
    ClassBalancedSampler,
    ImageSource,
    NoiseSchedule,
    TrainingSet,
    jitter,
)
from genaug.generation.training.loop import DiffusionBatch

# Share of images that are trained without their class, so that one network learns both halves of guidance.
_CLASS_DROPOUT = 0.1
# Every other image is jittered, with a label that says so: against memorization of a few dozen images.
_JITTER_SHARE = 0.5
# Jittered copies of each image where each has to be encoded beforehand.
_COPIES = 2


class PixelImages:
    """Images in memory, jittered anew each time."""

    def __init__(self, config: Config, training: TrainingSet) -> None:
        self._config = config
        self._images = to_images(training.pixels)

    def augment(self, chosen: Tensor, *, moved: Tensor, mirrored: Tensor, random: torch.Generator) -> Tensor:
        """See `ImageSource`."""
        images = self._images[chosen]
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        images = torch.where(moved[:, None, None, None], jitter(images, random=random), images)
        return to_places(self._config, images)


class LatentImages:
    """Latents, encoded once: of each image upright and, if wanted, mirrored, unchanged and jittered `_COPIES` times.

    Args:
        latents: [n, 1 or 2 (mirrored), 1 + copies, channels, side, side], not normalized.
    """

    def __init__(self, latents: Tensor) -> None:
        self._latents = latents

    def moments(self) -> Moments:
        """Mean and standard deviation of each channel over the unchanged images."""
        std, mean = torch.std_mean(self._latents[:, 0, 0], dim=(0, 2, 3))
        return Moments(mean=tuple(mean.tolist()), std=tuple(std.clamp(min=1e-3).tolist()))

    def normalized(self, config: Config, moments: Moments) -> LatentImages:
        """The latents with mean 0 and standard deviation 1 by `moments`, cut into the patches of `config`."""
        mean, std = moments.tensors(self._latents.device)
        places = to_places(config, ((self._latents - mean) / std).flatten(0, 2))
        return LatentImages(places.unflatten(0, self._latents.shape[:3]))

    def augment(self, chosen: Tensor, *, moved: Tensor, mirrored: Tensor, random: torch.Generator) -> Tensor:
        """See `ImageSource`."""
        copies = self._latents.shape[2] - 1
        copy = torch.randint(1, copies + 1, (len(chosen),), generator=random) if copies else torch.zeros_like(chosen)
        return self._latents[chosen, mirrored.long(), torch.where(moved, copy, 0)]


def encode(
    training: TrainingSet,
    encoder: Autoencoder,
    *,
    mirror: bool,
    jittered: bool,
    seed: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> LatentImages:
    """Encode a training set.

    Args:
        training: The images; grey ones are encoded as RGB.
        encoder: The autoencoder.
        mirror: Whether to encode mirrored images too.
        jittered: Whether to encode jittered copies too.
        seed: Seed of the jitter.
        on_progress: Called as images are encoded: (done, total).
    """
    images = to_images(training.pixels).expand(-1, 3, -1, -1)
    random = torch.Generator().manual_seed(seed)
    sides = [images, images.flip(-1)] if mirror else [images]
    count = 1 + _COPIES * jittered
    versions = []
    for number, side in enumerate(sides):
        copies = []
        for copy in range(count):
            before = (number * count + copy) * len(images)

            def report(done: int, *, before: int = before) -> None:
                on_progress(before + done, len(sides) * count * len(images))

            copies.append(encoder.means(side if copy == 0 else jitter(side, random=random), on_progress=report))
        versions.append(torch.stack(copies, 1))
    return LatentImages(torch.stack(versions, 1))


class Batches:
    """Random class-balanced batches with their noise, drawn on the CPU and so the same on every device.

    Args:
        config: Configuration of the network.
        images: The training images.
        labels: Index of each image's class, [n].
        size: Images per batch.
        mirror: Whether half of the images are mirrored.
        seed: Seed of all randomness.
    """

    def __init__(
        self, config: Config, images: ImageSource, labels: NDArray[np.int64], *, size: int, mirror: bool, seed: int
    ) -> None:
        self._config = config
        self._images = images
        self._sampler = ClassBalancedSampler(labels, classes=len(config.classes))
        self._size = size
        self._mirror_share = 0.5 if mirror else 0.0
        self._schedule = NoiseSchedule(config.schedule)
        self.random = torch.Generator().manual_seed(seed)
        """Source of the batches' randomness."""

    def draw(self) -> DiffusionBatch:
        """The next batch, with the class dropped from some images."""
        size, random = self._size, self.random
        labels, chosen = self._sampler.draw(size, random=random)
        moved = torch.rand(size, generator=random) < _JITTER_SHARE
        mirrored = torch.rand(size, generator=random) < self._mirror_share
        places = self._images.augment(chosen, moved=moved, mirrored=mirrored, random=random)
        dropped = torch.rand(size, generator=random) < _CLASS_DROPOUT
        times = torch.randint(self._schedule.times, (size,), generator=random)
        noise = torch.randn(places.shape, generator=random)
        labels = (labels + moved * self._config.jittered).masked_fill(dropped, self._config.null_class)
        return self._schedule.batch(places, times=times, noise=noise, labels=labels)
