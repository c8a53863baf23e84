from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genaug.shared.errors import InvalidArgument
from genaug.vision.images.augment import Ranges, augmented

STILL = Ranges(rotate_degrees=0, shift=0, scale=0, colour=0)


def pictures(count: int = 4, *, height: int = 12, width: int = 20) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (count, 3, height, width), np.uint8))


def test_each_image_changes_in_its_own_way_and_by_the_seed_alone() -> None:
    same = pictures(1).repeat(5, 1, 1, 1)
    found = augmented(same, Ranges(), seed=0, update=1)
    assert (found.dtype, found.shape) == (torch.float32, same.shape)
    assert len({one.numpy().tobytes() for one in found}) == 5
    assert torch.equal(found, augmented(same, Ranges(), seed=0, update=1))
    assert not torch.equal(found, augmented(same, Ranges(), seed=0, update=2))
    assert not torch.equal(found, augmented(same, Ranges(), seed=1, update=1))


def test_a_flip_alone_mirrors_some_and_leaves_the_others() -> None:
    images = pictures(30)
    found = augmented(images, Ranges(True, 0, 0, 0, 0), seed=0, update=1)
    mirrored = [torch.allclose(a, b.flip(2).float(), atol=1e-2) for a, b in zip(found, images, strict=True)]
    same = [torch.allclose(a, b.float(), atol=1e-2) for a, b in zip(found, images, strict=True)]
    assert [a != b for a, b in zip(mirrored, same, strict=True)] == [True] * 30
    assert 5 < sum(mirrored) < 25


def test_a_shift_moves_and_repeats_the_border() -> None:
    image = torch.arange(20.0).repeat(1, 1, 12, 1) * 10
    (found,) = augmented(image, Ranges(False, 0, 0.25, 0, 0), seed=3, update=1)
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
    (found,) = augmented(image, Ranges(False, 90, 0, 0, 0), seed=0, update=1)
    y, x = np.unravel_index(int(found[0].argmax()), (21, 41))
    assert (abs(y - 10), x) == (6, 20)


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.floats(0, 0.5))
def test_values_stay_grey_levels(seed: int, most: float) -> None:
    found = augmented(pictures(2), Ranges(True, 180, most, most, most), seed=seed, update=1)
    assert found.isfinite().all()
    assert found.min() >= 0
    assert found.max() <= 255


@pytest.mark.parametrize("ranges", [STILL, Ranges(shift=0.6), Ranges(colour=-0.1), Ranges(rotate_degrees=float("nan"))])
def test_ranges_that_make_no_sense_are_refused(ranges: Ranges) -> None:
    with pytest.raises(InvalidArgument, match=r"^training\.augment"):
        ranges.check("training.augment")
