"""Training images as a base is shown them: as latents, each with the number of its caption, beside the prior's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genaug.generation.generators.class_conditional.autoencoder import Autoencoder
from genaug.generation.generators.class_conditional.generator import to_images
from genaug.generation.generators.stable_diffusion.base_models import Base
from genaug.generation.training.diffusion_data import Choice, Noising, TrainingSet
from genaug.generation.training.finetune_context import Place
from genaug.generation.training.loop import Noised

# Share of images that are shown without their caption, so that one network learns both halves of guidance.
_CAPTION_DROPOUT = 0.1
# Images encoded at once.
_PASS = 8

Spec = Mapping[str, Any]


@dataclass(frozen=True)
class Latents:
    """Latents of images, upright and, where that is wanted, mirrored: what is drawn from them differs each time."""

    means: Tensor
    """[n, 1 or 2, channels, side, side]"""
    stds: Tensor

    def show(self, chosen: Tensor, *, moved: Tensor, mirrored: Tensor, source: torch.Generator) -> Tensor:
        """See `genaug.generation.training.diffusion_data.Images`; nothing is moved."""
        mean, std = self.means[chosen, mirrored.long()], self.stds[chosen, mirrored.long()]
        return mean + std * torch.randn(mean.shape, generator=source)


@dataclass(frozen=True)
class Shown:
    """Images with their latents."""

    images: TrainingSet
    latents: Latents


def encode(training: TrainingSet, base: Base, place: Place, spec: Spec, mirror: bool) -> Latents:
    """The latents of images, encoded once.

    Args:
        training: The images; grey ones are encoded as RGB.
        base: Whose autoencoder.
        place: Whose device, and who is told of progress.
        spec: The GeneratorSpec.
        mirror: Whether mirrored images may be wanted too.
    """
    autoencoder = base.autoencoder().to(place.device)
    sides = [False, True] if mirror and spec["horizontal_flip"] else [False]
    total, shape = len(sides) * len(training.ids), _latent_shape(autoencoder, spec)
    means, stds = [], []
    for number, mirrored in enumerate(sides):
        found = []
        # As floats, all of them at once would take four times the memory of their pixels.
        for start in range(0, len(training.ids), _PASS):
            images = to_images(training.pixels[start : start + _PASS]).expand(-1, 3, -1, -1).to(place.device)
            with torch.inference_mode():
                found.append([one.cpu() for one in autoencoder.encode(images.flip(-1) if mirrored else images)])
            done = number * len(training.ids) + min(start + _PASS, len(training.ids))
            note = f"encoding images, {done} of {total}" if done < total else ""
            place.report(0, spec["train_steps"], "updates", note)
        means.append(torch.cat([one[0] for one in found]) if found else torch.empty(0, *shape))
        stds.append(torch.cat([one[1] for one in found]) if found else torch.empty(0, *shape))
    # Clones: what inference made cannot be trained on.
    return Latents(torch.stack(means, 1).clone(), torch.stack(stds, 1).clone())


def _latent_shape(autoencoder: Autoencoder, spec: Spec) -> tuple[int, int, int]:
    side = spec["image_size"] // autoencoder.factor
    return autoencoder.channels, side, side


def of_classes(shown: Shown, of: Sequence[str], classes: Sequence[str]) -> Shown:
    """The images of some classes; their labels stay the generator's.

    Args:
        shown: Images of all classes.
        of: The classes to keep.
        classes: The generator's, in the order of its label map.
    """
    labels = [list(classes).index(name) for name in of]
    mine = np.flatnonzero(np.isin(shown.images.labels, labels))
    images = shown.images
    return Shown(
        TrainingSet(
            [images.ids[index] for index in mine],
            images.pixels[mine],
            images.labels[mine],
            [images.groups[index] for index in mine],
        ),
        Latents(shown.latents.means[mine], shown.latents.stds[mine]),
    )


class CaptionedBatches:
    """Random batches of latents with their noise and captions, classes alike; beside them, the prior's.

    All chance is drawn on the CPU: batches are the same on every device.

    Args:
        spec: The GeneratorSpec.
        noising: The base's diffusion.
        shown: The images to train on.
        classes: Of the generator: captions below it are theirs, it itself is none, the next one is the prior's.
        prior: Latents of the base's own images, [n, channels, side, side], where there are some.
        seed: Of chance.
    """

    def __init__(
        self, spec: Spec, noising: Noising, shown: Shown, *, classes: int, prior: Tensor | None, seed: int
    ) -> None:
        self._spec = spec
        self._nothing, self._prior = classes, prior
        self._noising = noising
        self._shown = shown
        self._size = spec["batch_size"]
        self._mirror = 0.5 if spec["horizontal_flip"] else 0.0
        # Classes that are there, numbered from 0; and what each is in the generator.
        self._classes, numbers = np.unique(shown.images.labels, return_inverse=True)
        self._choice = Choice(numbers.astype(np.int64), classes=len(self._classes))
        self.source = torch.Generator().manual_seed(seed)
        """Its state is the batches'."""

    def draw(self) -> Noised:
        """The next batch."""
        size, source = self._size, self.source
        labels, chosen = self._choice.draw(size, source=source)
        captions = torch.from_numpy(self._classes)[labels]
        mirrored = torch.rand(size, generator=source) < self._mirror
        latents = self._shown.latents.show(chosen, moved=torch.zeros_like(mirrored), mirrored=mirrored, source=source)
        withheld = torch.rand(size, generator=source) < _CAPTION_DROPOUT
        batch = self._noised(latents, captions.masked_fill(withheld, self._nothing), weight=1.0)
        if self._prior is None:
            return batch
        known = self._prior[torch.randint(len(self._prior), (size,), generator=source)]
        labels = torch.full((size,), self._nothing + 1)
        beside = self._noised(known, labels, weight=self._spec["dreambooth"]["prior_weight"])
        # In turn, so that processes and parts share both evenly.
        return batch.between(beside)

    def _noised(self, latents: Tensor, captions: Tensor, *, weight: float) -> Noised:
        times = torch.randint(self._noising.times, (len(latents),), generator=self.source)
        noise = torch.randn(latents.shape, generator=self.source)
        found = self._noising.noised(latents, times=times, noise=noise, labels=captions)
        return replace(found, weights=found.weights * weight)
