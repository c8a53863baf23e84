from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits, load_sample_images
from tests.shapes import CLASSES, shape

from genaug.generation.sampling.draw_quality import DrawFilter, summarize
from genaug.generation.sampling.receipts import DrawnImage, ImageRequest
from genaug.schema.generators import RejectionReason
from genaug.vision.images.pixels import Pixels, resize


def reject(
    draw_filter: DrawFilter, pixels: Pixels, *, class_name: str = "a", finite: bool = True
) -> RejectionReason | None:
    return draw_filter.reject(summarize(DrawnImage(ImageRequest(class_name, 0, 0), pixels, 1, finite=finite)))


def noise(seed: int, side: int = 32) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def nearly_black() -> Pixels:
    """Faint noise and one bright pixel."""
    pixels = np.random.default_rng(0).integers(0, 9, (64, 64, 1), dtype=np.uint8)
    pixels[3, 3] = 255
    return pixels


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.zeros((16, 16, 1), np.uint8), RejectionReason.BLACK),
        (nearly_black(), RejectionReason.BLACK),
        (np.full((16, 16, 1), 128, np.uint8), RejectionReason.CONSTANT),
        (np.full((16, 16, 3), (10, 200, 30), np.uint8), RejectionReason.CONSTANT),
        (noise(0), None),
    ],
)
def test_unusable_draws_are_rejected_with_their_reason(pixels: Pixels, reason: RejectionReason | None) -> None:
    assert reject(DrawFilter(), pixels) == reason
    assert reject(DrawFilter(), pixels, finite=False) == RejectionReason.NOT_FINITE


@given(st.integers(0, 100), st.integers(-1, 1), st.sampled_from([8, 16, 64]))
@settings(max_examples=30)
def test_near_duplicates_within_a_class_are_rejected(seed: int, shift: int, side: int) -> None:
    draw_filter, first = DrawFilter(), noise(seed, side)
    second = np.clip(first.astype(int) + shift, 0, 255).astype(np.uint8)
    assert reject(draw_filter, first) is None
    assert reject(draw_filter, noise(seed + 1, side)) is None
    assert reject(draw_filter, second) == RejectionReason.DUPLICATE
    assert reject(draw_filter, second, class_name="b") is None, "other classes are not compared"


def test_later_images_are_not_compared_with_rejected_ones() -> None:
    draw_filter = DrawFilter()
    assert reject(draw_filter, noise(0), finite=False) == RejectionReason.NOT_FINITE
    assert reject(draw_filter, noise(0)) is None
    assert reject(draw_filter, noise(0)) == RejectionReason.DUPLICATE


def test_handwritten_digits_are_accepted() -> None:
    draw_filter, digits = DrawFilter(), load_digits()
    images = (digits.images * 15.9375).astype(np.uint8)[:, :, :, None]
    reasons = [
        reject(draw_filter, image, class_name=str(label)) for image, label in zip(images, digits.target, strict=True)
    ]
    assert len(reasons) == 1797
    assert not any(reasons)


def test_shapes_and_photographs_are_accepted() -> None:
    draw_filter = DrawFilter()
    for name in CLASSES:
        reasons = [reject(draw_filter, shape(name, seed=seed, noise=10), class_name=name) for seed in range(50)]
        assert not any(reasons)
    for photograph in load_sample_images().images:
        for side in (64, 128):
            for top in range(0, 256, 128):
                crop = resize(np.ascontiguousarray(photograph[top : top + 128, top : top + 128]), side)
                assert reject(draw_filter, crop, class_name=f"{side}") is None
        # A dark one too, like an underexposed fundus photograph.
        assert reject(draw_filter, (photograph[:128, :128] // 8).copy(), class_name="dark") is None
