"""Noise schedules, and diffusers' schedulers over them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import diffusers
import torch
from torch import Tensor

from genaug.schema.sampling import SCHEDULERS
from genaug.shared.errors import InvalidArgument


def build_scheduler(name: str, schedule: Mapping[str, Any], *, clipped: bool = False) -> Any:
    """Return a diffusers scheduler over a noise schedule.

    Args:
        name: One of `SCHEDULERS`.
        schedule: Arguments of diffusers' schedulers, such as `beta_schedule`.
        clipped: Whether a predicted image is clipped to [-1, 1], the range of pixels (Saharia et al. 2022, static
            thresholding); latents have no such range.

    Raises:
        InvalidArgument: reason BAD_SCHEDULER; the name is none of `SCHEDULERS`.
    """
    if name not in SCHEDULERS:
        raise InvalidArgument(f"sampler.scheduler: {name!r} is none of {', '.join(SCHEDULERS)}", reason="BAD_SCHEDULER")
    kind = getattr(diffusers, name)
    options: dict[str, Any] = {"clip_sample": clipped, "thresholding": clipped, "sample_max_value": 1.0}
    # PNDM's Runge-Kutta steps need at least four times; Stable Diffusion's own settings skip them.
    options["skip_prk_steps"] = True
    if schedule.get("beta_schedule") == "squaredcos_cap_v2":
        # The cosine schedule is singular at its end: cut at log-SNR/2 = -5.1, as the solver's authors' code does.
        options["lambda_min_clipped"] = -5.1
    # Each scheduler takes the arguments it knows; diffusers warns of others.
    parameters = inspect.signature(kind.__init__).parameters
    return kind(**{key: value for key, value in {**schedule, **options}.items() if key in parameters})


def set_timesteps(scheduler: Any, steps: int, *, device: torch.device) -> list[Tensor]:
    """Spread `steps` over the schedule and return its times.

    No time occurs twice or lies beyond the schedule: with nearly as many steps as times, diffusers' rounding and shifts
    produce such times, and solvers divide by 0.
    """
    # Second-order schedulers visit each time twice on purpose.
    first_order = scheduler.order == 1
    most = int(scheduler.config.num_train_timesteps) - first_order
    scheduler.set_timesteps(min(steps, most), device=device)
    spread = scheduler.timesteps.tolist()
    times = list(dict.fromkeys(spread))
    accepts_times = "timesteps" in inspect.signature(scheduler.set_timesteps).parameters
    if first_order and len(times) < len(spread) and accepts_times:
        scheduler.set_timesteps(timesteps=times, device=device)
    return list(scheduler.timesteps)


def is_stochastic(scheduler: Any) -> bool:
    """Whether a step may add noise, drawn from torch generators that the caller passes."""
    return "generator" in inspect.signature(scheduler.step).parameters


def signal_left(schedule: Mapping[str, Any]) -> Tensor:
    """Share of an image's variance left at each time of a schedule: alphas_cumprod, [times]."""
    return torch.as_tensor(build_scheduler("DDPMScheduler", schedule).alphas_cumprod)
