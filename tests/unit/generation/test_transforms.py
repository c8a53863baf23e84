from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.generation.conftest import IMAGES, World

from genaug.generation.artifacts import read_artifact
from genaug.generation.generators.transforms.generator import Config, Transforms, transform
from genaug.generation.sampling.draw import draw
from genaug.generation.sampling.receipts import ImageRequest
from genaug.schema.common import TransformSpec
from genaug.schema.sampling import Sampler
from genaug.shared.errors import Cancelled, FailedPrecondition
from genaug.vision.images.pixels import Pixels


def noise(side: int = 8, channels: int = 1, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (side, side, channels), dtype=np.uint8)


def ranges(flip: bool, degrees: float, shift: float, scale: float, color: float) -> TransformSpec:
    return TransformSpec(horizontal_flip=flip, rotate_degrees=degrees, shift=shift, scale=scale, color=color)


@given(
    side=st.sampled_from([8, 16, 24]),
    channels=st.sampled_from([1, 3]),
    flip=st.booleans(),
    degrees=st.floats(0.1, 180),
    shift=st.floats(0, 0.5),
    scale=st.floats(0, 0.5),
    color=st.floats(0, 0.5),
    seed=st.integers(0, 2**63 - 1),
)
@settings(max_examples=60)
def test_a_transform_keeps_the_shape_and_is_never_the_identity(
    side: int, channels: int, flip: bool, degrees: float, shift: float, scale: float, color: float, seed: int
) -> None:
    pixels = noise(side, channels)
    changed = transform(pixels, ranges(flip, degrees, shift, scale, color), rng=np.random.default_rng(seed))
    assert (changed.shape, changed.dtype) == (pixels.shape, np.uint8)
    # Below a degree, every pixel of a small image may round to what it was.
    assert degrees < 1 or not np.array_equal(changed, pixels)


def test_where_only_the_flip_is_open_the_image_is_mirrored() -> None:
    for seed in range(8):
        changed = transform(noise(), ranges(True, 0, 0, 0, 0), rng=np.random.default_rng(seed))
        assert np.array_equal(changed, noise()[:, ::-1])


def test_no_image_is_mirrored_unless_that_is_allowed() -> None:
    pixels = np.zeros((16, 16, 1), np.uint8)
    pixels[:, :8] = 200
    for seed in range(20):
        changed = transform(pixels, ranges(False, 10, 0.05, 0.1, 0.1), rng=np.random.default_rng(seed))
        assert changed[:, :5].mean() > 150 > 50 > changed[:, 11:].mean()


def test_a_turn_goes_about_the_centre_and_stays_within_its_range() -> None:
    pixels = np.zeros((33, 33, 1), np.uint8)
    pixels[15:18, 15:18] = 255
    for seed in range(20):
        changed = transform(pixels, ranges(False, 180, 0, 0, 0), rng=np.random.default_rng(seed))
        rows, columns = np.nonzero(changed[:, :, 0] > 128)
        assert abs(rows.mean() - 16) < 0.3
        assert abs(columns.mean() - 16) < 0.3


def test_a_shift_stays_within_its_range() -> None:
    pixels = np.zeros((40, 40, 1), np.uint8)
    pixels[18:22, 18:22] = 255
    centres = []
    for seed in range(40):
        changed = transform(pixels, ranges(False, 0, 0.1, 0, 0), rng=np.random.default_rng(seed))
        rows, columns = np.nonzero(changed[:, :, 0] > 128)
        centres.append((rows.mean() - 19.5, columns.mean() - 19.5))
    assert 3 < np.abs(centres).max() <= 4.5


def test_no_black_corner_moves_in() -> None:
    changed = transform(
        np.full((16, 16, 3), 200, np.uint8), ranges(False, 45, 0.3, 0.3, 0), rng=np.random.default_rng(0)
    )
    assert (changed == 200).all()


def load(world: World) -> Transforms:
    name = world.finetune("transforms")
    return Transforms.load(read_artifact(world.stores("generation"), name))


@given(seed=st.integers(-(2**63), 2**63 - 1), first=st.integers(0, 10**9))
@settings(max_examples=20)
def test_as_many_draws_as_originals_use_each_original_once(generator: Transforms, seed: int, first: int) -> None:
    parents = [generator.make(ImageRequest("lies", seed, first + offset)).parent_ids[0] for offset in range(IMAGES)]
    assert len(set(parents)) == IMAGES


@pytest.fixture(scope="module")
def generator() -> Transforms:
    pixels = np.stack([noise(seed=seed) for seed in range(2 * IMAGES)])
    return Transforms(
        "generators/" + "0" * 32,
        TransformSpec(),
        classes=["lies", "stands"],
        pixels=pixels,
        ids=[f"{number:032x}" for number in range(2 * IMAGES)],
        labels=np.repeat([0, 1], IMAGES),
    )


def test_two_seeds_take_the_originals_in_other_orders(generator: Transforms) -> None:
    orders = {
        tuple(generator.make(ImageRequest("lies", seed, i)).parent_ids for i in range(IMAGES)) for seed in range(10)
    }
    assert len(orders) > 5


def test_draws_of_one_original_differ(generator: Transforms) -> None:
    drawn = [generator.make(ImageRequest("lies", 0, round_ * IMAGES)) for round_ in range(5)]
    assert len({one.parent_ids for one in drawn}) == 1
    assert len({one.pixels.tobytes() for one in drawn}) == 5


def test_a_packed_generator_draws_from_the_images_of_its_class(world: World) -> None:
    generator = load(world)
    of_class = {row.image_id for row in world.rows if row.class_name == "stands"}
    parents = {generator.make(ImageRequest("stands", 0, index)).parent_ids[0] for index in range(IMAGES)}
    assert parents == of_class


def test_a_draw_looks_like_its_parent(world: World) -> None:
    from genaug.vision.images.load_images import load_pixels

    generator = load(world)
    drawn = generator.make(ImageRequest("lies", 0, 0))
    pixels = load_pixels(world.stores("assembly"), world.rows, image_size=8, channels=1).astype(float)
    distances = np.abs(pixels - drawn.pixels).mean(axis=(1, 2, 3))
    assert (world.rows[int(distances.argmin())].image_id,) == drawn.parent_ids


def test_cancelling_stops_between_two_images(generator: Transforms) -> None:
    answers = iter([True, False])
    requests = [ImageRequest("lies", 0, index) for index in range(3)]
    events = draw(generator, requests, sampler=Sampler(), is_active=lambda: next(answers))
    assert next(events).request == requests[0]
    with pytest.raises(Cancelled):
        next(events)


def test_images_that_cannot_be_read_are_refused(world: World) -> None:
    artifact = read_artifact(world.stores("generation"), world.finetune("transforms"))
    with pytest.raises(FailedPrecondition, match="cannot be read"):
        Transforms.load(replace(artifact, weights=b"no safetensors"))


def test_ranges_are_stored_in_the_spelling_of_earlier_releases(world: World) -> None:
    artifact = read_artifact(world.stores("generation"), world.finetune("transforms", color=0.2))
    assert artifact.config["transforms"] == {
        "horizontal_flip": False, "rotate_degrees": 10.0, "shift": 0.05, "scale": 0.1, "colour": 0.2,
    }  # fmt: skip
    assert artifact.parse_config(Config).transforms == TransformSpec(color=0.2)
