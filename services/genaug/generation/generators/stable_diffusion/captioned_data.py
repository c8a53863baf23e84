"""Captioned training data: latents of training images with caption numbers, beside the prior's latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from genaug.generation.generators.class_conditional.autoencoder import Autoencoder
from genaug.generation.generators.pixels import to_images
from genaug.generation.generators.stable_diffusion.base_models import Base
from genaug.generation.training.diffusion_data import ClassBalancedSampler, NoiseSchedule, TrainingSet
from genaug.generation.training.finetune_context import FinetuneContext
from genaug.generation.training.loop import DiffusionBatch
from genaug.schema.generators import StableDiffusionSpec

# Share of images that are trained without their caption, so that one network learns both halves of guidance.
_CAPTION_DROPOUT = 0.1
# Images encoded at once.
_ENCODE_BATCH = 8


@dataclass(frozen=True)
class Latents:
    """Latent distributions of images, upright and, if wanted, mirrored; each use samples from them."""

    means: Tensor
    """[n, 1 or 2, channels, side, side]"""
    stds: Tensor

    def augment(self, chosen: Tensor, *, moved: Tensor, mirrored: Tensor, random: torch.Generator) -> Tensor:
        """See `genaug.generation.training.diffusion_data.ImageSource`; nothing is jittered."""
        mean, std = self.means[chosen, mirrored.long()], self.stds[chosen, mirrored.long()]
        return mean + std * torch.randn(mean.shape, generator=random)


@dataclass(frozen=True)
class EncodedSet:
    """Images with their latents."""

    images: TrainingSet
    latents: Latents

    def of_classes(self, names: Sequence[str], classes: Sequence[str]) -> EncodedSet:
        """The images of some classes; labels stay those of the generator's label map.

        Args:
            names: The classes to take.
            classes: The label map.
        """
        images, latents = self.images, self.latents
        members = np.flatnonzero(np.isin(images.labels, [list(classes).index(name) for name in names]))
        return EncodedSet(
            TrainingSet(
                [images.ids[index] for index in members],
                images.pixels[members],
                images.labels[members],
                [images.groups[index] for index in members],
            ),
            Latents(latents.means[members], latents.stds[members]),
        )


def encode(images: TrainingSet, base: Base, context: FinetuneContext, *, updates: int, mirror: bool) -> EncodedSet:
    """Encode images once.

    Args:
        images: The images; grey ones are encoded as RGB.
        base: Holds the autoencoder.
        context: Device and progress.
        updates: Updates of the training, for progress.
        mirror: Whether to encode mirrored images too.
    """
    autoencoder = base.autoencoder().to(context.device)
    sides = [False, True] if mirror else [False]
    count = len(images.ids)
    total = len(sides) * count
    means, stds = [], []
    for number, mirrored in enumerate(sides):
        # The empty part gives an empty set its shape.
        parts = [_empty(autoencoder, images)]
        # Batch by batch: as floats, all images at once would take four times the memory of their pixels.
        for start in range(0, count, _ENCODE_BATCH):
            batch = to_images(images.pixels[start : start + _ENCODE_BATCH]).expand(-1, 3, -1, -1).to(context.device)
            with torch.inference_mode():
                mean, std = autoencoder.encode(batch.flip(-1) if mirrored else batch)
            parts.append((mean.cpu(), std.cpu()))
            done = number * count + min(start + _ENCODE_BATCH, count)
            note = f"encoding images, {done} of {total}" if done < total else ""
            context.report(0, updates, "updates", note)
        means.append(torch.cat([mean for mean, _ in parts]))
        stds.append(torch.cat([std for _, std in parts]))
    # Clones: tensors made in inference mode cannot take part in training.
    return EncodedSet(images, Latents(torch.stack(means, 1).clone(), torch.stack(stds, 1).clone()))


def _empty(autoencoder: Autoencoder, images: TrainingSet) -> tuple[Tensor, Tensor]:
    side = images.image_size // autoencoder.factor
    empty = torch.empty(0, autoencoder.channels, side, side)
    return empty, empty


class CaptionedBatches:
    """Random class-balanced batches of latents with noise and caption numbers, interleaved with the prior's.

    All randomness is drawn on the CPU, so batches are the same on every device.

    Args:
        settings: Settings of the training.
        schedule: The base's noise schedule.
        training: The images to train on.
        classes: Number of the generator's classes. Caption numbers below it are theirs, this number is the empty
            caption, and the next is the prior's.
        prior: Latents of the base's own images, [n, channels, side, side], if there are any.
        seed: Seed of all randomness.
    """

    def __init__(
        self,
        settings: StableDiffusionSpec,
        schedule: NoiseSchedule,
        training: EncodedSet,
        *,
        classes: int,
        prior: Tensor | None,
        seed: int,
    ) -> None:
        self._empty_caption, self._prior = classes, prior
        self._prior_weight = settings.dreambooth.prior_weight if settings.dreambooth else 0.0
        self._schedule = schedule
        self._latents = training.latents
        self._size = settings.batch_size
        self._mirror_share = 0.5 if settings.horizontal_flip else 0.0
        # The classes in this training, numbered from 0, and their numbers in the generator.
        self._classes, labels = np.unique(training.images.labels, return_inverse=True)
        self._sampler = ClassBalancedSampler(labels.astype(np.int64), classes=len(self._classes))
        self.random = torch.Generator().manual_seed(seed)
        """Source of the batches' randomness."""

    def draw(self) -> DiffusionBatch:
        """The next batch."""
        size, random = self._size, self.random
        labels, chosen = self._sampler.draw(size, random=random)
        captions = torch.from_numpy(self._classes)[labels]
        mirrored = torch.rand(size, generator=random) < self._mirror_share
        latents = self._latents.augment(chosen, moved=torch.zeros_like(mirrored), mirrored=mirrored, random=random)
        dropped = torch.rand(size, generator=random) < _CAPTION_DROPOUT
        batch = self._noised(latents, captions.masked_fill(dropped, self._empty_caption), weight=1.0)
        if self._prior is None:
            return batch
        prior = self._prior[torch.randint(len(self._prior), (size,), generator=random)]
        captions = torch.full((size,), self._empty_caption + 1)
        # Interleaved, so that processes and parts of a batch hold both in equal shares.
        return batch.interleaved(self._noised(prior, captions, weight=self._prior_weight))

    def _noised(self, latents: Tensor, captions: Tensor, *, weight: float) -> DiffusionBatch:
        times = torch.randint(self._schedule.times, (len(latents),), generator=self.random)
        noise = torch.randn(latents.shape, generator=self.random)
        batch = self._schedule.batch(latents, times=times, noise=noise, labels=captions)
        return replace(batch, weights=batch.weights * weight)
