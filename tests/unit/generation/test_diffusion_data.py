from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genaug.generation.diffusion.schedulers import build_scheduler, signal_left
from genaug.generation.generators.class_conditional.generator import new_config, to_images
from genaug.generation.training.diffusion_data import (
    Batches,
    Choice,
    Noising,
    PixelImages,
    TrainingSet,
    jitter,
    question,
)


def test_jitter_moves_an_image_by_a_little() -> None:
    images = torch.full((64, 1, 32, 32), -1.0)
    images[:, :, 14:18, 14:18] = 1
    moved = jitter(images, source=torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert float(moved.abs().max()) <= 1
    bright = (moved[:, 0] + 1) / 2
    places = torch.arange(32.0)
    centres = (bright.sum(1) * places).sum(1) / bright.sum((1, 2))
    assert 1 < float((centres - 15.5).abs().max()) < 0.06 * 32 + 0.5


def test_batches_are_balanced_label_what_was_moved_and_withhold_some_classes() -> None:
    """99 images of one class beside 1 of the other: each is shown as often."""
    config = new_config(classes=["a", "b"], image_size=8, channels=1, base_channels=8)
    pixels = np.zeros((100, 8, 8, 1), np.uint8)
    pixels[0] = 255
    training = TrainingSet([""] * 100, pixels, np.array([1] + [0] * 99), [""] * 100)
    images = PixelImages(config, training)
    one = Batches(config, images, training.labels, size=4000, mirror=False, seed=0).draw()
    noisy, times, labels, velocity = one.noisy, one.times, one.labels, one.target
    shares = torch.bincount(labels, minlength=5) / 4000
    assert shares[:4].tolist() == pytest.approx([0.225] * 4, abs=0.03)
    assert float(shares[4]) == pytest.approx(0.1, abs=0.02)
    keep = signal_left(config.schedule)[times][:, None, None, None]
    images = keep.sqrt() * noisy - (1 - keep).sqrt() * velocity
    known = labels < 4
    assert torch.allclose(images[known].mean((1, 2, 3)), (labels[known] % 2) * 2.0 - 1, atol=0.01)


def ramp(count: int = 4) -> TrainingSet:
    """Images that grow brighter to the right."""
    pixels = np.tile(np.linspace(0, 255, 8).astype(np.uint8)[None, None, :, None], (count, 8, 1, 1))
    return TrainingSet([""] * count, pixels, np.zeros(count, np.int64), [""] * count)


@pytest.mark.parametrize("mirror", [False, True])
def test_images_are_mirrored_only_where_that_is_valid(mirror: bool) -> None:
    config = new_config(classes=["a"], image_size=8, channels=1, base_channels=8, patch_size=1)
    training = ramp()
    batches = Batches(config, PixelImages(config, training), training.labels, size=400, mirror=mirror, seed=0)
    one = batches.draw()
    keep = signal_left(config.schedule)[one.times][:, None, None, None]
    images = keep.sqrt() * one.noisy - (1 - keep).sqrt() * one.target
    rising = (images[..., -1].mean((1, 2)) > images[..., 0].mean((1, 2))).float().mean()
    assert float(rising) == pytest.approx(0.5 if mirror else 1.0, abs=0.1 if mirror else 0)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_target_is_what_the_solver_takes_it_for(prediction: str) -> None:
    """From a noised image and its target, diffusers' own conversion must give back the image."""
    config = new_config(classes=["a"], image_size=8, channels=1, base_channels=8, patch_size=1, prediction=prediction)
    training = ramp(1)
    one = question(Noising(config.schedule), PixelImages(config, training), training.labels, seed=0)
    assert one is not None
    scheduler = build_scheduler("DPMSolverMultistepScheduler", config.schedule)
    scheduler.set_timesteps(1000)
    for noisy, time, target in zip(one.noisy, one.times, one.target, strict=True):
        # Times below where the schedule is cut.
        if time > 900:
            continue
        scheduler._step_index = int((scheduler.timesteps == time).nonzero()[0])
        image = scheduler.convert_model_output(target[None], sample=noisy[None])
        torch.testing.assert_close(image, to_images(training.pixels), atol=0.02, rtol=0)


def test_the_question_about_held_out_images_is_always_the_same() -> None:
    config = new_config(classes=["a"], image_size=8, channels=1, base_channels=8)
    training = ramp(3)
    images = PixelImages(config, training)
    first, again = (question(Noising(config.schedule), images, training.labels, seed=5) for _ in range(2))
    assert first is not None
    assert again is not None
    assert [len(one.times) for one in first.split(5)] == [5, 5, 2]
    for one, other in zip(first.split(5), again.split(5), strict=True):
        assert torch.equal(one.noisy, other.noisy)
        assert torch.equal(one.times, other.times)
    assert torch.bincount(first.times // 250).tolist() == [3, 3, 3, 3]


def test_where_nothing_is_held_out_there_is_no_question() -> None:
    config = new_config(classes=["a"], image_size=8, channels=1, base_channels=8)
    training = ramp(0)
    assert question(Noising(config.schedule), PixelImages(config, training), training.labels, seed=5) is None


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
    one = Noising(schedule, min_snr=gamma).noised(
        zeros, times=torch.tensor([1, 0]), noise=zeros, labels=torch.zeros(2, dtype=torch.long)
    )
    assert one.weights.shape == (2, 1, 1, 1)
    assert one.weights.flatten().tolist() == pytest.approx(weights, rel=1e-5)


@given(st.lists(st.integers(0, 3), min_size=4, max_size=40).filter(lambda found: set(found) == {0, 1, 2, 3}))
@settings(max_examples=25)
def test_what_is_chosen_is_of_its_class_and_no_image_is_never_shown(labels: list[int]) -> None:
    classes, chosen = Choice(np.array(labels), classes=4).draw(2000, source=torch.Generator().manual_seed(0))
    assert torch.equal(torch.tensor(labels)[chosen], classes)
    assert set(chosen.tolist()) == set(range(len(labels)))
