from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits, load_sample_images
from tests.shapes import CLASSES, shape

from genaug.generation.faults import Inspector
from genaug.generation.receipts import Drawn, Wanted
from genaug.vision.images import Pixels, resize


def drawn(pixels: Pixels, *, name: str = "a", finite: bool = True) -> Drawn:
    return Drawn(Wanted(name, 0, 0), pixels, 1, finite=finite)


def noise(seed: int, side: int = 32) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def nearly_black() -> Pixels:
    """A few specks of noise on black."""
    found = np.random.default_rng(0).integers(0, 9, (64, 64, 1), dtype=np.uint8)
    found[3, 3] = 255
    return found


@pytest.mark.parametrize(
    ("pixels", "fault"),
    [
        (np.zeros((16, 16, 1), np.uint8), "REASON_BLACK"),
        (nearly_black(), "REASON_BLACK"),
        (np.full((16, 16, 1), 128, np.uint8), "REASON_CONSTANT"),
        (np.full((16, 16, 3), (10, 200, 30), np.uint8), "REASON_CONSTANT"),
        (noise(0), None),
    ],
)
def test_what_is_no_image_is_told_by_reason(pixels: Pixels, fault: str | None) -> None:
    assert Inspector().fault(drawn(pixels)) == fault
    assert Inspector().fault(drawn(pixels, finite=False)) == "REASON_NOT_FINITE"


@given(st.integers(0, 100), st.integers(-1, 1), st.sampled_from([8, 16, 64]))
@settings(max_examples=30)
def test_an_image_that_is_nearly_another_of_its_class_is_its_duplicate(seed: int, shift: int, side: int) -> None:
    inspector, first = Inspector(), noise(seed, side)
    second = np.clip(first.astype(int) + shift, 0, 255).astype(np.uint8)
    assert inspector.fault(drawn(first)) is None
    assert inspector.fault(drawn(noise(seed + 1, side))) is None
    assert inspector.fault(drawn(second)) == "REASON_DUPLICATE"
    assert inspector.fault(drawn(second, name="b")) is None, "of another class it is none"


def test_what_was_rejected_is_not_remembered() -> None:
    inspector = Inspector()
    assert inspector.fault(drawn(noise(0), finite=False)) == "REASON_NOT_FINITE"
    assert inspector.fault(drawn(noise(0))) is None
    assert inspector.fault(drawn(noise(0))) == "REASON_DUPLICATE"


def test_ordinary_digits_are_images_and_no_two_are_one() -> None:
    inspector, found = Inspector(), load_digits()
    images = (found.images * 15.9375).astype(np.uint8)[:, :, :, None]
    faults = [inspector.fault(drawn(one, name=str(label))) for one, label in zip(images, found.target, strict=True)]
    assert len(faults) == 1797
    assert not any(faults)


def test_ordinary_shapes_and_photographs_are_images() -> None:
    inspector = Inspector()
    for name in CLASSES:
        faults = [inspector.fault(drawn(shape(name, seed=seed, noise=10), name=name)) for seed in range(50)]
        assert not any(faults)
    for photograph in load_sample_images().images:
        for side in (64, 128):
            for top in range(0, 256, 128):
                crop = resize(np.ascontiguousarray(photograph[top : top + 128, top : top + 128]), side)
                assert inspector.fault(drawn(crop, name=f"{side}")) is None
        # A dark one too, as fundus photographs at the edge of sight.
        assert inspector.fault(drawn((photograph[:128, :128] // 8).copy(), name="dark")) is None
