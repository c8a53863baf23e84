"""Sampler settings, and the schedulers that may be named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from genaug.schema.common import MAX_IMAGE_SIDE, Precision
from genaug.schema.model import Model, Within


class Profile(StrEnum):
    """Trade of guidance for time."""

    FULL = "PROFILE_FULL"
    TURBO = "PROFILE_TURBO"


@dataclass(frozen=True)
class Scheduler:
    """Properties of a diffusers scheduler."""

    starts_midway: bool = True
    """Whether sampling may start from a partly noised image."""


# Schedulers whose randomness, if any, comes from generators that the caller passes: an image's pixels depend on its own
# seed alone.
SCHEDULERS: dict[str, Scheduler] = {
    "DDIMScheduler": Scheduler(),
    "DDPMScheduler": Scheduler(),
    "DEISMultistepScheduler": Scheduler(),
    "DPMSolverMultistepScheduler": Scheduler(),
    "DPMSolverSinglestepScheduler": Scheduler(),
    "EulerAncestralDiscreteScheduler": Scheduler(),
    "EulerDiscreteScheduler": Scheduler(),
    "HeunDiscreteScheduler": Scheduler(),
    "KDPM2DiscreteScheduler": Scheduler(),
    "LMSDiscreteScheduler": Scheduler(starts_midway=False),
    "PNDMScheduler": Scheduler(starts_midway=False),
    "UniPCMultistepScheduler": Scheduler(),
}

MAX_PROMPT = 1000
"""Characters of a caption or negative prompt; CLIP reads 77 tokens."""

Steps = Annotated[int, Within(1, 1000)]
GuidanceScale = Annotated[float, Within(1, 100)]
Strength = Annotated[float, Within(0, 1)]


class Sampler(Model):
    """Complete sampler settings of a diffusion draw; the message SamplerSettings."""

    steps: Steps = 20
    guidance_scale: GuidanceScale = 1.5
    scheduler: str = "DPMSolverMultistepScheduler"
    negative_prompt: str = ""
    image_size: Annotated[int, Within(0, MAX_IMAGE_SIDE)] = 0
    strength: Strength = 0.0
    profile: Profile = Profile.FULL
    precision: Precision = Precision.FLOAT32

    def is_guided(self, step: int, *, of: int) -> bool:
        """Whether a step, counted from 0, uses guidance; TURBO guides the first half (arXiv:2404.07724)."""
        early = self.profile != Profile.TURBO or 2 * step < of
        return self.guidance_scale != 1 and early

    def problems(self) -> Iterator[tuple[str, str]]:
        """Fields that contradict each other or name nothing: (field, problem)."""
        scheduler = SCHEDULERS.get(self.scheduler)
        if scheduler is None:
            yield "scheduler", f"{self.scheduler!r} is none of {', '.join(SCHEDULERS)}"
        elif self.strength and not scheduler.starts_midway:
            yield "strength", f"{self.scheduler} cannot start in the middle; take another scheduler"
        if len(self.negative_prompt) > MAX_PROMPT:
            yield "negative_prompt", f"is longer than {MAX_PROMPT} characters"
        if 0 < self.image_size < 8:
            yield "image_size", f"{self.image_size} is not within 8 and {MAX_IMAGE_SIDE}"
        if self.precision == Precision.INT8:
            yield "precision", "8 bits are for labeling; there are FLOAT32 and BFLOAT16"
