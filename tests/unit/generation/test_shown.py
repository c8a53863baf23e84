from __future__ import annotations

import numpy as np
import pytest
import torch

from genaug.generation.generators.class_conditional import build_scheduler, new_config, to_images
from genaug.generation.shown import Batches, HeldOut, PixelImages, TrainingSet, jitter


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
    training = TrainingSet([""] * 100, pixels, np.array([1] + [0] * 99))
    images = PixelImages(config, training)
    one = Batches(config, images, training.labels, size=4000, mirror=False, seed=0).draw()
    noisy, times, labels, velocity = one.noisy, one.times, one.labels, one.target
    shares = torch.bincount(labels, minlength=5) / 4000
    assert shares[:4].tolist() == pytest.approx([0.225] * 4, abs=0.03)
    assert float(shares[4]) == pytest.approx(0.1, abs=0.02)
    keep = build_scheduler(config).alphas_cumprod[times][:, None, None, None]
    images = keep.sqrt() * noisy - (1 - keep).sqrt() * velocity
    known = labels < 4
    assert torch.allclose(images[known].mean((1, 2, 3)), (labels[known] % 2) * 2.0 - 1, atol=0.01)


def ramp(count: int = 4) -> TrainingSet:
    """Images that grow brighter to the right."""
    pixels = np.tile(np.linspace(0, 255, 8).astype(np.uint8)[None, None, :, None], (count, 8, 1, 1))
    return TrainingSet([""] * count, pixels, np.zeros(count, np.int64))


@pytest.mark.parametrize("mirror", [False, True])
def test_images_are_mirrored_only_where_that_is_valid(mirror: bool) -> None:
    config = new_config(classes=["a"], image_size=8, channels=1, base_channels=8, patch_size=1)
    training = ramp()
    batches = Batches(config, PixelImages(config, training), training.labels, size=400, mirror=mirror, seed=0)
    one = batches.draw()
    keep = build_scheduler(config).alphas_cumprod[one.times][:, None, None, None]
    images = keep.sqrt() * one.noisy - (1 - keep).sqrt() * one.target
    rising = (images[..., -1].mean((1, 2)) > images[..., 0].mean((1, 2))).float().mean()
    assert float(rising) == pytest.approx(0.5 if mirror else 1.0, abs=0.1 if mirror else 0)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_target_is_what_the_solver_takes_it_for(prediction: str) -> None:
    """From a noised image and its target, diffusers' own conversion must give back the image."""
    config = new_config(classes=["a"], image_size=8, channels=1, base_channels=8, patch_size=1, prediction=prediction)
    training = ramp(1)
    one = HeldOut(config, PixelImages(config, training), training.labels, seed=0).batches(64)[0]
    scheduler = build_scheduler(config)
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
    first, again = (HeldOut(config, PixelImages(config, training), training.labels, seed=5) for _ in range(2))
    batches = first.batches(5)
    assert [len(one.times) for one in batches] == [5, 5, 2]
    for one, other in zip(batches, again.batches(5), strict=True):
        assert torch.equal(one.noisy, other.noisy)
        assert torch.equal(one.times, other.times)
    quarters = torch.cat([one.times for one in batches]) // 250
    assert torch.bincount(quarters).tolist() == [3, 3, 3, 3]
