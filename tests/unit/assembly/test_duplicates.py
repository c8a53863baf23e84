"""Near-identical photographs: copies are found, likenesses are not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from genaug.assembly.duplicates import (
    MAX_DISTANCE,
    MIN_CORRELATION,
    correlations,
    joined_note,
    low_frequencies,
    near_pairs,
    perceptual_hashes,
)
from genaug.assembly.fingerprints import GREY_SIDE, candidates, fingerprint, spectra, symmetries

FLIP, TURN = Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose


def jpeg(image, quality):
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=quality)
    return Image.open(sink).convert("RGB")


def cropped(image, share, across=0.5, down=0.5):
    width, height = (round(side * share) for side in image.size)
    left, top = round((image.width - width) * across), round((image.height - height) * down)
    return image.crop((left, top, left + width, top + height))


def dated(image):
    image = image.copy()
    ImageDraw.Draw(image).text((5, image.height - 16), "2019-03-21 14:05", fill=(255, 255, 0))
    return image


def gamma(image, exponent):
    return image.point([round(255 * (value / 255) ** exponent) for value in range(256)] * 3)


def scaled(image, share):
    return image.resize([round(side * share) for side in image.size], Image.Resampling.BICUBIC)


CHANGES = {
    "mirrored": lambda image: image.transpose(FLIP),
    "upside down": lambda image: image.transpose(TURN.FLIP_TOP_BOTTOM),
    "turned by 90°": lambda image: image.transpose(TURN.ROTATE_90),
    "turned by 180°": lambda image: image.transpose(TURN.ROTATE_180),
    "turned by 270°": lambda image: image.transpose(TURN.ROTATE_270),
    "transposed": lambda image: image.transpose(TURN.TRANSPOSE),
    "transversed": lambda image: image.transpose(TURN.TRANSVERSE),
    "cropped to 95 %": lambda image: cropped(image, 0.95),
    "cropped to 90 %": lambda image: cropped(image, 0.9),
    "cropped to a corner": lambda image: cropped(image, 0.9, 0, 1),
    "letterbox": lambda image: ImageOps.expand(image, (0, 30), (0, 0, 0)),
    "white border": lambda image: jpeg(ImageOps.expand(image, 20, (255, 255, 255)), 90),
    "dated": dated,
    "contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.5),
    "brightness": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "gamma": lambda image: gamma(image, 1.6),
    "equalized": ImageOps.equalize,
    "grey": lambda image: image.convert("L").convert("RGB"),
    "JPEG of quality 10": lambda image: jpeg(image, 10),
    "JPEG of quality 92": lambda image: jpeg(image, 92),
    "quarter size": lambda image: scaled(image, 0.25),
    "twice the size": lambda image: scaled(image, 2),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1.5)),
    "mirrored, cropped, compressed": lambda image: jpeg(cropped(image.transpose(FLIP), 0.95, 0.2, 0.7), 50),
}


def scene(seed: int) -> Image.Image:
    """A round aperture, the same in all scenes, over smooth random colors; details at several scales."""
    rng = np.random.default_rng(seed)
    total = np.zeros((160, 192, 3))
    for cells, weight in ((5, 60), (12, 40), (30, 30)):
        coarse = rng.normal(size=(cells, cells, 3)).astype(np.float32)
        layers = [Image.fromarray(coarse[:, :, k]).resize((192, 160), Image.Resampling.BICUBIC) for k in range(3)]
        total += weight * np.stack(layers, axis=2)
    y, x = np.mgrid[-1:1:160j, -1:1:192j]
    return Image.fromarray((np.clip(128 + total, 20, 255) * (x * x + y * y < 1)[:, :, None]).astype(np.uint8))


def prints(images):
    return [fingerprint(np.asarray(image)) for image in images]


@pytest.fixture(scope="module")
def scenes():
    return [scene(seed) for seed in range(30)]


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_copy_is_found(scenes, name) -> None:
    copy = CHANGES[name](scenes[17])
    (pair,) = near_pairs(prints([*scenes, copy]), [str(n) for n in range(31)])
    assert (pair.first, pair.second) == (17, 30)
    assert 0.5 <= pair.correlation <= 1


def test_one_photograph_among_many_of_one_aperture_is_no_copy(scenes) -> None:
    assert near_pairs(prints(scenes), [""] * len(scenes)) == []


def test_another_part_of_the_aperture_is_no_copy() -> None:
    """Two scenes with half of their contents in common are not one photograph."""
    one, two = np.asarray(scene(1)).copy(), np.asarray(scene(2))
    one[:, 96:] = two[:, 96:]
    assert near_pairs(prints([Image.fromarray(one), scene(1), scene(2)]), ["", "", ""]) == []


def test_copies_of_one_subject_are_no_concern(photograph) -> None:
    images = prints([photograph(n) for n in (0, 1, 1)])
    assert near_pairs(images, ["p", "q", "q"]) == []
    assert len(near_pairs(images, ["p", "", ""])) == 1


def test_a_hash_alone_does_not_join(photograph) -> None:
    one = photograph(3).astype(np.int16)
    two = np.clip(one + np.random.default_rng(0).normal(0, 40, one.shape), 0, 255)
    pair = prints([part.astype(np.uint8) for part in (one, two)])
    hashes = perceptual_hashes(np.stack([part.color for part in pair]))
    assert np.bitwise_count(hashes[0] ^ hashes[1]) <= MAX_DISTANCE
    assert near_pairs(pair, ["p", "q"]) == []


def test_tiny_images_are_compared_by_their_thumbnails_alone() -> None:
    rng = np.random.default_rng(1)
    tiny = [rng.integers(0, 256, (8, 8, 1), dtype=np.uint8) for _ in range(40)]
    images = [fingerprint(image) for image in [*tiny, tiny[5], tiny[6][:, ::-1]]]
    assert all(image.grey is None for image in images)
    assert [(pair.first, pair.second) for pair in near_pairs(images, [""] * 42)] == [(5, 40)]


def test_a_border_is_left_out_of_the_grey_fingerprint(scenes) -> None:
    framed = ImageOps.expand(ImageOps.expand(scenes[0], (0, 20), (0, 0, 0)), 15, (255, 255, 255))
    plain, other = (fingerprint(np.asarray(image)).grey.astype(int) for image in (scenes[0], framed))
    assert np.abs(plain - other).mean() < 8
    empty = fingerprint(np.full((64, 64, 3), 9, np.uint8))
    assert empty.grey.shape == (GREY_SIDE, GREY_SIDE)


def test_correlation_is_pearsons(photograph) -> None:
    one, two = (image.color for image in prints([photograph(1), photograph(2)]))
    expected = np.corrcoef(one.ravel(), two.ravel())[0, 1]
    assert correlations(one[None], two[None])[0] == pytest.approx(expected, abs=1e-12)
    flat = np.full_like(one, 7)
    assert correlations(one[None], flat[None])[0] == 0


def test_low_frequencies_are_no_further_apart_than_correlations_allow(photograph) -> None:
    colors = np.stack([image.color for image in prints([photograph(n) for n in range(6)])])
    noisy = np.clip(colors + np.random.default_rng(2).normal(0, 3, colors.shape), 0, 255).astype(np.uint8)
    apart = ((low_frequencies(colors) - low_frequencies(noisy)) ** 2).sum(axis=1)
    assert (apart <= 2 - 2 * correlations(colors, noisy) + 1e-5).all()
    assert (correlations(colors, noisy) > MIN_CORRELATION - 0.05).all()


def test_spectra_change_places_with_the_image(scenes) -> None:
    grey = fingerprint(np.asarray(scenes[3])).grey
    turned = [grey, grey[:, ::-1], np.rot90(grey), np.rot90(grey[:, ::-1])]
    expected = symmetries(spectra(grey[None]))
    for image, values in zip(turned, expected, strict=True):
        for half_turn in (image, image[::-1, ::-1]):
            assert np.allclose(spectra(half_turn[None].copy()), values, atol=2e-3)


def test_blocks_cover_all_pairs(scenes, monkeypatch) -> None:
    images = prints([*scenes[:20], *(image.transpose(FLIP) for image in scenes[:10]), *scenes[10:20]])
    whole = near_pairs(images, [""] * 40)
    for name, value in (("duplicates._BLOCK", 120), ("duplicates._PAIRS", 3), ("duplicates._IMAGES", 7)):
        monkeypatch.setattr(f"genaug.assembly.{name}", value)
    for name, value in (("_ROWS", 4), ("_COLUMNS", 8), ("_MOST_KEPT", 50)):
        monkeypatch.setattr(f"genaug.assembly.fingerprints.{name}", value)
    again = near_pairs(images, [""] * 40)
    expected = [(n, n + 20) for n in range(20)]
    for pairs in (whole, again):
        assert sorted((pair.first, pair.second) for pair in pairs) == expected
    assert [pair.correlation for pair in again] == pytest.approx([pair.correlation for pair in whole], abs=1e-5)


def test_many_copies_of_one_image_are_linked_to_each_other_by_few_pairs() -> None:
    greys = np.stack([fingerprint(np.asarray(scene(n % 10))).grey for n in range(600)])
    found = candidates(spectra(greys), np.arange(600))
    assert len(found.first) <= 600 + 4000
    group = list(range(600))
    for first, second in zip(found.first, found.second, strict=True):
        if first % 10 == second % 10:
            low, high = sorted((group[first], group[second]))
            group = [low if number == high else number for number in group]
    assert len(set(group)) == 10


def test_joins_beyond_the_usual_are_said() -> None:
    groups = {f"i{n}": f"i{n}" for n in range(400)}
    few = [(f"i{2 * n}", f"i{2 * n + 1}") for n in range(4)]
    assert joined_note(few, groups | {second: first for first, second in few}) == ""
    many = [(f"i{2 * n}", f"i{2 * n + 1}") for n in range(11)]
    note = joined_note(many, groups | {second: first for first, second in many})
    assert "22 of 400 images" in note
    assert "i0 and i1" in note
    assert "--near-duplicates report" in note
    crowd = [("i0", f"i{n}") for n in range(1, 11)]
    assert "the largest group has 11 images" in joined_note(crowd, groups | {f"i{n}": "i0" for n in range(11)})
