from __future__ import annotations

import pytest
import torch

from genaug.generation.diffusion.schedulers import build_scheduler, is_stochastic, set_timesteps, signal_left
from genaug.schema.sampling import SCHEDULERS
from genaug.shared.errors import InvalidArgument

CPU = torch.device("cpu")
STABLE = {
    "num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
    "prediction_type": "epsilon", "steps_offset": 1, "clip_sample": False, "set_alpha_to_one": False,
}  # fmt: skip
COSINE = {
    "num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction",
}  # fmt: skip


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [*((schedule, steps) for schedule in (STABLE, COSINE) for steps in (1, 2, 5, 50)), (COSINE, 999), (STABLE, 1000)],
    ids=lambda value: str(value) if isinstance(value, int) else value["beta_schedule"],
)
# The coefficients of LMS, which are integrals, take 10 ms a step.
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_reaches_the_image_in_any_number_of_steps(name: str, steps: int, schedule: dict) -> None:
    """A perfect prediction leads to the one image of the training set."""
    if name == "LMSDiscreteScheduler":
        steps = min(steps, 100)
    scheduler = build_scheduler(name, schedule, clipped=schedule is COSINE)
    keep = signal_left(schedule)
    image = torch.linspace(-0.9, 0.9, 64).reshape(1, 1, 8, 8)
    options = {"generator": [torch.Generator().manual_seed(0)]} if is_stochastic(scheduler) else {}
    times = set_timesteps(scheduler, steps, device=CPU)
    assert times
    sample = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)) * scheduler.init_noise_sigma
    for time in times:
        scaled = scheduler.scale_model_input(sample, time)
        # Schedulers of sigmas may have times between two of the schedule.
        low, high = int(time), min(int(time) + 1, len(keep) - 1)
        kept = torch.lerp(keep[low], keep[high], float(time) - low)
        noise = (scaled - kept.sqrt() * image) / (1 - kept).sqrt()
        velocity = kept.sqrt() * noise - (1 - kept).sqrt() * image
        prediction = noise if schedule["prediction_type"] == "epsilon" else velocity
        sample = scheduler.step(prediction, time, sample, **options).prev_sample
    assert torch.isfinite(sample).all()
    if steps >= 50:
        assert float((sample - image).abs().max()) < 0.2


def test_first_order_schedulers_visit_no_time_twice() -> None:
    for name in ("DPMSolverMultistepScheduler", "DDIMScheduler"):
        scheduler = build_scheduler(name, COSINE)
        for steps in (1, 7, 998, 999, 1000):
            times = [int(time) for time in set_timesteps(scheduler, steps, device=CPU)]
            assert len(set(times)) == len(times)
            assert times == sorted(times, reverse=True)


def test_stochastic_schedulers_take_the_callers_generators() -> None:
    """No scheduler draws noise of its own: an image's pixels are a function of its seed."""
    stochastic = {name for name in SCHEDULERS if is_stochastic(build_scheduler(name, STABLE))}
    assert {"DDPMScheduler", "EulerAncestralDiscreteScheduler"} <= stochastic


@pytest.mark.parametrize("name", ["", "KDPM2AncestralDiscreteSchedulerX", "UNet2DModel", "../DDIMScheduler"])
def test_an_unknown_scheduler_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(InvalidArgument, match="DPMSolverMultistepScheduler") as caught:
        build_scheduler(name, STABLE)
    assert caught.value.reason == "BAD_SCHEDULER"


def test_the_signal_falls_from_all_to_nearly_nothing() -> None:
    for schedule in (STABLE, COSINE):
        keep = signal_left(schedule)
        assert len(keep) == 1000
        assert (keep.diff() < 0).all()
        assert keep[0] > 0.99
        assert keep[-1] < 0.01
