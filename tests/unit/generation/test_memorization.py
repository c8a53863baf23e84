from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genaug.generation.sampling.receipts import DrawnImage, ImageRequest
from genaug.generation.training.memorization import MemorizationProbe
from genaug.vision.images.pixels import Pixels

COUNT = 20


def noise(seed: int, side: int = 16) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 1), dtype=np.uint8)


def probe(*, groups: list[str] | None = None, side: int = 16) -> MemorizationProbe:
    """Twenty images of noise, half of each class."""
    pixels = np.stack([noise(seed, side) for seed in range(COUNT)])
    return MemorizationProbe(pixels, np.arange(COUNT) % 2, groups or [str(number) for number in range(COUNT)])


def drawn(pixels: Pixels, name: str) -> DrawnImage:
    return DrawnImage(ImageRequest(name, 0, 0), pixels, 1)


@pytest.mark.parametrize("side", [16, 64])
def test_copies_of_training_images_are_memorized_and_others_are_not(side: int) -> None:
    measured = probe(side=side)
    copies = [drawn(noise(seed, side), "ab"[seed % 2]) for seed in range(4)]
    others = [drawn(noise(seed, side), "a") for seed in range(100, 104)]
    assert measured.measure(copies, "ab", update=1).memorized == 1
    assert measured.measure(copies, "ab", update=1).median == pytest.approx(0, abs=1e-5)
    fresh = measured.measure(others, "ab", update=1)
    assert fresh.memorized <= 0.25
    assert fresh.median == pytest.approx(fresh.natural_median, abs=0.2)
    assert measured.measure(copies + others, "ab", update=1).memorized == pytest.approx(0.5, abs=0.13)


def test_a_copy_of_another_classs_image_is_not_memorized() -> None:
    assert probe().measure([drawn(noise(1), "a")], "ab", update=1).memorized == 0


@given(st.floats(0.3, 1.0), st.integers(0, 60))
@settings(max_examples=20)
def test_brightness_and_contrast_hide_no_copy(contrast: float, brightness: int) -> None:
    changed = (noise(2).astype(float) * contrast + brightness).clip(0, 255).round().astype(np.uint8)
    assert probe().measure([drawn(changed, "a")], "ab", update=1).memorized == 1


def test_images_of_one_subject_do_not_count_as_natural_neighbours() -> None:
    pixels = np.stack([noise(seed // 2) for seed in range(COUNT)])
    labels = np.zeros(COUNT, np.int64)
    twins = MemorizationProbe(pixels, labels, [str(number // 2) for number in range(COUNT)])
    strangers = MemorizationProbe(pixels, labels, [str(number) for number in range(COUNT)])
    assert twins.natural_median > 0.3
    assert strangers.natural_median == pytest.approx(0, abs=1e-5)


def test_images_of_a_single_subject_memorize_nothing() -> None:
    measured = probe(groups=["one"] * COUNT).measure([drawn(noise(0), "a")], "ab", update=7)
    assert (measured.update, measured.memorized, measured.natural_median) == (7, 0, 0)
