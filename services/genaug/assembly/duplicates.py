"""Near-identical photographs, by two rules. A pair that meets one of them shows the same photograph.

**Thumbnails.** A perceptual hash proposes, the correlation of aligned pixels confirms. Hashes within 8 bits propose
29,484 pairs of different patients of 4,801 fundus photographs (ODIR), which all look alike; joining those would make
one group of 4,270. The correlation of 32×32 RGB pixels keeps 7 of them. At 0.9975 the first pair of unlike eyes
follows; at 0.99 a group of 157. This rule alone sees images with a side below 32 pixels.

**Details.** Spectra propose (`fingerprints`), registration confirms (`registration`): copies that were mirrored,
turned by quarters, cropped down to nine tenths, framed, dated, changed in contrast, brightness or gamma, equalized,
made grey, compressed again, scaled or blurred. The correlation of the whole pattern has to reach 0.8, and its sum with
that of 70 of 100 blocks 1.5; where grey levels differ by no more than compression makes them, 0.9 and 0.1 for each are
enough. On ODIR both rules keep 22 pairs of different patients, each the same eye, as its vessels show. With sums of
1.46 follow blurred photographs that share the camera's reflections; smooth random images reach patterns of 0.77.
`benchmarks/duplicates.py` has the figures.

Sums over thumbnails are integers. Details are compared in float32: on another processor a correlation may differ in its
sixth digit, and a pair that lies that near a limit may be judged otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genaug.assembly.fingerprints import (
    COLOR_SIDE,
    Fingerprint,
    Floats,
    Indices,
    candidates,
    in_threads,
    spectra,
)
from genaug.assembly.registration import Agreement, agreement, details

MIN_CORRELATION = 0.998
MAX_DISTANCE = 8
MIN_PATTERN = 0.8
MIN_SUM = 1.5
# A copy that differs by no more than this, in grey levels, needs less agreement of its details.
MAX_DIFFERENCE = 3.0
MIN_PATTERN_OF_EQUAL = 0.9
MIN_BLOCKS_OF_EQUAL = 0.1

# Joins beyond these shares of the images are worth a remark, from so many images on.
_MOST_JOINED, _LARGEST_GROUP, _MIN_NOTED = 0.05, 0.01, 10
_EXAMPLES = 3

_LOW = 8
_BLOCK = 1 << 22
_CHUNK = 2048
_PAIRS = 64
_IMAGES = 256


@dataclass(frozen=True)
class NearPair:
    """Two images that show the same photograph, by their indices in the list."""

    first: int
    second: int
    correlation: float
    """Of the thumbnails, or of the details once they are registered."""


def near_pairs(fingerprints: Sequence[Fingerprint], subjects: Sequence[str]) -> list[NearPair]:
    """Return near-identical images of different subjects, highest correlation first.

    Args:
        fingerprints: n fingerprints.
        subjects: n subjects; an image whose subject is "" is its own.
    """
    names = {name: number for number, name in enumerate(dict.fromkeys(subjects))}
    numbers = np.array([names[name] if name else -1 - place for place, name in enumerate(subjects)], dtype=np.int64)
    found = {(pair.first, pair.second): pair for pair in _by_details(fingerprints, numbers)}
    found |= {(pair.first, pair.second): pair for pair in _by_thumbnails(fingerprints, numbers)}
    return sorted(found.values(), key=lambda pair: (-pair.correlation, pair.first, pair.second))


def joined_note(pairs: Sequence[tuple[str, str]], groups: Mapping[str, str]) -> str:
    """Return a sentence where so many images were joined that they may not be duplicates; else nothing.

    Args:
        pairs: Image ids of near-identical images of different subjects, the most alike first.
        groups: Group of each image id after they were joined.
    """
    images = {image for pair in pairs for image in pair}
    sizes = Counter(groups.values())
    largest = max((sizes[groups[image]] for image in images), default=0)
    many = len(images) >= _MIN_NOTED and len(images) > _MOST_JOINED * len(groups)
    large = largest >= _MIN_NOTED and largest > _LARGEST_GROUP * len(groups)
    if not (many or large):
        return ""
    step = max(1, len(pairs) // _EXAMPLES)
    examples = ", ".join(f"{first} and {second}" for first, second in pairs[::step][:_EXAMPLES])
    return (
        f"{len(images)} of {len(groups)} images are near-identical to images of other subjects, and their subjects "
        f"were joined; the largest group has {largest} images. For example {examples}. Images of a kind that look "
        "alike are not always duplicates: look at these, and import with --near-duplicates report to list such pairs "
        "without joining their subjects"
    )


def _by_thumbnails(fingerprints: Sequence[Fingerprint], subjects: Indices) -> Iterator[NearPair]:
    hashes, waves = [], []
    for start in range(0, len(fingerprints), _CHUNK):
        chunk = _thumbnails(fingerprints, range(start, min(start + _CHUNK, len(fingerprints))))
        hashes.append(perceptual_hashes(chunk))
        waves.append(low_frequencies(chunk))
    wave = np.concatenate(waves)
    # The distance of a part of the frequencies is at most that of all: pairs further apart cannot correlate enough.
    furthest = 2 * (1 - MIN_CORRELATION) + 1e-4
    for first, second in _hashed_alike(np.concatenate(hashes), subjects):
        for start in range(0, len(first), _CHUNK):
            left, right = first[start : start + _CHUNK], second[start : start + _CHUNK]
            near = ((wave[left] - wave[right]) ** 2).sum(axis=1) <= furthest
            left, right = left[near], right[near]
            if not len(left):
                continue
            values = correlations(_thumbnails(fingerprints, left), _thumbnails(fingerprints, right))
            for k in np.flatnonzero(values >= MIN_CORRELATION):
                yield NearPair(int(left[k]), int(right[k]), min(float(values[k]), 1.0))


def _thumbnails(fingerprints: Sequence[Fingerprint], numbers: Sequence[int] | Indices) -> NDArray[np.uint8]:
    return np.stack([fingerprints[number].color for number in numbers])


def _low_basis() -> NDArray[np.float64]:
    frequency, place = np.arange(_LOW)[:, None], np.arange(COLOR_SIDE)[None]
    return np.asarray(np.cos(np.pi * (2 * place + 1) * frequency / (2 * COLOR_SIDE)))


def perceptual_hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hashes of thumbnails, uint8 [n, 32, 32, 3] -> uint64 [n].

    One bit for each of the 8×8 lowest frequencies of the grey image's DCT-II: set above their median
    (pHash; Zauner 2010). The mean brightness has no bit.
    """
    basis = _low_basis()
    grey = thumbnails.mean(axis=3)
    spectrum = (basis @ grey @ basis.T).reshape(len(thumbnails), _LOW * _LOW)
    bits = spectrum > np.median(spectrum[:, 1:], axis=1, keepdims=True)
    bits[:, 0] = False
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64).ravel()


def low_frequencies(thumbnails: NDArray[np.uint8]) -> Floats:
    """The 8×8 lowest frequencies of thumbnails as `correlations` sees them, centered and of length 1: float32 [n, 64].

    Vectors of two thumbnails that correlate by r are no further apart than the square root of 2 - 2·r.
    """
    basis = _low_basis()
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    values = thumbnails.astype(np.float64)
    values -= values.mean(axis=(1, 2, 3), keepdims=True)
    length = np.maximum(np.sqrt((values**2).sum(axis=(1, 2, 3))), 1e-9)
    waves = basis @ (values.sum(axis=3) / np.sqrt(3)) @ basis.T / length[:, None, None]
    return np.asarray(waves.reshape(len(thumbnails), -1), dtype=np.float32)


def correlations(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Pearson correlation of each pair of thumbnails, uint8 [n, 32, 32, 3] twice -> float64 [n]; 0 where one is flat.

    The sums are integers, so that the result is the same on every machine.
    """
    a, b = (part.reshape(len(part), -1).astype(np.int64) for part in (first, second))
    size = a.shape[1]
    sum_a, sum_b = a.sum(axis=1), b.sum(axis=1)
    covariance = size * np.einsum("ij,ij->i", a, b) - sum_a * sum_b
    variance_a = size * np.einsum("ij,ij->i", a, a) - sum_a**2
    variance_b = size * np.einsum("ij,ij->i", b, b) - sum_b**2
    scale = np.sqrt(variance_a.astype(np.float64)) * np.sqrt(variance_b.astype(np.float64))
    values: NDArray[np.float64] = np.divide(covariance, scale, out=np.zeros(len(a)), where=scale > 0)
    return values


def _hashed_alike(hashes: NDArray[np.uint64], subjects: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Indices of all pairs within `MAX_DISTANCE` bits and of different subjects, block by block to bound memory."""
    height = max(1, _BLOCK // max(1, len(hashes)))

    def alike(start: int) -> tuple[Indices, Indices]:
        close = np.bitwise_count(hashes[start : start + height, None] ^ hashes[None, start:]) <= MAX_DISTANCE
        first, second = np.nonzero(close)
        first, second = first + start, second + start
        kept = (first < second) & (subjects[first] != subjects[second])
        return first[kept], second[kept]

    return in_threads(alike, range(0, len(hashes), height))


def _by_details(fingerprints: Sequence[Fingerprint], subjects: Indices) -> Iterator[NearPair]:
    greys = {number: entry.grey for number, entry in enumerate(fingerprints) if entry.grey is not None}
    numbers = np.array(sorted(greys), dtype=np.int64)
    if len(numbers) < 2:
        return

    def stacked(chosen: Indices) -> NDArray[np.uint8]:
        return np.stack([greys[int(number)] for number in chosen])

    def parts(chosen: Indices) -> list[Indices]:
        return [chosen[start : start + _IMAGES] for start in range(0, len(chosen), _IMAGES)]

    spectrum = np.concatenate(list(in_threads(lambda part: spectra(stacked(part)), parts(numbers))))
    found = candidates(spectrum, subjects[numbers])
    first, second = numbers[found.first], numbers[found.second]
    compared = np.union1d(first, second)
    if not len(compared):
        return
    detail = np.concatenate(list(in_threads(lambda part: details(stacked(part)), parts(compared))))
    place = np.zeros(len(fingerprints), np.int64)
    place[compared] = np.arange(len(compared))

    def compare(start: int) -> Agreement:
        left, right = first[start : start + _PAIRS], second[start : start + _PAIRS]
        return agreement(
            detail[place[left]],
            detail[place[right]],
            stacked(left),
            stacked(right),
            found.symmetry[start : start + _PAIRS],
        )

    starts = range(0, len(first), _PAIRS)
    for start, result in zip(starts, in_threads(compare, starts), strict=True):
        equal = (result.difference <= MAX_DIFFERENCE) & (result.pattern >= MIN_PATTERN_OF_EQUAL)
        alike = (result.pattern >= MIN_PATTERN) & (result.pattern + result.blocks >= MIN_SUM)
        alike |= equal & (result.blocks >= MIN_BLOCKS_OF_EQUAL)
        for k in np.flatnonzero(alike):
            correlation = max(0.0, min(float(result.pattern[k]), 1.0))
            yield NearPair(int(first[start + k]), int(second[start + k]), correlation)
