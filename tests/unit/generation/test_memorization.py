from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genaug.generation.sampling.receipts import Drawn, Wanted
from genaug.generation.training.memorization import Closeness
from genaug.vision.images.pixels import Pixels

COUNT = 20


def noise(seed: int, side: int = 16) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 1), dtype=np.uint8)


def closeness(*, groups: list[str] | None = None, side: int = 16) -> Closeness:
    """Twenty images of noise, half of each class."""
    pixels = np.stack([noise(seed, side) for seed in range(COUNT)])
    return Closeness(pixels, np.arange(COUNT) % 2, groups or [str(number) for number in range(COUNT)])


def drawn(pixels: Pixels, name: str) -> Drawn:
    return Drawn(Wanted(name, 0, 0), pixels, 1)


@pytest.mark.parametrize("side", [16, 64])
def test_copies_of_training_images_are_remembered_and_others_are_not(side: int) -> None:
    found = closeness(side=side)
    copies = [drawn(noise(seed, side), "ab"[seed % 2]) for seed in range(4)]
    others = [drawn(noise(seed, side), "a") for seed in range(100, 104)]
    assert found.of(copies, "ab")["remembered"] == 1
    assert found.of(copies, "ab")["median"] == pytest.approx(0, abs=1e-5)
    fresh = found.of(others, "ab")
    assert fresh["remembered"] <= 0.25
    assert fresh["median"] == pytest.approx(fresh["natural_median"], abs=0.2)
    assert found.of(copies + others, "ab")["remembered"] == pytest.approx(0.5, abs=0.13)


def test_a_copy_of_another_classs_image_is_none() -> None:
    assert closeness().of([drawn(noise(1), "a")], "ab")["remembered"] == 0


@given(st.floats(0.3, 1.0), st.integers(0, 60))
@settings(max_examples=20)
def test_brightness_and_contrast_hide_no_copy(contrast: float, brightness: int) -> None:
    changed = (noise(2).astype(float) * contrast + brightness).clip(0, 255).round().astype(np.uint8)
    assert closeness().of([drawn(changed, "a")], "ab")["remembered"] == 1


def test_images_of_one_subject_are_no_measure_of_what_is_natural() -> None:
    pixels = np.stack([noise(seed // 2) for seed in range(COUNT)])
    labels = np.zeros(COUNT, np.int64)
    twins = Closeness(pixels, labels, [str(number // 2) for number in range(COUNT)])
    strangers = Closeness(pixels, labels, [str(number) for number in range(COUNT)])
    assert twins.natural_median > 0.3
    assert strangers.natural_median == pytest.approx(0, abs=1e-5)


def test_where_everything_is_of_one_subject_nothing_is_said_to_be_remembered() -> None:
    found = closeness(groups=["one"] * COUNT).of([drawn(noise(0), "a")], "ab")
    assert (found["remembered"], found["natural_median"]) == (0, 0)
