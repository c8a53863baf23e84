"""Denoising: images that started together go step by step; the network sees rows of many of them in one shape."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor

from genaug.generation.diffusion.schedulers import build_scheduler, set_steps, takes_chance
from genaug.generation.sampling.receipts import Drawn, Sampler, Wanted
from genaug.shared.digests import seed_of
from genaug.vision.images.pixels import Pixels


@dataclass(frozen=True)
class Rows:
    """What a network is asked at once: row by row an image at its time, and what it is told."""

    samples: Tensor
    """[n, channels, side, side]"""
    times: Tensor
    """[n]"""
    conditions: Tensor
    """[n, …]: labels, or captions' embeddings."""


@dataclass(frozen=True)
class Start:
    """Images before their first step."""

    noise: Tensor
    """Standard normal, [n, channels, side, side]."""
    conditions: Tensor
    """[n, …]"""
    without: Tensor
    """What the network is told for the other half of guidance, [n, …]."""
    images: Tensor | None = None
    """What drawing starts from where it does not start from noise alone, [n, channels, side, side]."""
    parents: tuple[tuple[str, ...], ...] = ()
    """Ids of the real images behind each."""


class Denoiser(Protocol):
    """A diffusion generator, as drawing sees it."""

    name: str
    """ "generators/{digest}"."""
    classes: tuple[str, ...]
    bucket: int
    """Rows that the network is always asked at once; the shape on which decoded pixels may depend."""
    device: torch.device
    schedule: dict[str, object]
    """The noise schedule, as diffusers' schedulers name its parts."""
    clipped: bool
    """Whether what is drawn lies within ±1."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it holds for itself."""

    def bucket_at(self, image_size: int) -> int:
        """The bucket where images of another size are asked for; 0 for its own."""

    def check(self, sampler: Sampler) -> None:
        """Refuse settings that it cannot draw with.

        Raises:
            InvalidArgument: reason BAD_SAMPLER.
        """

    def variant(self, class_name: str, sampler: Sampler) -> Hashable:
        """What has to be in place to draw a class: images of one variant can share a network's rows."""

    def begin(self, wanted: Sequence[Wanted], sampler: Sampler) -> Start:
        """Put the variant in place, and make ready to draw. All of `wanted` are of one variant."""

    def predict(self, rows: Rows, sampler: Sampler) -> Tensor:
        """What the network predicts of `bucket` rows of the variant in place, float32."""

    def pixels(self, samples: Tensor, sampler: Sampler) -> list[Pixels]:
        """Finished images, [n, channels, side, side], as uint8 [side, side, channels] each."""


class Cohort:
    """Images that started together, by the same settings: they share a scheduler and its time.

    Args:
        generator: What draws them.
        wanted: One or more images of one variant.
        sampler: How.
    """

    def __init__(self, generator: Denoiser, wanted: Sequence[Wanted], sampler: Sampler) -> None:
        self.wanted = list(wanted)
        self.sampler = sampler
        self._generator = generator
        start = generator.begin(wanted, sampler)
        self._parents = start.parents or ((),) * len(self.wanted)
        self._conditions, self._without = start.conditions, start.without
        self._scheduler = build_scheduler(sampler.scheduler, generator.schedule, clipped=generator.clipped)
        self._times = set_steps(self._scheduler, sampler.steps, device=generator.device)
        if start.images is None:
            self._sample = start.noise * self._scheduler.init_noise_sigma
        else:
            # As diffusers' StableDiffusionImg2ImgPipeline counts; at least one step.
            order = self._scheduler.order
            taken = max(1, min(round(sampler.steps * sampler.strength), sampler.steps))
            begin = min((sampler.steps - taken) * order, len(self._times) - 1)
            self._times = self._times[begin:]
            if hasattr(self._scheduler, "set_begin_index"):
                self._scheduler.set_begin_index(begin)
            first = self._times[0].expand(len(self.wanted)).to(generator.device)
            self._sample = self._scheduler.add_noise(start.images, start.noise, first)
        # A step's chance is each image's own.
        self._chances = (
            {"generator": [torch.Generator().manual_seed(seed_of("steps/1", *_facts(one))) for one in self.wanted]}
            if takes_chance(self._scheduler)
            else {}
        )
        self.position = 0
        """Steps that are done."""

    def __len__(self) -> int:
        return len(self.wanted)

    @property
    def steps(self) -> int:
        """Steps in all."""
        return len(self._times)

    @property
    def finished(self) -> bool:
        """Whether no step is left."""
        return self.position == len(self._times)

    def rows(self) -> Rows:
        """What the network is to be asked for the next step: of each image, and once more without its class."""
        time = self._times[self.position]
        sample: Tensor = self._scheduler.scale_model_input(self._sample, time)
        conditions = self._conditions
        if self._guided():
            sample, conditions = torch.cat([sample, sample]), torch.cat([conditions, self._without])
        return Rows(sample, time.to(self._generator.device).expand(len(sample)), conditions)

    def advance(self, prediction: Tensor) -> None:
        """Take a step by what was predicted of `rows()`: guidance (Ho & Salimans 2022), then the solver."""
        if self._guided():
            with_class, without = prediction.chunk(2)
            prediction = without + self.sampler.guidance_scale * (with_class - without)
        time = self._times[self.position]
        self._sample = self._scheduler.step(prediction, time, self._sample, **self._chances).prev_sample
        self.position += 1

    @property
    def samples(self) -> Tensor:
        """The images as they are now, [n, channels, side, side]."""
        return cast(Tensor, self._sample)

    def drawn(self, bucket: int) -> list[Drawn]:
        """The finished images."""
        finite = torch.isfinite(self._sample).flatten(1).all(1).tolist()
        pixels = self._generator.pixels(torch.nan_to_num(self._sample), self.sampler)
        parts = zip(self.wanted, pixels, self._parents, finite, strict=True)
        return [Drawn(one, image, bucket, parents, whole) for one, image, parents, whole in parts]

    def _guided(self) -> bool:
        return self.sampler.guided(self.position, of=len(self._times))


def step(generator: Denoiser, cohorts: Sequence[Cohort], *, bucket: int) -> None:
    """Take one step with each of `cohorts`, which are of the variant in place.

    The network is asked `bucket` rows at a time, the last ones filled up: what it says of a row does not depend on
    whose the others are.
    """
    asked = [cohort.rows() for cohort in cohorts]
    samples = torch.cat([rows.samples for rows in asked])
    times = torch.cat([rows.times for rows in asked])
    conditions = torch.cat([rows.conditions for rows in asked])
    missing = -len(samples) % bucket
    if missing:
        samples, times, conditions = (_filled(one, missing) for one in (samples, times, conditions))
    parts = zip(samples.split(bucket), times.split(bucket), conditions.split(bucket), strict=True)
    said = torch.cat([generator.predict(Rows(*part), cohorts[0].sampler) for part in parts])
    sizes = [len(rows.samples) for rows in asked]
    for cohort, prediction in zip(cohorts, said[: sum(sizes)].split(sizes), strict=True):
        cohort.advance(prediction)


def draw_lot(
    generator: Denoiser, wanted: Sequence[Wanted], sampler: Sampler, *, bucket: int, active: Callable[[], bool]
) -> list[Drawn] | None:
    """Draw images of one variant by themselves; None when `active()` turned false between two steps."""
    with torch.inference_mode():
        cohort = Cohort(generator, wanted, sampler)
        while not cohort.finished:
            if not active():
                return None
            step(generator, [cohort], bucket=bucket)
        return cohort.drawn(bucket)


def _filled(tensor: Tensor, missing: int) -> Tensor:
    return torch.cat([tensor, tensor[-1:].expand(missing, *tensor.shape[1:])])


def _facts(wanted: Wanted) -> tuple[object, ...]:
    return wanted.seed, wanted.class_name, wanted.index
