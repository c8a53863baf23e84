from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genaug.generation.diffusion.schedulers import build_scheduler, signal_left
from genaug.generation.generators.class_conditional.data import Batches, PixelImages
from genaug.generation.generators.class_conditional.generator import Config, new_config
from genaug.generation.generators.pixels import to_images
from genaug.generation.training.diffusion_data import (
    ClassBalancedSampler,
    NoiseSchedule,
    TrainingSet,
    jitter,
    validation_batch,
)
from genaug.schema.generators import ClassConditionalSpec, Prediction


def config(classes: Sequence[str] = ("a",), **settings: Any) -> Config:
    """A configuration for grey images of 8 pixels."""
    spec = ClassConditionalSpec(base_channels=8, **settings)
    return new_config(spec, classes=classes, image_size=8, channels=1)


def test_jitter_moves_an_image_by_a_little() -> None:
    images = torch.full((64, 1, 32, 32), -1.0)
    images[:, :, 14:18, 14:18] = 1
    moved = jitter(images, random=torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert float(moved.abs().max()) <= 1
    bright = (moved[:, 0] + 1) / 2
    places = torch.arange(32.0)
    centres = (bright.sum(1) * places).sum(1) / bright.sum((1, 2))
    assert 1 < float((centres - 15.5).abs().max()) < 0.06 * 32 + 0.5


def test_batches_are_balanced_label_jittered_images_and_drop_some_classes() -> None:
    """99 images of one class beside 1 of the other: each is shown as often."""
    made = config(["a", "b"])
    pixels = np.zeros((100, 8, 8, 1), np.uint8)
    pixels[0] = 255
    training = TrainingSet([""] * 100, pixels, np.array([1] + [0] * 99), [""] * 100)
    images = PixelImages(made, training)
    one = Batches(made, images, training.labels, size=4000, mirror=False, seed=0).draw()
    noisy, times, labels, velocity = one.noisy, one.times, one.labels, one.target
    shares = torch.bincount(labels, minlength=5) / 4000
    assert shares[:4].tolist() == pytest.approx([0.225] * 4, abs=0.03)
    assert float(shares[4]) == pytest.approx(0.1, abs=0.02)
    keep = signal_left(made.schedule)[times][:, None, None, None]
    images = keep.sqrt() * noisy - (1 - keep).sqrt() * velocity
    known = labels < 4
    assert torch.allclose(images[known].mean((1, 2, 3)), (labels[known] % 2) * 2.0 - 1, atol=0.01)


def ramp(count: int = 4) -> TrainingSet:
    """Images that grow brighter to the right."""
    pixels = np.tile(np.linspace(0, 255, 8).astype(np.uint8)[None, None, :, None], (count, 8, 1, 1))
    return TrainingSet([""] * count, pixels, np.zeros(count, np.int64), [""] * count)


@pytest.mark.parametrize("mirror", [False, True])
def test_images_are_mirrored_only_where_that_is_valid(mirror: bool) -> None:
    made = config(patch_size=1)
    training = ramp()
    batches = Batches(made, PixelImages(made, training), training.labels, size=400, mirror=mirror, seed=0)
    one = batches.draw()
    keep = signal_left(made.schedule)[one.times][:, None, None, None]
    images = keep.sqrt() * one.noisy - (1 - keep).sqrt() * one.target
    rising = (images[..., -1].mean((1, 2)) > images[..., 0].mean((1, 2))).float().mean()
    assert float(rising) == pytest.approx(0.5 if mirror else 1.0, abs=0.1 if mirror else 0)


@pytest.mark.parametrize("prediction", list(Prediction))
def test_the_target_is_what_the_solver_takes_it_for(prediction: Prediction) -> None:
    """From a noised image and its target, diffusers' own conversion must give back the image."""
    made = config(patch_size=1, prediction=prediction)
    training = ramp(1)
    one = validation_batch(NoiseSchedule(made.schedule), PixelImages(made, training), training.labels, seed=0)
    assert one is not None
    scheduler = build_scheduler("DPMSolverMultistepScheduler", made.schedule)
    scheduler.set_timesteps(1000)
    for noisy, time, target in zip(one.noisy, one.times, one.target, strict=True):
        # Times below where the schedule is cut.
        if time > 900:
            continue
        scheduler._step_index = int((scheduler.timesteps == time).nonzero()[0])
        image = scheduler.convert_model_output(target[None], sample=noisy[None])
        torch.testing.assert_close(image, to_images(training.pixels), atol=0.02, rtol=0)


def test_the_validation_batch_is_always_the_same() -> None:
    made = config()
    training = ramp(3)
    images = PixelImages(made, training)
    first, again = (validation_batch(NoiseSchedule(made.schedule), images, training.labels, seed=5) for _ in range(2))
    assert first is not None
    assert again is not None
    assert [len(one.times) for one in first.split(5)] == [5, 5, 2]
    for one, other in zip(first.split(5), again.split(5), strict=True):
        assert torch.equal(one.noisy, other.noisy)
        assert torch.equal(one.times, other.times)
    assert torch.bincount(first.times // 250).tolist() == [3, 3, 3, 3]


def test_without_held_out_images_there_is_no_validation_batch() -> None:
    made = config()
    training = ramp(0)
    assert validation_batch(NoiseSchedule(made.schedule), PixelImages(made, training), training.labels, seed=5) is None


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(
    "schedule",
    [
        {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"},
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    ],
)
def test_noise_and_velocity_are_bit_equal_to_their_formulas(prediction: str, schedule: dict[str, Any]) -> None:
    """Weights depend on every bit. Velocity: signal · noise - spread · image (Salimans & Ho 2022, section 4)."""
    images, noise = torch.randn((2, 64, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    times = torch.linspace(0, 999, 64).long()
    alphas = signal_left(schedule)[times][:, None, None, None]
    signal, spread = alphas.sqrt(), (1 - alphas).sqrt()
    target = {"epsilon": noise, "sample": images}.get(prediction, signal * noise - spread * images)
    batch = NoiseSchedule({**schedule, "prediction_type": prediction}).batch(
        images, times=times, noise=noise, labels=times
    )
    assert torch.equal(batch.noisy, signal * images + spread * noise)
    assert torch.equal(batch.target, target)


# Signal and noise alike at one time: a ratio of 1; at the other 9 to 1.
KEPT = [0.5, 0.9]


@pytest.mark.parametrize(
    ("prediction", "gamma", "weights"),
    [
        # Hang et al. 2023: min(snr, gamma), / snr, / (snr + 1).
        ("sample", 5.0, [1.0, 5.0]),
        ("epsilon", 5.0, [1.0, 5 / 9]),
        ("v_prediction", 5.0, [0.5, 0.5]),
        ("epsilon", 0.5, [0.5, 0.5 / 9]),
        ("epsilon", 0.0, [1.0, 1.0]),
        ("v_prediction", 0.0, [1.0, 1.0]),
        ("sample", 0.0, [2.0, 10.0]),
    ],
)
def test_errors_are_weighted_as_their_papers_say(prediction: str, gamma: float, weights: list[float]) -> None:
    betas = [1 - KEPT[1], 1 - KEPT[0] / KEPT[1]]
    schedule = {"prediction_type": prediction, "trained_betas": betas, "num_train_timesteps": 2}
    zeros = torch.zeros(2, 1, 2, 2)
    one = NoiseSchedule(schedule, min_snr=gamma).batch(
        zeros, times=torch.tensor([1, 0]), noise=zeros, labels=torch.zeros(2, dtype=torch.long)
    )
    assert one.weights.shape == (2, 1, 1, 1)
    assert one.weights.flatten().tolist() == pytest.approx(weights, rel=1e-5)


@given(st.lists(st.integers(0, 3), min_size=4, max_size=40).filter(lambda found: set(found) == {0, 1, 2, 3}))
@settings(max_examples=25)
def test_chosen_images_are_of_their_class_and_each_image_is_chosen(labels: list[int]) -> None:
    classes, chosen = ClassBalancedSampler(np.array(labels), classes=4).draw(
        2000, random=torch.Generator().manual_seed(0)
    )
    assert torch.equal(torch.tensor(labels)[chosen], classes)
    assert set(chosen.tolist()) == set(range(len(labels)))
