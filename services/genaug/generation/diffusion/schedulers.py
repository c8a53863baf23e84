"""Noise schedules, and the schedulers of diffusers that may walk them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import diffusers
import torch
from torch import Tensor

from genaug.generation.sampling.sampler_settings import check_scheduler


def build_scheduler(name: str, schedule: Mapping[str, Any], *, clipped: bool = False) -> Any:
    """A scheduler of `SCHEDULERS` over a noise schedule.

    Args:
        name: By diffusers' name.
        schedule: As diffusers names its parts.
        clipped: Whether a predicted image is clipped to [-1, 1], the range of pixels (Saharia et al. 2022, static
            thresholding); latents have no such range.
    """
    check_scheduler(name)
    kind = getattr(diffusers, name)
    options: dict[str, Any] = {"clip_sample": clipped, "thresholding": clipped, "sample_max_value": 1.0}
    # PNDM's Runge-Kutta steps need four times; Stable Diffusion's own settings skip them.
    options["skip_prk_steps"] = True
    if schedule.get("beta_schedule") == "squaredcos_cap_v2":
        # The cosine schedule is cut at log-SNR/2 = -5.1, as the solver's authors' code does, where it is singular.
        options["lambda_min_clipped"] = -5.1
    known = inspect.signature(kind.__init__).parameters
    given = {key: value for key, value in {**schedule, **options}.items() if key in known}
    return kind(**given)


def set_steps(scheduler: Any, steps: int, *, device: torch.device) -> list[Tensor]:
    """Spread `steps` over the schedule and return its times.

    No time comes twice, and none lies beyond the schedule: where there are nearly as many steps as times, diffusers
    rounds and shifts so, and solvers divide by 0.
    """
    # Schedulers of second order visit a time twice on purpose.
    once = scheduler.order == 1
    most = int(scheduler.config.num_train_timesteps) - once
    scheduler.set_timesteps(min(steps, most), device=device)
    found = scheduler.timesteps.tolist()
    times = list(dict.fromkeys(found))
    if once and len(times) < len(found) and "timesteps" in inspect.signature(scheduler.set_timesteps).parameters:
        scheduler.set_timesteps(timesteps=times, device=device)
    return list(scheduler.timesteps)


def takes_chance(scheduler: Any) -> bool:
    """Whether a step of it may add noise, from generators that it is given."""
    return "generator" in inspect.signature(scheduler.step).parameters


def signal_left(schedule: Mapping[str, Any]) -> Tensor:
    """Share of an image's variance that is left at each time of a schedule: alphas_cumprod, [times]."""
    return torch.as_tensor(build_scheduler("DDPMScheduler", schedule).alphas_cumprod)
