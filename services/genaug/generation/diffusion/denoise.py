"""Batched denoising: images that started together advance step by step; cohorts share the network's batches."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor

from genaug.generation.diffusion.schedulers import build_scheduler, is_stochastic, set_timesteps
from genaug.generation.sampling.receipts import DrawnImage, ImageRequest
from genaug.schema.sampling import Sampler
from genaug.shared.digests import seed_of
from genaug.vision.images.pixels import Pixels


@dataclass(frozen=True)
class Rows:
    """Input batch of the network."""

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
    """Conditions of guidance's unconditional half, [n, …]."""
    images: Tensor | None = None
    """Images to start from, partly noised, [n, channels, side, side]; None to start from noise alone."""
    parents: tuple[tuple[str, ...], ...] = ()
    """Ids of the real images behind each."""


class Denoiser(Protocol):
    """A diffusion generator, as sampling uses it."""

    name: str
    """ "generators/{digest}"."""
    classes: tuple[str, ...]
    bucket: int
    """Rows of every batch of the network; decoded pixels may depend on this shape."""
    device: torch.device
    schedule: dict[str, object]
    """The noise schedule: arguments of diffusers' schedulers."""
    clipped: bool
    """Whether samples are pixels, within ±1."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it holds for itself."""

    def bucket_at(self, image_size: int) -> int:
        """Bucket for images of this size, pixels; 0 for the generator's own size."""

    def check(self, sampler: Sampler) -> None:
        """Refuse settings that this generator cannot draw with.

        Raises:
            InvalidArgument: reason BAD_SAMPLER.
        """

    def variant(self, class_name: str, sampler: Sampler) -> Hashable:
        """Key of the weights and shapes that draw a class: images of one variant can share a batch."""

    def begin(self, requests: Sequence[ImageRequest], sampler: Sampler) -> Start:
        """Load the variant and return the images' start. All `requests` are of one variant."""

    def predict(self, rows: Rows, sampler: Sampler) -> Tensor:
        """The network's prediction for `bucket` rows of the loaded variant, float32."""

    def pixels(self, samples: Tensor, sampler: Sampler) -> list[Pixels]:
        """Finished samples, [n, channels, side, side], as uint8 [side, side, channels] each."""


class Cohort:
    """Images that started together with the same settings: they share a scheduler and its time.

    Args:
        generator: The generator.
        requests: One or more images of one variant.
        sampler: Sampler settings.
    """

    def __init__(self, generator: Denoiser, requests: Sequence[ImageRequest], sampler: Sampler) -> None:
        self.requests = list(requests)
        self.sampler = sampler
        self._generator = generator
        start = generator.begin(requests, sampler)
        self._parents = start.parents or ((),) * len(self.requests)
        self._conditions, self._without = start.conditions, start.without
        self._scheduler = build_scheduler(sampler.scheduler, generator.schedule, clipped=generator.clipped)
        self._times = set_timesteps(self._scheduler, sampler.steps, device=generator.device)
        if start.images is None:
            self._sample = start.noise * self._scheduler.init_noise_sigma
        else:
            self._sample = self._noised(start.images, start.noise)
        # One torch generator per image: its noise must not depend on the other images of the cohort.
        self._step_options = (
            {"generator": [_step_generator(request) for request in self.requests]}
            if is_stochastic(self._scheduler)
            else {}
        )
        self.position = 0
        """Steps done."""

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def steps(self) -> int:
        """Steps in all."""
        return len(self._times)

    @property
    def finished(self) -> bool:
        """Whether no step is left."""
        return self.position == len(self._times)

    def rows(self) -> Rows:
        """Input of the next step: each image, and if guided, each once more without its class."""
        time = self._times[self.position]
        sample: Tensor = self._scheduler.scale_model_input(self._sample, time)
        conditions = self._conditions
        if self._is_guided():
            sample, conditions = torch.cat([sample, sample]), torch.cat([conditions, self._without])
        return Rows(sample, time.to(self._generator.device).expand(len(sample)), conditions)

    def advance(self, prediction: Tensor) -> None:
        """Take a step with the prediction for `rows()`: guidance (Ho & Salimans 2022), then the solver."""
        if self._is_guided():
            conditional, unconditional = prediction.chunk(2)
            prediction = unconditional + self.sampler.guidance_scale * (conditional - unconditional)
        time = self._times[self.position]
        self._sample = self._scheduler.step(prediction, time, self._sample, **self._step_options).prev_sample
        self.position += 1

    @property
    def samples(self) -> Tensor:
        """Current samples, [n, channels, side, side]."""
        return cast(Tensor, self._sample)

    def drawn(self, bucket: int) -> list[DrawnImage]:
        """The finished images."""
        finite = torch.isfinite(self._sample).flatten(1).all(1).tolist()
        pixels = self._generator.pixels(torch.nan_to_num(self._sample), self.sampler)
        parts = zip(self.requests, pixels, self._parents, finite, strict=True)
        return [DrawnImage(request, image, bucket, parents, whole) for request, image, parents, whole in parts]

    def _noised(self, images: Tensor, noise: Tensor) -> Tensor:
        """Drop the steps before `strength`, and noise the images up to the first one left.

        Counted as in diffusers' StableDiffusionImg2ImgPipeline, but at least one step is taken.
        """
        steps, order = self.sampler.steps, self._scheduler.order
        taken = max(1, min(round(steps * self.sampler.strength), steps))
        begin = min((steps - taken) * order, len(self._times) - 1)
        self._times = self._times[begin:]
        if hasattr(self._scheduler, "set_begin_index"):
            self._scheduler.set_begin_index(begin)
        first = self._times[0].expand(len(images)).to(self._generator.device)
        return cast(Tensor, self._scheduler.add_noise(images, noise, first))

    def _is_guided(self) -> bool:
        return self.sampler.is_guided(self.position, of=len(self._times))


def step(generator: Denoiser, cohorts: Sequence[Cohort], *, bucket: int) -> None:
    """Take one step with each of `cohorts`, which are of the loaded variant.

    The network always sees batches of exactly `bucket` rows, the last one padded: kernels differ between batch shapes,
    and in one shape a row's prediction does not depend on the other rows.
    """
    inputs = [cohort.rows() for cohort in cohorts]
    samples = torch.cat([rows.samples for rows in inputs])
    times = torch.cat([rows.times for rows in inputs])
    conditions = torch.cat([rows.conditions for rows in inputs])
    missing = -len(samples) % bucket
    if missing:
        samples, times, conditions = (_padded(tensor, missing) for tensor in (samples, times, conditions))
    batches = zip(samples.split(bucket), times.split(bucket), conditions.split(bucket), strict=True)
    predictions = torch.cat([generator.predict(Rows(*batch), cohorts[0].sampler) for batch in batches])
    sizes = [len(rows.samples) for rows in inputs]
    for cohort, prediction in zip(cohorts, predictions[: sum(sizes)].split(sizes), strict=True):
        cohort.advance(prediction)


def draw_batch(
    generator: Denoiser,
    requests: Sequence[ImageRequest],
    sampler: Sampler,
    *,
    bucket: int,
    is_active: Callable[[], bool],
) -> list[DrawnImage] | None:
    """Draw images of one variant by themselves; None if `is_active()` turned False between two steps."""
    with torch.inference_mode():
        cohort = Cohort(generator, requests, sampler)
        while not cohort.finished:
            if not is_active():
                return None
            step(generator, [cohort], bucket=bucket)
        return cohort.drawn(bucket)


def _padded(tensor: Tensor, missing: int) -> Tensor:
    return torch.cat([tensor, tensor[-1:].expand(missing, *tensor.shape[1:])])


def _step_generator(request: ImageRequest) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of("steps/1", request.seed, request.class_name, request.index))
