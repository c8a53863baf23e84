"""Training images as a diffusion network is shown them: as they are or moved a little, upright or mirrored, noised."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from genaug.generation.diffusion.schedulers import signal_left
from genaug.generation.generators.class_conditional import generator as class_conditional
from genaug.generation.generators.class_conditional.autoencoder import Autoencoder
from genaug.generation.generators.class_conditional.generator import Config
from genaug.generation.training.loop import Noised

# Share of images that are shown without their class, so that one network learns both halves of guidance.
_CLASS_DROPOUT = 0.1
# Every other image is shown moved a little, and labelled so: a few dozen images are not learnt by heart.
_JITTER_SHARE = 0.5
_JITTER_DEGREES = 5.0
_JITTER_SHIFT = 0.06
_JITTER_SCALE = 0.06
# Moved copies of each image, where each has to be encoded beforehand.
_COPIES = 2


@dataclass(frozen=True)
class TrainingSet:
    """What a generator may see: real training images of its classes."""

    ids: list[str]
    pixels: NDArray[np.uint8]
    """[n, image_size, image_size, channels]"""
    labels: NDArray[np.int64]
    """Index of each image's class."""
    groups: list[str]
    """Whom each shows."""


class Images(Protocol):
    """Where shown images come from."""

    def show(self, chosen: Tensor, *, moved: Tensor, mirrored: Tensor, source: torch.Generator) -> Tensor:
        """Images in the network's shape.

        Args:
            chosen: Which, [n].
            moved: Whether each is moved a little, [n].
            mirrored: Whether each is mirrored, [n].
            source: Of chance.
        """
        ...


class PixelImages:
    """Images in memory, moved anew each time."""

    def __init__(self, config: Config, training: TrainingSet) -> None:
        self._config = config
        self._images = class_conditional.to_images(training.pixels)

    def show(self, chosen: Tensor, *, moved: Tensor, mirrored: Tensor, source: torch.Generator) -> Tensor:
        """See `Images`."""
        images = self._images[chosen]
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        shown = torch.where(moved[:, None, None, None], jitter(images, source=source), images)
        return class_conditional.to_places(self._config, shown)


class LatentImages:
    """Latents, encoded once: of each image upright and, if wanted, mirrored, as it is and moved `_COPIES` times."""

    def __init__(self, latents: Tensor) -> None:
        """Args:
        latents: [n, 1 or 2 (mirrored), 1 + copies, 32, side, side], not normalised.
        """
        self._latents = latents

    def moments(self) -> dict[str, list[float]]:
        """Mean and standard deviation of each channel over the images as they are."""
        std, mean = torch.std_mean(self._latents[:, 0, 0], dim=(0, 2, 3))
        return {"mean": mean.tolist(), "std": std.clamp(min=1e-3).tolist()}

    def settle(self, config: Config) -> LatentImages:
        """Normalised by the moments in `config`, and cut into its patches."""
        normal = class_conditional.normalise(config, self._latents)
        places = class_conditional.to_places(config, normal.flatten(0, 2))
        return LatentImages(places.unflatten(0, self._latents.shape[:3]))

    def show(self, chosen: Tensor, *, moved: Tensor, mirrored: Tensor, source: torch.Generator) -> Tensor:
        """See `Images`."""
        copies = self._latents.shape[2] - 1
        copy = torch.randint(1, copies + 1, (len(chosen),), generator=source) if copies else torch.zeros_like(chosen)
        return self._latents[chosen, mirrored.long(), torch.where(moved, copy, 0)]


def encode(
    training: TrainingSet,
    encoder: Autoencoder,
    *,
    mirror: bool,
    moved: bool,
    seed: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> LatentImages:
    """The latents of a training set.

    Args:
        training: Its images; grey ones are encoded as RGB.
        encoder: The autoencoder.
        mirror: Whether mirrored images are wanted too.
        moved: Whether moved copies are.
        seed: Of how they are moved.
        on_progress: Called as images are encoded: (done, total).
    """
    images = class_conditional.to_images(training.pixels)
    images = images.expand(-1, 3, -1, -1)
    source = torch.Generator().manual_seed(seed)
    sides = [images, images.flip(-1)] if mirror else [images]
    count = 1 + _COPIES * moved
    versions = []
    for number, side in enumerate(sides):
        row = []
        for copy in range(count):
            before = (number * count + copy) * len(images)

            def tell(done: int, *, before: int = before) -> None:
                on_progress(before + done, len(sides) * count * len(images))

            row.append(encoder.means(side if copy == 0 else jitter(side, source=source), on_progress=tell))
        versions.append(row)
    return LatentImages(torch.stack([torch.stack(one, 1) for one in versions], 1))


class Choice:
    """Random images, each class equally often in expectation.

    Args:
        labels: Index of each image's class, [n].
        classes: How many there are; each has an image.
    """

    def __init__(self, labels: NDArray[np.int64], *, classes: int) -> None:
        known = torch.from_numpy(labels)
        of_class = [torch.nonzero(known == index)[:, 0] for index in range(classes)]
        self._counts = torch.tensor([len(one) for one in of_class])
        self._starts = self._counts.cumsum(0) - self._counts
        self._order = torch.cat(of_class)

    def draw(self, size: int, *, source: torch.Generator) -> tuple[Tensor, Tensor]:
        """Labels and indices of `size` images."""
        labels = torch.randint(len(self._counts), (size,), generator=source)
        within = (torch.rand(size, generator=source) * self._counts[labels]).long()
        return labels, self._order[self._starts[labels] + within]


class Batches:
    """Random batches with their noise, classes alike; the same on every device, for they are drawn on the CPU.

    Args:
        config: The network's.
        images: The training images.
        labels: Index of each image's class, [n].
        size: Images per batch.
        mirror: Whether images are also shown mirrored.
        seed: Of chance.
    """

    def __init__(
        self, config: Config, images: Images, labels: NDArray[np.int64], *, size: int, mirror: bool, seed: int
    ) -> None:
        self._config = config
        self._images = images
        self._choice = Choice(labels, classes=len(config.classes))
        self._size = size
        self._mirror = mirror
        self._noising = Noising(config.schedule)
        self.source = torch.Generator().manual_seed(seed)
        """Its state is the batches'."""

    def draw(self) -> Noised:
        """The next batch; of some images the class is withheld."""
        labels, chosen = self._choice.draw(self._size, source=self.source)
        moved = torch.rand(self._size, generator=self.source) < _JITTER_SHARE
        mirrored = torch.rand(self._size, generator=self.source) < (0.5 if self._mirror else 0.0)
        places = self._images.show(chosen, moved=moved, mirrored=mirrored, source=self.source)
        withheld = torch.rand(self._size, generator=self.source) < _CLASS_DROPOUT
        times = torch.randint(self._noising.times, (self._size,), generator=self.source)
        noise = torch.randn(places.shape, generator=self.source)
        shown = (labels + moved * self._config.moved).masked_fill(withheld, self._config.null_class)
        return self._noising.noised(places, times=times, noise=noise, labels=shown)


class Noising:
    """The diffusion of a schedule, and what its network is to predict: noise, velocity or image.

    Args:
        schedule: As diffusers' schedulers name its parts.
        min_snr: Gamma of min-SNR weighting (Hang et al. 2023, arXiv:2303.09556); 0 for none. Without it, errors of an
            image count as those of the velocity that it gives would, by 1 / spread², no more than `_HEAVIEST` (Li & He
            2025, arXiv:2511.13720, do the same with another bound); those of others alike.
    """

    _HEAVIEST = 25.0

    def __init__(self, schedule: Mapping[str, Any], *, min_snr: float = 0.0) -> None:
        self._keep = signal_left(schedule)
        self._prediction = schedule.get("prediction_type", "epsilon")
        self._min_snr = min_snr

    @property
    def times(self) -> int:
        """Moments there are."""
        return len(self._keep)

    def noised(self, places: Tensor, *, times: Tensor, noise: Tensor, labels: Tensor) -> Noised:
        """Images at `times`, with their target: v = signal · noise - spread · image (Salimans & Ho 2022, section 4)."""
        kept = self._keep[times][:, None, None, None]
        signal, spread = kept.sqrt(), (1 - kept).sqrt()
        target = {"epsilon": noise, "sample": places}.get(self._prediction, signal * noise - spread * places)
        return Noised(signal * places + spread * noise, times, labels, target, self._weights(kept))

    def _weights(self, kept: Tensor) -> Tensor:
        if self._min_snr:
            ratio = kept / (1 - kept).clamp(min=1e-8)
            bounded = ratio.clamp(max=self._min_snr)
            # Of the image's error; of the noise's, and the velocity's, by what they are of it.
            return {"sample": bounded, "epsilon": bounded / ratio}.get(self._prediction, bounded / (ratio + 1))
        if self._prediction == "sample":
            return (1 / (1 - kept)).clamp(max=self._HEAVIEST)
        return torch.ones_like(kept)


_TIMES = 4


def question(noising: Noising, images: Images, labels: NDArray[np.int64], *, seed: int) -> Noised | None:
    """Images that are never trained on, at fixed times under fixed noise: the same whenever it is asked.

    Args:
        noising: The diffusion.
        images: The held-out images.
        labels: What the network is told of each, [n].
        seed: Of the noise.

    Returns:
        Each image once in each quarter of the diffusion; None where there is none.
    """
    if not len(labels):
        return None
    source = torch.Generator().manual_seed(seed)
    chosen = torch.arange(len(labels)).repeat_interleave(_TIMES)
    nothing = torch.zeros(len(chosen), dtype=torch.bool)
    places = images.show(chosen, moved=nothing, mirrored=nothing, source=source)
    quarter = torch.arange(_TIMES).repeat(len(labels))
    within = torch.rand(len(chosen), generator=source)
    times = ((quarter + within) / _TIMES * noising.times).long()
    noise = torch.randn(places.shape, generator=source)
    return noising.noised(places, times=times, noise=noise, labels=torch.from_numpy(labels)[chosen])


def jitter(images: Tensor, *, source: torch.Generator) -> Tensor:
    """Turn, scale and shift each image by up to 5 degrees, 6 % and 6 % of its side; the border is repeated.

    Args:
        images: float32 [n, channels, side, side] within ±1; so is the result.
        source: Of chance.
    """
    turn, scale, right, down = torch.rand((4, len(images)), generator=source) * 2 - 1
    turn, scale = turn * math.radians(_JITTER_DEGREES), 1 + scale * _JITTER_SCALE
    cos, sin = scale * turn.cos(), scale * turn.sin()
    # affine_grid counts from -1 to 1 across the image: a share of the side is twice as much there.
    right, down = right * 2 * _JITTER_SHIFT, down * 2 * _JITTER_SHIFT
    where = torch.stack([torch.stack([cos, -sin, right], 1), torch.stack([sin, cos, down], 1)], 1)
    grid = functional.affine_grid(where, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return moved.clamp(-1, 1)
