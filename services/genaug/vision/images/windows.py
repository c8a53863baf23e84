"""Intensity windows: the values of deep images that map to black and white, the same for all images of a dataset.

Deep images have more than 8 bits per value. Which of their values is white cannot be told from one image: 12-bit values
in 16-bit files use a sixteenth of the scale, and the brightest pixel of an image says more about the image than about
its scale. So the window follows from the values of all images, or is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genaug.schema.datasets import Dataset, Window
from genaug.schema.model import read
from genaug.shared.errors import InvalidArgument, NotFound
from genaug.shared.store import Store

Values = NDArray[Any]
"""Values of a deep image or of some rows of it: uint16, int8, int32, uint32 or float32 [rows, width]."""

DEPTHS = (8, 10, 12, 14, 16)
"""Bits per value that detectors and files have."""

_DARK = 1 / 8
"""Share of the window below which images are called dark."""
_MIXED = 0.02
_DARK_IMAGES = 0.1
_DEFECTS = 1e-6
_FEW = 3
_OUTSIDE = 0.01
# Rendered images with fewer levels are constant.
_LEVELS = 2

_BINS = 1 << 16


@dataclass(frozen=True)
class Intensities:
    """The values of one deep image, without their places."""

    low: float
    high: float
    is_integer: bool
    """Whether they are stored as integers."""
    is_whole: bool
    """Whether none has a fraction."""
    histogram: NDArray[np.int64]
    """Values per bin, [65536]. A bin is the upper half of a float32's bits, in ascending order, so that it is narrower
    than 1 % of its values, and each power of two begins one."""


@dataclass(frozen=True)
class _Range:
    low: float
    high: float
    top: float
    """99.9th percentile."""
    is_integer: bool
    is_whole: bool


def measure(bands: Iterable[Values]) -> Intensities:
    """Measure the values of an image, given as bands of rows."""
    histogram = np.zeros(_BINS, np.int64)
    low, high, whole, integer = np.inf, -np.inf, True, True
    for values in bands:
        integer = values.dtype.kind in "iu"
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        whole = whole and (integer or bool((values == np.floor(values)).all()))
        if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
            # Few distinct values: they are counted first, and their bins computed once.
            counts = np.bincount(values.ravel(), minlength=_BINS)
            np.add.at(histogram, _bins(np.arange(_BINS)), counts)
        else:
            histogram += np.bincount(_bins(values.ravel()), minlength=_BINS)
    return Intensities(low, high, integer, whole, histogram)


def _bins(values: Values) -> NDArray[np.uint32]:
    # The bits of positive floats ascend with their values, those of negative ones descend. Adding 0 makes -0 one of the
    # former.
    bits = (values.astype(np.float32) + np.float32(0)).view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    binned: NDArray[np.uint32] = ordered >> np.uint32(16)
    return binned


def _bin(value: float) -> int:
    return int(_bins(np.array([value]))[0])


def _lower_edge(index: int) -> float:
    bits = np.uint32(index << 16)
    bits = bits & np.uint32(0x7FFFFFFF) if index >> 15 else ~bits
    return float(np.array([bits], np.uint32).view(np.float32)[0])


def _used(histogram: NDArray[np.int64]) -> tuple[float, float]:
    """Return 0.1st and 99.9th percentile, as the beginning and the end of their bins."""
    cumulative = histogram.cumsum()
    first, last = np.searchsorted(cumulative, np.array([0.001, 0.999]) * cumulative[-1])
    return _lower_edge(int(first)), _lower_edge(int(last) + 1)


class DatasetIntensities:
    """The values of all deep images of a dataset."""

    def __init__(self) -> None:
        self._images: list[_Range] = []
        self._histogram = np.zeros(_BINS, np.int64)

    def add(self, image: Intensities) -> None:
        """Add an image."""
        _, top = _used(image.histogram)
        self._images.append(_Range(image.low, image.high, top, image.is_integer, image.is_whole))
        self._histogram += image.histogram

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def find_window(
        self, *, bits: int = 0, window: Sequence[float] = (), eight_bit_images: int = 0
    ) -> tuple[Window, tuple[str, ...]]:
        """Return the window, and sentences on values that it shows badly.

        Args:
            bits: Bits per value, given by the user; 0 to find the window.
            window: Lowest and highest value, given by the user; empty to find them.
            eight_bit_images: Images beside these, with 8 bits per value.

        Raises:
            InvalidArgument: reason MIXED_DEPTHS (the images have no scale in common), TOO_DEEP (unsigned values need
                more than 16 bits), EMPTY_WINDOW (within the window, all images are black or white).
        """
        if window:
            chosen = Window(low=window[0], high=window[1], rule="given")
        elif bits:
            chosen = Window(low=0, high=2**bits - 1, rule="given")
        else:
            chosen = self._by_rule(eight_bit_images)
        self._check_levels(chosen)
        return chosen, tuple(self._notes(chosen, eight_bit_images))

    @property
    def _low(self) -> float:
        return min(image.low for image in self._images)

    @property
    def _high(self) -> float:
        return max(image.high for image in self._images)

    def _by_rule(self, eight_bit_images: int) -> Window:
        low, high = self._low, self._high
        integers = sum(image.is_integer for image in self._images)
        if integers and not all(image.is_integer or image.is_whole for image in self._images):
            fractions = sum(not image.is_whole for image in self._images)
            raise _mixed(f"{integers} images hold integers and {fractions} fractions, {_span(low, high)}")
        if not integers and low >= 0 and high <= 1:
            chosen = Window(low=0, high=1, rule="0 to 1")
        elif not integers and low >= 0 and 255 * _DARK < high <= 255:
            chosen = Window(low=0, high=255, rule="0 to 255")
        elif not integers and -1 <= low < 0 and high <= 1:
            chosen = Window(low=-1, high=1, rule="-1 to 1")
        elif low >= 0 and all(image.is_whole for image in self._images) and (integers or high < _BINS):
            chosen = self._by_depth()
        elif low < 0 and all(image.is_whole for image in self._images):
            chosen = Window(low=low, high=high, rule="signed: lowest to highest")
        else:
            chosen = Window(low=low, high=high, rule="lowest to highest")
        self._check_unit_images(chosen)
        if eight_bit_images and not (low >= 0 and chosen.high == 255):
            raise _mixed(f"{eight_bit_images} images have 8 bits per value and {len(self)} more, {_span(low, high)}")
        return chosen

    def _by_depth(self) -> Window:
        high = self._high
        depth = next((depth for depth in DEPTHS if high < 2**depth), None)
        if depth is None:
            raise InvalidArgument(
                f"the values reach {high:.10g}, more than 16 bits hold ({self._from(_BINS)} of {self._count:,} exceed "
                "65535); say which values are black and white with --window LOW,HIGH",
                reason="TOO_DEEP",
            )
        return Window(low=0, high=2**depth - 1, rule=f"{depth} bits")

    def _check_unit_images(self, chosen: Window) -> None:
        """Refuse images within 0 to 1 beside others on a larger scale: they would become black."""
        if chosen.low < 0 or chosen.high < 255:
            return
        # An image that is black everywhere is of any scale.
        lit = [image for image in self._images if image.high > 0]
        unit = sum(image.high <= 1 for image in lit)
        if len(lit) * _MIXED <= unit < len(lit):
            raise _mixed(f"{unit} images hold values of 0 to 1 and {len(lit) - unit} values up to {self._high:.10g}")

    def _check_levels(self, chosen: Window) -> None:
        levels = render(np.array([self._low, self._high]), chosen)
        if int(levels[1]) - int(levels[0]) <= _LEVELS:
            raise InvalidArgument(
                f"all values are within {_span(self._low, self._high)}, at most {_LEVELS + 1} grey levels of the "
                f"window {_span(chosen.low, chosen.high)} ({chosen.rule}); give another one with --window LOW,HIGH",
                reason="EMPTY_WINDOW",
            )

    @property
    def _count(self) -> int:
        return int(self._histogram.sum())

    def _from(self, value: float) -> int:
        """Values from `value` on, which is exact for powers of two, and to within 1 % for others."""
        return int(self._histogram[_bin(value) :].sum())

    def _notes(self, chosen: Window, eight_bit_images: int) -> Iterator[str]:
        span, (bottom, top) = f"{_span(chosen.low, chosen.high)} ({chosen.rule})", _used(self._histogram)
        eighth = (chosen.high - chosen.low) * _DARK
        dark = chosen.low + eighth
        depths = [depth for depth in DEPTHS if 2**depth - 1 < chosen.high]
        if top < dark:
            fitting = (
                next((depth for depth in depths if top <= 2**depth), None) if chosen.rule.endswith("bits") else None
            )
            better = f"--bits {fitting}" if fitting else f"--window {chosen.low:.10g},{top:.4g}"
            yield (
                f"99.9 % of the values are below {top:.4g}, less than an eighth of the window {span}: the images are "
                f"dark; {better} would use it"
            )
        elif top - bottom < eighth:
            yield (
                f"99.8 % of the values are {bottom:.4g} to {top:.4g}, less than an eighth of the window {span}: the "
                f"images have little contrast; --window {bottom:.4g},{top:.4g} would use it"
            )
        elif sum(image.top < dark for image in self._images) >= _DARK_IMAGES * len(self):
            images = sum(image.top < dark for image in self._images)
            yield (
                f"{images} of {len(self)} images use less than an eighth of the window {span}: are they "
                "of another depth than the others?"
            )
        if chosen.rule.endswith("bits"):
            for depth in depths:
                above = self._from(2**depth)
                if above <= max(_FEW, _DEFECTS * self._count):
                    yield (
                        f"{above} of {self._count:,} values exceed {2**depth - 1}: if they are defects, --bits {depth}"
                    )
                    break
        if chosen.rule == "given":
            outside = 1 - int(self._histogram[_bin(chosen.low) : _bin(chosen.high) + 1].sum()) / self._count
            if outside > _OUTSIDE:
                yield (
                    f"{outside:.0%} of the values, which are {_span(self._low, self._high)}, lie outside the window "
                    f"{span}: they are black or white"
                )
            if eight_bit_images:
                yield f"{eight_bit_images} images have 8 bits per value and are kept as they are"


def check_high_bytes(highest: Sequence[int]) -> tuple[str, ...]:
    """Return sentences on 16-bit colour images, of which only the high byte of each value is read.

    Args:
        highest: Highest high byte of each of these images.

    Raises:
        InvalidArgument: reason EMPTY_WINDOW; none uses more than 12 of the 16 bits.
    """
    top = max(highest, default=255)
    problem = (
        f"{len(highest)} colour images have 16 bits per value, and none exceeds {top * 256 + 255}: read by their high "
        "bytes, they are {}; save them with 8 bits per value"
    )
    if top < 16:
        raise InvalidArgument(problem.format("black"), reason="EMPTY_WINDOW")
    if top < 255 * _DARK:
        return (problem.format("dark"),)
    return ()


def _span(low: float, high: float) -> str:
    return f"{low:.10g} to {high:.10g}"


def _mixed(numbers: str) -> InvalidArgument:
    return InvalidArgument(
        f"{numbers}: no scale explains both; import them apart, save them alike, or give --window LOW,HIGH or --bits N "
        "for those with more than 8 bits",
        reason="MIXED_DEPTHS",
    )


def render(values: Values, window: Window) -> NDArray[np.uint8]:
    """Map `window` to 0 to 255, rounded; values outside it become black and white."""
    # float64 for a band of rows at a time: float32 does not hold all int32.
    scaled = (values.astype(np.float64) - window.low) * (255 / (window.high - window.low))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def renderer(window: Window, dtype: np.dtype[Any]) -> Callable[[Values], NDArray[np.uint8]]:
    """Return `render` for this window and values of this type; a table for 16-bit unsigned ones."""
    if dtype.kind == "u" and dtype.itemsize <= 2:
        table = render(np.arange(_BINS), window)
        return lambda values: table[values]
    return lambda values: render(values, window)


def window_of(store: Store, dataset_version: str) -> Window | None:
    """Return the window of the dataset of a version; None if its images have 8 bits, or its record is gone.

    Args:
        store: As an identity that reads datasets.
        dataset_version: "datasets/{dataset}/versions/{version}".
    """
    try:
        return read(store, f"{dataset_version.partition('/versions/')[0]}/dataset.json", Dataset).window
    except NotFound:
        return None
