from __future__ import annotations

import pytest
import torch

from genaug.generation.diffusion.schedulers import build_scheduler, set_steps, signal_left, takes_chance
from genaug.generation.generators.class_conditional.generator import new_config
from genaug.generation.sampling.sampler_settings import SCHEDULERS
from genaug.shared.errors import InvalidArgument

CPU = torch.device("cpu")
STABLE = {
    "num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
    "prediction_type": "epsilon", "steps_offset": 1, "clip_sample": False, "set_alpha_to_one": False,
}  # fmt: skip
COSINE = new_config(classes=["a"], image_size=8, channels=1, base_channels=8).schedule


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [*((one, steps) for one in (STABLE, COSINE) for steps in (1, 2, 5, 50)), (COSINE, 999), (STABLE, 1000)],
    ids=lambda value: str(value) if isinstance(value, int) else value["beta_schedule"],
)
# The coefficients of LMS, which are integrals, take 10 ms a step.
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_walks_any_number_of_steps_to_the_image(name: str, steps: int, schedule: dict) -> None:
    """A network that knows the one image there is leads to it."""
    if name == "LMSDiscreteScheduler":
        steps = min(steps, 100)
    scheduler = build_scheduler(name, schedule, clipped=schedule is COSINE)
    keep = signal_left(schedule)
    image = torch.linspace(-0.9, 0.9, 64).reshape(1, 1, 8, 8)
    chance = {"generator": [torch.Generator().manual_seed(0)]} if takes_chance(scheduler) else {}
    times = set_steps(scheduler, steps, device=CPU)
    assert times
    sample = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)) * scheduler.init_noise_sigma
    for time in times:
        scaled = scheduler.scale_model_input(sample, time)
        # Schedulers of sigmas may ask between two times.
        low, high = int(time), min(int(time) + 1, len(keep) - 1)
        kept = torch.lerp(keep[low], keep[high], float(time) - low)
        noise = (scaled - kept.sqrt() * image) / (1 - kept).sqrt()
        said = noise if schedule["prediction_type"] == "epsilon" else kept.sqrt() * noise - (1 - kept).sqrt() * image
        sample = scheduler.step(said, time, sample, **chance).prev_sample
    assert torch.isfinite(sample).all()
    if steps >= 50:
        assert float((sample - image).abs().max()) < 0.2


def test_no_time_is_visited_twice_by_a_scheduler_of_first_order() -> None:
    for name in ("DPMSolverMultistepScheduler", "DDIMScheduler"):
        scheduler = build_scheduler(name, COSINE)
        for steps in (1, 7, 998, 999, 1000):
            times = [int(one) for one in set_steps(scheduler, steps, device=CPU)]
            assert len(set(times)) == len(times)
            assert times == sorted(times, reverse=True)


def test_schedulers_of_chance_take_it_from_us() -> None:
    """What is allowed draws no noise of its own: an image's pixels are a function of its seed."""
    taking = {name for name in SCHEDULERS if takes_chance(build_scheduler(name, STABLE))}
    assert {"DDPMScheduler", "EulerAncestralDiscreteScheduler"} <= taking


@pytest.mark.parametrize("name", ["", "KDPM2AncestralDiscreteSchedulerX", "UNet2DModel", "../DDIMScheduler"])
def test_another_scheduler_is_refused_by_naming_those_there_are(name: str) -> None:
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
