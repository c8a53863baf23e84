"""Fingerprints of images, taken when they are decoded, and the choice of pairs to compare.

A pair is proposed by the amplitudes of the locally normalized image's spectrum, pooled over 8 rings and 16 directions:
they stay when the image moves (a crop, a border), change little with scale (rings are an octave's third wide), and only
change places under rotation by quarters and mirroring. Vectors are whitened over the images at hand, which takes out
all that look-alike images have in common, such as a round aperture.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from genaug.vision.images.pixels import Pixels, with_channels

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
T = TypeVar("T")
R = TypeVar("R")

COLOR_SIDE = 32
GREY_SIDE = 64
MIN_SIDE = 32
"""Images with a shorter side hold too little for the comparison of details."""

# A line at the edge belongs to a border if its values spread over no more than this.
_BORDER_SPREAD = 12
# Lines next to a border mix its color with the image's: this share of the side is cut off with it.
_BORDER_MARGIN = 64

_RINGS, _DIRECTIONS = 8, 16
# Periods per side, between which the rings lie.
_LOWEST, _HIGHEST = 2.0, 20.0
_DIMENSIONS = 96
# Weight, in images, of the assumption that all directions vary alike: few images cannot say how theirs do.
_PRIOR_IMAGES = 64

_MIN_LIKENESS = 0.35
_NEIGHBORS = 8
_ROWS, _COLUMNS = 256, 8192
_MOST_KEPT = 1 << 22
_BATCH = 256


@dataclass(frozen=True)
class Fingerprint:
    """Thumbnails of an image for comparison with other images; 7 KiB."""

    color: NDArray[np.uint8]
    """The whole image as RGB, uint8 [32, 32, 3]."""
    grey: NDArray[np.uint8] | None
    """The image without a border of one color, as grey, uint8 [64, 64]; None if its shorter side is below 32 pixels."""


def fingerprint(pixels: Pixels) -> Fingerprint:
    """Return the fingerprint of an image."""
    image = Image.fromarray(with_channels(pixels, 3))
    side = min(image.size)
    filter = Image.Resampling.BOX if side >= COLOR_SIDE else Image.Resampling.BILINEAR
    color = np.asarray(image.resize((COLOR_SIDE, COLOR_SIDE), filter))
    if side < MIN_SIDE:
        return Fingerprint(color, None)
    size = (GREY_SIDE, GREY_SIDE)
    box = _content_box(pixels)
    # Reduced before it becomes grey: a large image has no second copy of its size.
    grey = image.resize(size, Image.Resampling.BILINEAR, box=box, reducing_gap=2.0).convert("L")
    return Fingerprint(color, np.asarray(grey))


def _content_box(pixels: Pixels) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the image without its borders, which may lie in one another.

    At least half of each side stays.
    """
    height, width = pixels.shape[:2]
    # Lines from the edge inwards: top, bottom, left, right.
    cut = [0, 0, 0, 0]
    lines: list[Callable[[int], Pixels]] = [
        lambda n: pixels[n, cut[2] : width - cut[3]],
        lambda n: pixels[height - 1 - n, cut[2] : width - cut[3]],
        lambda n: pixels[cut[0] : height - cut[1], n],
        lambda n: pixels[cut[0] : height - cut[1], width - 1 - n],
    ]
    sides = (height, height, width, width)
    before: list[int] = []
    while before != cut:
        before = cut[:]
        for edge, line in enumerate(lines):
            while cut[edge] < sides[edge] // 4 and _is_plain(line(cut[edge])):
                cut[edge] += 1
    top, bottom, left, right = (n + side // _BORDER_MARGIN + 1 if n else 0 for n, side in zip(cut, sides, strict=True))
    return left, top, width - right, height - bottom


def _is_plain(line: Pixels) -> bool:
    # Most lines are found not to be plain by a few of their pixels.
    return all(
        int((part.max(axis=0).astype(np.int16) - part.min(axis=0)).max()) <= _BORDER_SPREAD
        for part in (line[::16], line)
    )


def blur_matrix(radius: int, side: int = GREY_SIDE) -> Floats:
    """Matrix of a running mean of 2·radius+1 pixels, applied twice, edges repeated: float32 [side, side]."""
    matrix = np.zeros((side, side))
    for row in range(side):
        for step in range(-radius, radius + 1):
            matrix[row, min(max(row + step, 0), side - 1)] += 1 / (2 * radius + 1)
    blurred: Floats = (matrix @ matrix).astype(np.float32)
    return blurred


def blurred(images: Floats, matrix: Floats) -> Floats:
    """Blur along both sides: float32 [n, side, side]."""
    return np.asarray(matrix @ images @ matrix.T, dtype=np.float32)


FINE, COARSE = blur_matrix(3), blur_matrix(8)
# Grey levels below which a deviation is noise.
NOISE = 2.0


def spectra(greys: NDArray[np.uint8]) -> Floats:
    """Log amplitudes of the locally normalized images: uint8 [n, 64, 64] -> float32 [n, rings, directions]."""
    detail = greys - blurred(greys.astype(np.float32), FINE)
    deviation = np.sqrt(np.maximum(blurred(detail * detail, COARSE), 0.0))
    # Bounded, so that the few strongest edges do not decide alone: equalization makes them stronger or weaker.
    bounded = np.tanh(detail / (deviation + NOISE))
    amplitudes = np.abs(np.fft.rfft2(bounded * _WINDOW)).astype(np.float32)
    pooled: Floats = np.log1p(amplitudes.reshape(len(greys), -1) @ _POOLING)
    return pooled.reshape(len(greys), _RINGS, _DIRECTIONS)


def symmetries(values: Floats) -> list[Floats]:
    """Spectra of the image as it is, mirrored left to right, turned by 90°, and mirrored then turned.

    The spectrum of an image is that of the image turned by 180°, so these stand for all eight symmetries.
    """
    mirrored = values[..., -np.arange(_DIRECTIONS) % _DIRECTIONS]
    quarter = _DIRECTIONS // 2
    return [values, mirrored, np.roll(values, quarter, -1), np.roll(mirrored, quarter, -1)]


def _window(side: int) -> Floats:
    taper = np.sqrt(np.hanning(side + 2)[1:-1]).astype(np.float32)
    return np.asarray(taper[:, None] * taper[None])


def _pooling() -> Floats:
    """Weights of the amplitudes of `rfft2` in each ring and direction: float32 [64·33, rings·directions]."""
    half = GREY_SIDE // 2
    x, y = np.meshgrid(np.arange(half + 1), np.fft.fftfreq(GREY_SIDE) * GREY_SIDE)
    radius, angle = np.log(np.maximum(np.hypot(x, y), 1e-3)), np.mod(np.arctan2(y, x), np.pi)
    # The half plane that rfft2 leaves out holds the same amplitudes again, except on its own two edges.
    times = np.where((x == 0) | (x == half), 1.0, 2.0)
    step = (np.log(_HIGHEST) - np.log(_LOWEST)) / _RINGS
    weights = []
    for ring in range(_RINGS):
        on_ring = np.maximum(0, 1 - np.abs(radius - np.log(_LOWEST) - (ring + 0.5) * step) / step)
        for direction in range(_DIRECTIONS):
            apart = np.abs(angle - direction * np.pi / _DIRECTIONS)
            towards = np.maximum(0, 1 - np.minimum(apart, np.pi - apart) * _DIRECTIONS / np.pi)
            weight = on_ring * towards * times
            weights.append((weight / max(weight.sum(), 1e-6)).ravel())
    return np.stack(weights, axis=1).astype(np.float32)


_WINDOW = _window(GREY_SIDE)
_POOLING = _pooling()


@dataclass(frozen=True)
class Candidates:
    """Pairs of images to compare, by their indices: first below second."""

    first: Indices
    second: Indices
    symmetry: Indices
    """The index into `symmetries` that brings the first nearest to the second."""


def candidates(spectrum: Floats, subjects: Indices) -> Candidates:
    """Return the pairs of different subjects that are most alike, each among the 8 nearest of one of its images.

    Args:
        spectrum: float32 [n, rings, directions], see `spectra`.
        subjects: int64 [n].

    Returns:
        n + 4,000 pairs at most, so that look-alike images take no longer than others.
    """
    variants = _whitened(spectrum)
    tiles = [
        (row, column)
        for row in range(0, len(spectrum), _ROWS)
        for column in range(row - row % _COLUMNS, len(spectrum), _COLUMNS)
    ]
    found = _Strongest(len(spectrum))
    for first, second, likeness in in_threads(lambda tile: _alike(variants, subjects, *tile), tiles):
        found.add(first, second, likeness)
    first, second = found.strongest(len(spectrum) + 4000)
    likeness = np.stack([np.einsum("nd,nd->n", variant[first], variants[0][second]) for variant in variants])
    return Candidates(first, second, likeness.argmax(axis=0))


def _whitened(spectrum: Floats) -> list[Floats]:
    """Unit vectors of each image under each symmetry: float32 [n, dimensions] four times."""
    every = [variant.reshape(len(spectrum), -1) for variant in symmetries(spectrum)]
    # Over all symmetries, so that their vectors are alike.
    mean = np.mean([variant.mean(axis=0, dtype=np.float64) for variant in every], axis=0).astype(np.float32)
    scatter = sum(((variant - mean).T @ (variant - mean)).astype(np.float64) for variant in every) / len(every)
    size = scatter.shape[0]
    prior = np.trace(scatter) / size / len(spectrum) * _PRIOR_IMAGES
    scatter = scatter + prior * np.eye(size)
    variance, axes = np.linalg.eigh(scatter)
    matrix = (axes[:, -_DIMENSIONS:] / np.sqrt(np.maximum(variance[-_DIMENSIONS:], 1e-12))).astype(np.float32)
    vectors = [(variant - mean) @ matrix for variant in every]
    return [part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-9) for part in vectors]


def _alike(variants: Sequence[Floats], subjects: Indices, row: int, column: int) -> tuple[Indices, Indices, Floats]:
    """Pairs of one tile that reach `_MIN_LIKENESS` and are of different subjects, and their likeness."""
    columns = variants[0][column : column + _COLUMNS].T
    likeness = variants[0][row : row + _ROWS] @ columns
    for variant in variants[1:]:
        np.maximum(likeness, variant[row : row + _ROWS] @ columns, out=likeness)
    first, second = np.nonzero(likeness >= _MIN_LIKENESS)
    values = likeness[first, second]
    first, second = first + row, second + column
    wanted = (first < second) & (subjects[first] != subjects[second])
    return first[wanted], second[wanted], values[wanted]


class _Strongest:
    """The strongest pairs of each image so far."""

    def __init__(self, images: int) -> None:
        self._images = images
        self._parts: list[tuple[Indices, Indices, Floats]] = []
        self._size = 0

    def add(self, first: Indices, second: Indices, likeness: Floats) -> None:
        """Add pairs. Once too many are held, those that are not among the strongest of an image are dropped."""
        if len(first) > 2 * _NEIGHBORS * _ROWS:
            first, second, likeness = _nearest(first, second, likeness)
        self._parts.append((first, second, likeness))
        self._size += len(first)
        if self._size > _MOST_KEPT:
            self._parts = [_nearest(*self._joined())]
            self._size = len(self._parts[0][0])

    def strongest(self, limit: int) -> tuple[Indices, Indices]:
        """Return up to `limit` pairs, in order of their indices."""
        if not self._parts:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        first, second, likeness = _nearest(*self._joined())
        order = np.lexsort((second, first, -_rounded(likeness)))[:limit]
        order = order[np.lexsort((second[order], first[order]))]
        return first[order], second[order]

    def _joined(self) -> tuple[Indices, Indices, Floats]:
        first, second, likeness = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        return first, second, likeness


def _nearest(first: Indices, second: Indices, likeness: Floats) -> tuple[Indices, Indices, Floats]:
    """Keep the pairs that are among the `_NEIGHBORS` nearest of one of their images."""
    kept = np.zeros(len(first), bool)
    for here, there in ((first, second), (second, first)):
        # Of equal ones the lowest index: then copies of one image are all linked to the same few.
        order = np.lexsort((there, -_rounded(likeness), here))
        start = np.flatnonzero(np.diff(here[order], prepend=-1))
        rank = np.arange(len(order)) - np.repeat(start, np.diff(start, append=len(order)))
        kept[order[rank < _NEIGHBORS]] = True
    return first[kept], second[kept], likeness[kept]


def _rounded(likeness: Floats) -> Floats:
    # The last digits of a matrix product differ between processors.
    return np.round(likeness, 3)


def in_threads(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield the results of `work` in order, computed by a thread per processor, few of them ahead."""
    workers = max(1, min(4, len(os.sched_getaffinity(0))))
    waiting = iter(items)
    with ThreadPoolExecutor(workers, thread_name_prefix="duplicates") as pool:
        futures = [pool.submit(work, item) for item in islice(waiting, 2 * workers)]
        while futures:
            result = futures.pop(0).result()
            futures += [pool.submit(work, item) for item in islice(waiting, 1)]
            yield result
