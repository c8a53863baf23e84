"""Registration of two images of one photograph, and the agreement of their details.

The second is laid on the first by a symmetry, a scale and a shift of each axis: from phase correlation at 32×32 pixels,
then by Gauss-Newton steps (inverse compositional Lucas-Kanade; Baker & Matthews 2004) at 32×32 and 64×64. Details are
deviations from the local mean in units of the local deviation, so that brightness, contrast and gamma do not matter.
The background (all that is as dark, or as bright, as the frame) has no details: the edge of an aperture is that of
the camera and not of the photograph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genaug.assembly.fingerprints import COARSE, FINE, GREY_SIDE, NOISE, Floats, Indices, blur_matrix, blurred

DETAIL_UNIT = 24.0
"""Steps of a detail's value per local deviation."""
BACKGROUND = -128
"""Value of the background among details."""

# Left to right, per symmetry of `fingerprints.symmetries`; the last four are turned by 180° besides.
_TURNS: tuple[Callable[[Floats], Floats], ...] = (
    lambda x: x,
    lambda x: x[:, :, ::-1],
    lambda x: np.rot90(x, 1, (1, 2)),
    lambda x: np.rot90(x[:, :, ::-1], 1, (1, 2)),
    lambda x: x[:, ::-1, ::-1],
    lambda x: x[:, ::-1],
    lambda x: np.rot90(x, 3, (1, 2)),
    lambda x: np.rot90(x[:, :, ::-1], 3, (1, 2)),
)
# Half a step off, details still overlap enough for the refinement.
_SCALES = (1 / 1.07, 1.0, 1.07)
# Pixels of 32.
_MOST_SHIFT = 4
_STEPS = 4
_BLOCKS = 8
# This quantile of the blocks' correlations has to be high: a date, a border's rest or a reflection may spoil others.
_QUANTILE = 0.3
# Below this agreement at 32×32 pixels a pair is not looked at in detail.
_MIN_ROUGH = 0.1
# From this agreement of blocks on, grey levels are equalized, too.
_MIN_EQUALIZED = 0.4
# Smallest part of the frame, and of both images, that is compared.
_MIN_AREA = 0.25
_DARK_FRAME, _BRIGHT_FRAME = 0.1, 0.3
_WIDENED = blur_matrix(1)


@dataclass(frozen=True)
class Agreement:
    """How well the first image of each pair, laid on the second, agrees with it."""

    blocks: Floats
    """30 % of the blocks have a lower correlation of details: float32 [n]."""
    pattern: Floats
    """Correlation of grey levels after subtraction of their local means, float32 [n]. Where the blocks agree,
    the higher one of this and the correlation of the equalized grey levels."""
    difference: Floats
    """Root mean square difference of grey levels, without that of their means: float32 [n]."""


def details(greys: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Deviation from the local mean, in 1/24 of the local deviation: uint8 [n, 64, 64] -> int8 [n, 64, 64]."""
    mask = _foreground(greys)
    values = greys.astype(np.float32)
    weight = np.maximum(blurred(mask, FINE), 1e-3)
    detail = np.asarray((values - blurred(values * mask, FINE) / weight) * mask, dtype=np.float32)
    weight = np.maximum(blurred(mask, COARSE), 1e-3)
    deviation = np.sqrt(np.maximum(blurred(detail * detail, COARSE) / weight, 0.0))
    scaled = np.clip(np.rint(detail / (deviation + NOISE) * DETAIL_UNIT), -127, 127).astype(np.int8)
    scaled[mask == 0] = BACKGROUND
    return scaled


def _foreground(greys: NDArray[np.uint8]) -> Floats:
    """1 on the image, 0 on a dark or bright background that reaches the frame, two pixels more of it: [n, 64, 64]."""
    low, high = greys.min(axis=(1, 2)).astype(np.float32), greys.max(axis=(1, 2)).astype(np.float32)
    tolerance = np.maximum(4.0, 0.08 * (high - low))
    frame = np.zeros((GREY_SIDE, GREY_SIDE), bool)
    frame[[0, -1]] = frame[:, [0, -1]] = True
    background = np.zeros(greys.shape, bool)
    for plain, least in (
        (greys <= (low + tolerance)[:, None, None], _DARK_FRAME),
        (greys >= (high - tolerance)[:, None, None], _BRIGHT_FRAME),
    ):
        background |= plain & (plain[:, frame].mean(axis=1) > least)[:, None, None]
    return (blurred(background.astype(np.float32), _WIDENED) < 0.02).astype(np.float32)


def agreement(
    first: NDArray[np.int8],
    second: NDArray[np.int8],
    first_grey: NDArray[np.uint8],
    second_grey: NDArray[np.uint8],
    symmetry: Indices,
) -> Agreement:
    """Register pairs and measure their agreement.

    Args:
        first, second: Details of the images, int8 [n, 64, 64].
        first_grey, second_grey: Grey levels, uint8 [n, 64, 64].
        symmetry: Index into `fingerprints.symmetries` for each first image, int64 [n].
    """
    a, mask_a = _split(_turned(first.astype(np.float32), symmetry))
    b, mask_b = _split(second.astype(np.float32))
    half_a, half_b = _halved(a), _halved(b)
    place, half_turn = _coarse(half_a, half_b)
    turn = symmetry + 4 * half_turn
    opposite = half_turn.astype(bool)
    for images in (a, mask_a, half_a):
        images[opposite] = images[opposite, ::-1, ::-1]
    half_mask_a, half_mask_b = _halved(mask_a), _halved(mask_b)
    place = _refined(half_a, half_b, half_mask_a, half_mask_b, place)
    rough = _block_agreement(half_a, half_b, half_mask_a, half_mask_b, place)
    blocks, pattern, difference = (np.zeros(len(a), np.float32) for _ in range(3))
    near = np.flatnonzero(rough >= _MIN_ROUGH)
    if len(near):
        a, b, mask_a, mask_b, place = a[near], b[near], mask_a[near], mask_b[near], place[near]
        place = _refined(a, b, mask_a, mask_b, place)
        blocks[near] = _block_agreement(a, b, mask_a, mask_b, place)
        grey_a = _turned(first_grey[near].astype(np.float32), turn[near])
        grey_b = second_grey[near].astype(np.float32)
        pattern[near], difference[near] = _grey_agreement(grey_a, grey_b, mask_a, mask_b, place, blocks[near])
    return Agreement(blocks, pattern, difference)


def _split(images: Floats) -> tuple[Floats, Floats]:
    """Details with 0 on the background, and the mask of the others."""
    mask = (images != BACKGROUND).astype(np.float32)
    return images * mask / np.float32(DETAIL_UNIT), mask


def _turned(images: Floats, turn: Indices) -> Floats:
    turned = np.empty_like(images)
    for number, apply in enumerate(_TURNS):
        chosen = turn == number
        if chosen.any():
            turned[chosen] = apply(images[chosen])
    return turned


def _halved(images: Floats) -> Floats:
    return np.asarray(_HALVING @ images @ _HALVING.T, dtype=np.float32)


def _summing(parts: int, side: int) -> Floats:
    """Matrix that adds up equal parts of a line: float32 [parts, side]. As a product it is faster than a reduction."""
    return np.repeat(np.eye(parts, dtype=np.float32), side // parts, axis=1)


def _scaling(scale: float, side: int) -> Floats:
    """Matrix that resamples a line, scaled about its middle: float32 [side, side]."""
    matrix = np.zeros((side, side))
    for row in range(side):
        place = min(max((row + 0.5 - side / 2) / scale + side / 2 - 0.5, 0), side - 1)
        below = min(int(place), side - 2)
        matrix[row, below] += 1 - (place - below)
        matrix[row, below + 1] += place - below
    return matrix.astype(np.float32)


_HALF = GREY_SIDE // 2
_HALVING = _summing(_HALF, GREY_SIDE) * np.float32(0.5)
_TAPER = np.sqrt(np.hanning(_HALF + 2)[1:-1]).astype(np.float32)
_WINDOW = _TAPER[:, None] * _TAPER[None]
_SCALINGS = [_scaling(scale, _HALF) for scale in _SCALES]
_SHIFTS = np.arange(-_MOST_SHIFT, _MOST_SHIFT + 1)


def _inverse(frequencies: Indices) -> NDArray[np.complex64]:
    """Inverse Fourier transform at the few shifts that are looked at: complex64 [shifts, frequencies]."""
    return np.asarray(np.exp(2j * np.pi / _HALF * _SHIFTS[:, None] * frequencies) / _HALF, dtype=np.complex64)


_DOWN = _inverse(np.arange(_HALF))
_RIGHT = _inverse(np.arange(_HALF // 2 + 1)).T
# The inner columns of `rfft2` stand for two each.
_RIGHT[1:-1] *= 2


def _coarse(a: Floats, b: Floats) -> tuple[Floats, Indices]:
    """Best scale and shift of the first images, and whether they are turned by 180°: [n, 4], [n].

    A place is scale and shift of each axis, in parts of half a side: pixel u of the second, counted from the middle,
    lies on scale·u + shift of the first.
    """
    count = len(a)
    windowed = b * _WINDOW
    spectrum, norm_b = np.fft.rfft2(windowed), np.sqrt((windowed * windowed).sum(axis=(1, 2)))
    best = np.full(count, -2.0, np.float32)
    place, half_turn = np.ones((count, 4), np.float32), np.zeros(count, np.int64)
    for scale, matrix in zip(_SCALES, _SCALINGS, strict=True):
        windowed = matrix @ a @ matrix.T * _WINDOW
        moved, norm_a = np.fft.rfft2(windowed), np.sqrt((windowed * windowed).sum(axis=(1, 2)))
        for turned in (0, 1):
            # The spectrum of an image turned by 180° is the conjugate one.
            product = (moved if turned else moved.conj()) * spectrum
            surface = (_DOWN @ product @ _RIGHT).real.reshape(count, -1)
            peak = surface.argmax(axis=1)
            value = surface[np.arange(count), peak] / np.maximum(norm_a * norm_b, 1e-6)
            better = value > best
            # Turned about pixel 0, not about the middle: one pixel more.
            down, right = (_SHIFTS[part] + turned for part in np.divmod(peak, len(_SHIFTS)))
            found = np.stack([np.ones(count), -down / _HALF * 2, np.ones(count), -right / _HALF * 2], axis=1) / scale
            best[better], place[better], half_turn[better] = value[better], found[better], turned
    return place, half_turn


def _middle_out(side: int) -> Floats:
    """Places of pixels, in parts of half a side from the middle: float32 [side]."""
    return ((np.arange(side) + 0.5 - side / 2) * 2 / side).astype(np.float32)


def _sampling(scale: Floats, shift: Floats, side: int) -> tuple[Floats, Floats]:
    """Matrices that sample lines at scale·u + shift, float32 [n, side, side]; 1 where that is inside, [n, side]."""
    place = (scale[:, None] * _middle_out(side)[None] + shift[:, None]) * (side / 2) + side / 2 - 0.5
    inside = ((place >= 0) & (place <= side - 1)).astype(np.float32)
    # A hat of width 1 around each place: linear interpolation.
    pixels = np.arange(side, dtype=np.float32)
    return np.maximum(0.0, 1.0 - np.abs(place[:, :, None] - pixels)), inside


def _sampled(images: Floats, place: Floats, *others: Floats) -> list[Floats]:
    """Images at the pixels of the second ones, and the mask of the frame they cover."""
    side = images.shape[1]
    rows, above = _sampling(place[:, 0], place[:, 1], side)
    columns, beside = _sampling(place[:, 2], place[:, 3], side)
    columns = columns.swapaxes(1, 2)
    return [*(rows @ part @ columns for part in (images, *others)), above[:, :, None] * beside[:, None]]


def _refined(a: Floats, b: Floats, mask_a: Floats, mask_b: Floats, place: Floats) -> Floats:
    """Improve the places by Gauss-Newton steps on the difference of details."""
    side, count = a.shape[1], len(a)
    out = _middle_out(side)
    down, right = np.gradient(b, 2 / side, axis=(1, 2))
    _, covered, inside = _sampled(a, place, mask_a)
    mask = (covered > 0.9) * inside * mask_b
    gradient = np.stack([down * out[:, None], down, right * out, right], axis=1) * mask[:, None]
    gradient = gradient.reshape(count, 4, -1)
    normal = gradient @ gradient.swapaxes(1, 2)
    damping = 1e-3 * np.maximum(np.trace(normal, axis1=1, axis2=2), 1e-3) / 4
    inverse = np.linalg.inv(normal + damping[:, None, None] * np.eye(4, dtype=np.float32))
    place = place.copy()
    for _ in range(_STEPS):
        moved, inside = _sampled(a, place)
        step = (inverse @ (gradient @ ((moved - b) * inside).reshape(count, -1, 1)))[:, :, 0]
        step = np.clip(step, -0.05, 0.05)
        for scale, shift in ((0, 1), (2, 3)):
            # The inverse of the step, then the place so far.
            place[:, scale] /= 1 + step[:, scale]
            place[:, shift] -= place[:, scale] * step[:, shift]
    place[:, ::2] = np.clip(place[:, ::2], 0.8, 1.25)
    place[:, 1::2] = np.clip(place[:, 1::2], -0.4, 0.4)
    return place


def _block_agreement(a: Floats, b: Floats, mask_a: Floats, mask_b: Floats, place: Floats) -> Floats:
    """Quantile of the correlations of 8×8 blocks; 0 where less than a quarter of the frame is covered."""
    side, count = a.shape[1], len(a)
    moved, covered, inside = _sampled(a, place, mask_a)
    mask = (covered > 0.9) * inside * mask_b
    size, blocks = side // _BLOCKS, _summing(_BLOCKS, side)

    def total(values: Floats) -> Floats:
        return np.asarray((blocks @ values @ blocks.T).reshape(count, -1), dtype=np.float32)

    a, b, area = moved * mask, b * mask, total(mask)
    parts = np.maximum(area, 1)
    sum_a, sum_b = total(a), total(b)
    covariance = total(a * b) - sum_a * sum_b / parts
    variance = (total(a * a) - sum_a**2 / parts) * (total(b * b) - sum_b**2 / parts)
    values = covariance / np.sqrt(np.maximum(variance, 1e-6))
    compared = area >= size * size / 2
    # The quantile among the compared blocks, by rank: the others are sorted to the end.
    ordered = np.sort(np.where(compared, values, np.inf), axis=1)
    rank = (compared.sum(axis=1) * _QUANTILE).astype(np.int64)
    enough = mask.mean(axis=(1, 2)) >= _MIN_AREA
    quantile = np.where(enough & compared.any(axis=1), ordered[np.arange(count), rank], 0.0)
    return np.asarray(quantile, dtype=np.float32)


def _grey_agreement(
    a: Floats, b: Floats, mask_a: Floats, mask_b: Floats, place: Floats, blocks: Floats
) -> tuple[Floats, Floats]:
    """Correlation of the deviations from the local mean, and root mean square difference of grey levels."""
    moved, covered, inside = _sampled(a, place, mask_a)
    mask = (covered > 0.9) * inside * mask_b
    area = np.maximum(mask.sum(axis=(1, 2)), 1)
    rest = (moved - b) * mask
    rest = (rest - (rest.sum(axis=(1, 2)) / area)[:, None, None]) * mask
    difference = np.sqrt((rest * rest).sum(axis=(1, 2)) / area)
    pattern = _pattern(moved, b, mask)
    alike = np.flatnonzero(blocks >= _MIN_EQUALIZED)
    if len(alike):
        part = mask[alike]
        equalized = _pattern(_equalized(moved[alike], part), _equalized(b[alike], part), part)
        pattern[alike] = np.maximum(pattern[alike], equalized)
    return pattern, difference


def _pattern(a: Floats, b: Floats, mask: Floats) -> Floats:
    """Correlation of the deviations from the local mean: float32 [n]."""
    weight = np.maximum(blurred(mask, COARSE), 1e-3)
    x, y = ((part - blurred(part * mask, COARSE) / weight) * mask for part in (a, b))
    power = (x * x).sum(axis=(1, 2)) * (y * y).sum(axis=(1, 2))
    return np.asarray((x * y).sum(axis=(1, 2)) / np.sqrt(np.maximum(power, 1e-6)), dtype=np.float32)


def _equalized(images: Floats, mask: Floats) -> Floats:
    """Ranks of the values within the mask, from 0 to 255: no increasing curve of grey levels changes them."""
    count = len(images)
    values = np.where(mask > 0, np.rint(images), np.float32(300)).reshape(count, -1)
    order = np.argsort(values, axis=1, kind="stable")
    ranks = np.empty_like(values)
    np.put_along_axis(ranks, order, np.arange(values.shape[1], dtype=np.float32)[None], axis=1)
    scale = 255 / np.maximum(mask.sum(axis=(1, 2)), 1)
    return np.asarray(ranks.reshape(images.shape) * scale[:, None, None] * mask, dtype=np.float32)
