"""The window of a dataset: found from all images, given, or refused with the numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from genaug.schema.datasets import Window
from genaug.shared.errors import InvalidArgument
from genaug.vision.images.windows import DatasetIntensities, check_high_bytes, measure, render, renderer

Image = NDArray[np.generic]


def ramp(low: float, high: float, kind: type = np.uint16, *, count: int = 4096) -> Image:
    """One image with `count` values from `low` to `high`."""
    return np.linspace(low, high, count).astype(kind).reshape(-1, 64)


def found(images: Sequence[Image], **options) -> tuple[Window, tuple[str, ...]]:
    dataset = DatasetIntensities()
    for image in images:
        # Bands of rows, as decoders give them.
        dataset.add(measure(np.array_split(image, 3)))
    return dataset.find_window(**options)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ([ramp(0, 255), ramp(0, 90)], (0, 255, "8 bits")),
        ([ramp(0, 1000), ramp(0, 500)], (0, 1023, "10 bits")),
        ([ramp(0, 255), ramp(0, 4095)], (0, 4095, "12 bits")),
        ([ramp(0, 4096)], (0, 16383, "14 bits")),
        ([ramp(0, 65535)], (0, 65535, "16 bits")),
        ([ramp(0, 4000, np.int32)], (0, 4095, "12 bits")),
        ([ramp(0, 3000), ramp(-1000, 1900, np.int32)], (-1000, 3000, "signed: lowest to highest")),
        ([ramp(-1000, 1900, np.float32).round()], (-1000, 1900, "signed: lowest to highest")),
        ([ramp(0, 1, np.float32), ramp(0, 0.2, np.float32)], (0, 1, "0 to 1")),
        ([ramp(0, 255, np.float32), ramp(3, 200, np.float32)], (0, 255, "0 to 255")),
        ([ramp(-1, 1, np.float32)], (-1, 1, "-1 to 1")),
        ([ramp(0, 4000, np.float32).round()], (0, 4095, "12 bits")),
        ([ramp(0, 4000, np.float32).round(), ramp(0, 4000)], (0, 4095, "12 bits")),
        ([ramp(0, 1.5, np.float32)], (0, 1.5, "lowest to highest")),
        ([ramp(0.25, 512.5, np.float32)], (0.25, 512.5, "lowest to highest")),
        ([ramp(0, 100_000, np.float32).round()], (0, 100_000, "lowest to highest")),
    ],
)
def test_the_rules(images: Sequence[Image], expected: tuple[float, float, str]) -> None:
    window, _ = found(images)
    assert (window.low, window.high, window.rule) == expected


def test_a_given_window_is_taken() -> None:
    window, notes = found([ramp(-1000, 3000, np.int32)], window=(-160, 240))
    assert (window.low, window.high, window.rule) == (-160, 240, "given")
    assert len(notes) == 1
    assert "% of the values, which are -1000 to 3000, lie outside the window -160 to 240 (given)" in notes[0]
    window, notes = found([ramp(0, 300)], bits=12, eight_bit_images=3)
    assert (window.low, window.high, window.rule) == (0, 4095, "given")
    assert "--window 0,300" in notes[0]
    assert "3 images have 8 bits" in notes[1]


@pytest.mark.parametrize(
    ("images", "options", "numbers"),
    [
        ([ramp(0, 4095)] * 3, {"eight_bit_images": 2}, "2 images have 8 bits per value and 3 more, 0 to 4095"),
        (
            [ramp(0, 0.5, np.float32)] * 3,
            {"eight_bit_images": 2},
            "2 images have 8 bits per value and 3 more, 0 to 0.5",
        ),
        ([ramp(0, 4095), ramp(0, 0.9, np.float32)], {}, "1 images hold integers and 1 fractions"),
        ([ramp(0, 1, np.float32), ramp(0, 250.5, np.float32)], {}, "1 images hold values of 0 to 1 and 1 values up to"),
        ([ramp(0, 1.5).astype(np.uint16), ramp(0, 4095)], {}, "1 images hold values of 0 to 1 and 1 values up to 4095"),
    ],
)
def test_a_mix_that_no_rule_explains_is_refused(images: Sequence[Image], options: dict, numbers: str) -> None:
    with pytest.raises(InvalidArgument, match=numbers) as caught:
        found(images, **options)
    assert caught.value.reason == "MIXED_DEPTHS"
    assert found(images, window=(0, 1), **options)[0].rule == "given"


def test_eight_bit_values_in_deep_files_stand_beside_eight_bit_images() -> None:
    assert found([ramp(0, 250)], eight_bit_images=10)[0] == Window(low=0, high=255, rule="8 bits")


def test_black_images_are_of_any_scale() -> None:
    black = np.zeros((64, 64), np.uint16)
    almost = black.copy()
    almost[0, 0] = 1
    assert found([black] * 50 + [almost] + [ramp(0, 4095)] * 60)[0].high == 4095


def test_more_than_sixteen_bits_need_a_window() -> None:
    with pytest.raises(InvalidArgument, match="reach 70000") as caught:
        found([ramp(0, 70_000, np.uint32)])
    assert caught.value.reason == "TOO_DEEP"


def test_a_window_in_which_nothing_is_seen_is_refused() -> None:
    for image, options in ((ramp(0, 1.9), {}), (ramp(0, 4095), {"window": (5000, 6000)}), (ramp(0, 20), {"bits": 16})):
        with pytest.raises(InvalidArgument, match="--window") as caught:
            found([image], **options)
        assert caught.value.reason == "EMPTY_WINDOW"


def test_dark_images_are_noted() -> None:
    image = ramp(0, 255)
    image[0, 0] = 4000
    (note,) = [note for note in found([image] * 3)[1] if "99.9 %" in note]
    assert "less than an eighth of the window 0 to 4095 (12 bits)" in note
    assert "--bits 8" in note
    assert found([ramp(0, 4095)])[1] == ()


def test_little_contrast_is_noted() -> None:
    """One value of a defect far below all others."""
    image = ramp(-1000, 3000, np.int32)
    image[0, 0] = -32768
    (note,) = found([image])[1]
    assert note.startswith("99.8 % of the values are -1000 to 3008, less than an eighth of the window -32768 to 3000")
    assert "--window -1000,3008" in note


def test_few_values_above_the_next_depth_are_noted_with_their_number() -> None:
    image = ramp(0, 255, count=1 << 14)
    image[0, :3] = 256
    (note,) = found([image])[1]
    assert note == "3 of 16,384 values exceed 255: if they are defects, --bits 8"


def test_a_share_of_darker_images_is_noted() -> None:
    (note,) = found([ramp(0, 255)] * 2 + [ramp(0, 4095)] * 5)[1]
    assert note.startswith("2 of 7 images use less than an eighth of the window 0 to 4095")


def test_values_are_rounded_and_clipped() -> None:
    window = Window(low=-100, high=100)
    assert render(np.array([-200, -100, 1, 99.9, 100, 5e9]), window).tolist() == [0, 0, 129, 255, 255, 255]
    for kind in (np.uint16, ">u2"):
        values = np.arange(0, 65536, 17).astype(kind)
        rendered = renderer(Window(low=0, high=4095), values.dtype)(values)
        assert np.array_equal(rendered, render(values, Window(low=0, high=4095)))


@pytest.mark.parametrize("power", range(1, 17))
def test_counts_at_powers_of_two_are_exact(power: int) -> None:
    """A depth ends there."""
    values = np.array([[2**power - 1] * 5 + [2**power] * 3], np.int32)
    dataset = DatasetIntensities()
    dataset.add(measure([values]))
    assert dataset._from(2**power) == 3


def test_high_bytes_that_are_not_used_are_refused_or_noted() -> None:
    assert check_high_bytes([]) == ()
    assert check_high_bytes([3, 200]) == ()
    assert "are dark" in check_high_bytes([3, 31])[0]
    with pytest.raises(InvalidArgument, match="2 colour images have 16 bits per value, and none exceeds 4095"):
        check_high_bytes([3, 15])


Render = Callable[[Image], NDArray[np.uint8]]


@pytest.mark.parametrize(
    "version",
    [
        *(lambda grey, top=2**bits - 1: np.rint(grey / 255 * top).astype(np.uint16) for bits in (8, 10, 12, 14, 16)),
        lambda grey: (grey / 255).astype(np.float32),
        lambda grey: grey.astype(np.float32) * np.float32(0.999),
        lambda grey: np.rint(grey / 255 * 3000 - 1000).astype(np.int32),
    ],
    ids=["8", "10", "12", "14", "16", "unit", "float", "hounsfield"],
)
def test_every_version_of_an_image_has_the_same_grey_levels(version: Callable[[Image], Image]) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (64, 64))
    grey[0, :2] = 0, 255
    images = [version(grey), version(grey // 2)]
    window, notes = found(images)
    assert notes == ()
    for image, original in zip(images, (grey, grey // 2), strict=True):
        assert np.abs(render(image, window).astype(int) - original).max() <= 1
