from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genaug.schema.common import TransformSpec
from genaug.vision.images.augment import augmented


def ranges(
    rotate_degrees: float = 0, shift: float = 0, scale: float = 0, color: float = 0, *, flip: bool = False
) -> TransformSpec:
    """Ranges that are 0 unless they are given."""
    return TransformSpec(horizontal_flip=flip, rotate_degrees=rotate_degrees, shift=shift, scale=scale, color=color)


def pictures(count: int = 4, *, height: int = 12, width: int = 20) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (count, 3, height, width), np.uint8))


def test_each_image_changes_in_its_own_way_and_by_the_seed_alone() -> None:
    same = pictures(1).repeat(5, 1, 1, 1)
    found = augmented(same, TransformSpec(), seed=0, update=1)
    assert (found.dtype, found.shape) == (torch.float32, same.shape)
    assert len({one.numpy().tobytes() for one in found}) == 5
    assert torch.equal(found, augmented(same, TransformSpec(), seed=0, update=1))
    assert not torch.equal(found, augmented(same, TransformSpec(), seed=0, update=2))
    assert not torch.equal(found, augmented(same, TransformSpec(), seed=1, update=1))


def test_a_flip_alone_mirrors_some_and_leaves_the_others() -> None:
    images = pictures(30)
    found = augmented(images, ranges(flip=True), seed=0, update=1)
    mirrored = [torch.allclose(a, b.flip(2).float(), atol=1e-2) for a, b in zip(found, images, strict=True)]
    same = [torch.allclose(a, b.float(), atol=1e-2) for a, b in zip(found, images, strict=True)]
    assert [a != b for a, b in zip(mirrored, same, strict=True)] == [True] * 30
    assert 5 < sum(mirrored) < 25


def test_a_shift_moves_and_repeats_the_border() -> None:
    image = torch.arange(20.0).repeat(1, 1, 12, 1) * 10
    (found,) = augmented(image, ranges(shift=0.25), seed=3, update=1)
    moved = found[0, 5, 10] - image[0, 0, 5, 10]
    # Ten grey levels a pixel; a quarter of 20 pixels at most.
    assert 0 < abs(moved) <= 50
    inside = (found[0, 5, 6:14] - image[0, 0, 5, 6:14]).numpy()
    np.testing.assert_allclose(inside, float(moved), atol=1e-2)


def test_a_quarter_turn_of_an_oblong_image_turns_pixels_not_shares(monkeypatch) -> None:
    """A turn keeps distances: a dot right of the centre ends above or below it, as far away."""
    image = torch.zeros(1, 1, 21, 41)
    image[0, 0, 10, 26] = 255

    class Fixed:
        def uniform(self, low: float, high: float, size) -> np.ndarray:
            return np.ones(size) if size == 1 else np.zeros(size)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Fixed())
    (found,) = augmented(image, ranges(90), seed=0, update=1)
    y, x = np.unravel_index(int(found[0].argmax()), (21, 41))
    assert (abs(y - 10), x) == (6, 20)


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.floats(0, 0.5))
def test_values_stay_grey_levels(seed: int, most: float) -> None:
    found = augmented(pictures(2), ranges(180, most, most, most, flip=True), seed=seed, update=1)
    assert found.isfinite().all()
    assert found.min() >= 0
    assert found.max() <= 255
