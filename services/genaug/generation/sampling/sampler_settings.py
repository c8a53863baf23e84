"""The sampler's settings as a request gives them, with defaults for what it leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genaug.generation.artifacts import samples
from genaug.generation.sampling.receipts import Sampler
from genaug.shared.errors import InvalidArgument

SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)
"""Those whose chance, where there is any, comes from generators that we give them: an image's pixels are its own."""

MAX_STEPS = 1000
MAX_GUIDANCE = 100.0
MAX_SIDE = 1024
FROM_THE_START = ("LMSDiscreteScheduler", "PNDMScheduler")
"""Schedulers that count on steps which drawing from an image leaves out."""
# CLIP reads 77 tokens; what is much longer is no prompt.
_LONGEST_PROMPT = 1000

# Of Stable Diffusion: what its users are used to.
_DEFAULTS = {"KIND_STABLE_DIFFUSION": Sampler(steps=25, guidance_scale=7.5)}
_PROFILES = ("PROFILE_FULL", "PROFILE_TURBO")
_PRECISIONS = ("PRECISION_FLOAT32", "PRECISION_BFLOAT16")


def default_sampler(record: Mapping[str, Any]) -> Sampler:
    """How a generator draws when nothing is said."""
    return _DEFAULTS.get(record["spec"]["kind"], Sampler())


def read_sampler(settings: Mapping[str, Any], record: Mapping[str, Any]) -> Sampler | None:
    """The sampler of a request.

    Args:
        settings: The message `SamplerSettings` as JSON; what is 0, empty or left out is the default.
        record: The message `Generator` as JSON.

    Returns:
        None for a generator that does not sample.

    Raises:
        InvalidArgument: reason BAD_SAMPLER or BAD_SCHEDULER; a value is out of range, or not for this kind.
    """
    if not samples(record):
        return None
    default, side = default_sampler(record), int(record["image_size"])
    given = {key: value for key, value in settings.items() if value}
    for key in ("profile", "precision"):
        if str(given.get(key, "")).endswith("_UNSPECIFIED"):
            del given[key]
    sampler = Sampler(
        steps=int(given.get("steps", default.steps)),
        guidance_scale=float(given.get("guidance_scale", default.guidance_scale)),
        scheduler=str(given.get("scheduler", default.scheduler)),
        negative_prompt=str(given.get("negative_prompt", "")),
        image_size=int(given.get("image_size", side)),
        strength=float(given.get("strength", 0.0)),
        profile=str(given.get("profile", default.profile)),
        precision=str(given.get("precision", default.precision)),
    )
    _check(sampler)
    if record["spec"]["kind"] != "KIND_STABLE_DIFFUSION":
        strange = [name for name in ("negative_prompt", "strength") if getattr(sampler, name)]
        if sampler.image_size != side:
            strange.append("image_size")
        if strange:
            raise _fail(strange[0], f"is for stable-diffusion generators; {record['name']} is none")
    return sampler


def check_scheduler(name: str) -> None:
    """Refuse a scheduler that is none of `SCHEDULERS`.

    Raises:
        InvalidArgument: the message names them.
    """
    if name not in SCHEDULERS:
        raise InvalidArgument(f"sampler.scheduler: {name!r} is none of {', '.join(SCHEDULERS)}", reason="BAD_SCHEDULER")


def _check(sampler: Sampler) -> None:
    check_scheduler(sampler.scheduler)
    if not 1 <= sampler.steps <= MAX_STEPS:
        raise _fail("steps", f"{sampler.steps} is not within 1 and {MAX_STEPS}")
    if not 1 <= sampler.guidance_scale <= MAX_GUIDANCE:
        raise _fail("guidance_scale", f"{sampler.guidance_scale} is not within 1 (no guidance) and {MAX_GUIDANCE:g}")
    if not 8 <= sampler.image_size <= MAX_SIDE:
        raise _fail("image_size", f"{sampler.image_size} is not within 8 and {MAX_SIDE}")
    if not 0 <= sampler.strength <= 1:
        raise _fail("strength", f"{sampler.strength} is not within 0 (from noise alone) and 1")
    if sampler.strength and sampler.scheduler in FROM_THE_START:
        raise _fail("strength", f"{sampler.scheduler} cannot start in the middle; take another scheduler")
    if len(sampler.negative_prompt) > _LONGEST_PROMPT:
        raise _fail("negative_prompt", f"is longer than {_LONGEST_PROMPT} characters")
    for field, words in (("profile", _PROFILES), ("precision", _PRECISIONS)):
        if getattr(sampler, field) not in words:
            raise _fail(field, f"{getattr(sampler, field)} is none of {', '.join(words)}")


def _fail(field: str, problem: str) -> InvalidArgument:
    return InvalidArgument(f"sampler.{field}: {problem}", reason="BAD_SAMPLER")
