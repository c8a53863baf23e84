"""Near-identical photographs: copies are found, likenesses are not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from genaug.assembly.duplicates import MAX_DISTANCE, correlations, near_pairs, perceptual_hashes, thumbnail


def jpeg(pixels, quality):
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", quality=quality)
    return np.asarray(Image.open(sink).convert("RGB"))


@pytest.mark.parametrize(
    "change",
    [
        lambda p: jpeg(p, 92),
        lambda p: np.asarray(Image.fromarray(p).resize((97, 120), Image.Resampling.BICUBIC)),
        lambda p: (p * 0.9).astype(np.uint8),
    ],
    ids=["recompressed", "rescaled", "darkened"],
)
def test_a_changed_copy_is_found(photograph, change) -> None:
    images = [photograph(seed) for seed in range(30)]
    copy = change(images[17])
    thumbnails = np.stack([thumbnail(image) for image in [*images, copy]])
    (pair,) = near_pairs(thumbnails, [str(n) for n in range(31)])
    assert (pair.first, pair.second) == (17, 30)
    assert 0.998 <= pair.correlation <= 1


def test_copies_of_one_subject_are_no_concern(photograph) -> None:
    thumbnails = np.stack([thumbnail(photograph(n)) for n in (0, 1, 1)])
    assert near_pairs(thumbnails, ["p", "q", "q"]) == []
    assert len(near_pairs(thumbnails, ["p", "", ""])) == 1


def test_a_hash_alone_does_not_join(photograph) -> None:
    one = photograph(3).astype(np.int16)
    two = np.clip(one + np.random.default_rng(0).normal(0, 40, one.shape), 0, 255)
    thumbnails = np.stack([thumbnail(part.astype(np.uint8)) for part in (one, two)])
    hashes = perceptual_hashes(thumbnails)
    assert np.bitwise_count(hashes[0] ^ hashes[1]) <= MAX_DISTANCE
    assert near_pairs(thumbnails, ["p", "q"]) == []


def test_tiny_images_are_compared_too() -> None:
    rng = np.random.default_rng(1)
    tiny = [rng.integers(0, 256, (8, 8, 1), dtype=np.uint8) for _ in range(40)]
    thumbnails = np.stack([thumbnail(image) for image in [*tiny, tiny[5]]])
    assert [(pair.first, pair.second) for pair in near_pairs(thumbnails, [""] * 41)] == [(5, 40)]


def test_correlation_is_pearsons(photograph) -> None:
    one, two = thumbnail(photograph(1)), thumbnail(photograph(2))
    expected = np.corrcoef(one.ravel(), two.ravel())[0, 1]
    assert correlations(one[None], two[None])[0] == pytest.approx(expected, abs=1e-12)
    flat = np.full_like(one, 7)
    assert correlations(one[None], flat[None])[0] == 0


def test_blocks_cover_all_pairs(photograph, monkeypatch) -> None:
    thumbnails = np.stack([thumbnail(photograph(n % 20)) for n in range(40)])
    whole = near_pairs(thumbnails, [""] * 40)
    monkeypatch.setattr("genaug.assembly.duplicates._BLOCK", 120)
    assert near_pairs(thumbnails, [""] * 40) == whole
    assert sorted((pair.first, pair.second) for pair in whole) == [(n, n + 20) for n in range(20)]
