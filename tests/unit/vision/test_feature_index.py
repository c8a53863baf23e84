from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore
from tests.shapes import VERSION, put_image, put_version, real_rows, shape

from genaug.schema.jobs import FeatureSources
from genaug.shared.errors import FailedPrecondition
from genaug.shared.manifest import write_rows
from genaug.shared.store import Store
from genaug.vision.features.feature_index import (
    SHARD,
    FeatureIndex,
    Shard,
    cut,
    read_feature_index,
    read_shard,
    shard_key,
    write_shard,
)

SPACE = "small"


def shard(count: int, *, first: int = 0) -> Shard:
    return Shard(np.arange(first, first + count * 2, dtype=np.float32).reshape(count, 2), np.zeros(count, np.int8))


def test_a_shard_is_found_by_its_images_in_their_order(stores) -> None:
    store = stores("labeling")
    write_shard(store, SPACE, ["a", "b"], shard(2))
    found = read_shard(store, SPACE, ["a", "b"])
    assert found is not None
    np.testing.assert_array_equal(found.features, shard(2).features)
    for space, uris in ((SPACE, ["b", "a"]), (SPACE, ["a"]), ("other", ["a", "b"])):
        assert read_shard(store, space, uris) is None


def test_the_shard_that_was_written_first_stays(stores) -> None:
    store = stores("labeling")
    write_shard(store, SPACE, ["a"], shard(1))
    write_shard(store, SPACE, ["a"], shard(1, first=5))
    assert read_shard(store, SPACE, ["a"]).features.tolist() == [[0, 1]]


@pytest.mark.parametrize("data", [b"", b"\x10\x00\x00\x00\x00\x00\x00\x00{}", b"x" * 200])
def test_damage_is_named(stores, data: bytes) -> None:
    store = stores("labeling")
    store.put_new(shard_key(SPACE, ["a"]), data)
    with pytest.raises(FailedPrecondition, match=SPACE) as caught:
        read_shard(store, SPACE, ["a"])
    assert caught.value.reason == "DAMAGED_OBJECT"


def test_a_shard_of_other_images_is_damage(stores) -> None:
    store = stores("labeling")
    write_shard(store, SPACE, ["a"], shard(2))
    with pytest.raises(FailedPrecondition, match="2 images, not of 1"):
        read_shard(store, SPACE, ["a"])


@given(st.integers(0, 400))
@settings(max_examples=40)
def test_lists_are_cut_whole(count: int) -> None:
    uris = [str(number) for number in range(count)]
    parts = list(cut(uris))
    assert [uri for part in parts for uri in part] == uris
    assert all(len(part) == SHARD for part in parts[:-1])


@given(lists=st.lists(st.lists(st.integers(0, 30), max_size=70, unique=True), max_size=4), written=st.integers(0, 15))
@settings(max_examples=40)
def test_the_index_finds_what_was_written_and_nothing_else(lists: list[list[int]], written: int) -> None:
    store = Store(MemoryStore(), "train", url="memory://")
    named = [[f"images/{number}" for number in one] for one in lists]
    there = {}
    for number, part in enumerate(part for one in named for part in cut(one)):
        if written >> number & 1:
            # The feature says which image it is.
            features = np.array([[float(uri.split("/")[1])] for uri in part], np.float32)
            write_shard(store, SPACE, part, Shard(features, np.zeros(len(part), np.int8)))
            there |= dict(zip(part, features, strict=True))
    found = FeatureIndex(named).read(store, SPACE, [f"images/{number}" for number in range(40)])
    assert found.keys() <= there.keys()
    assert all(value == there[uri] for uri, value in found.items())


def test_an_image_that_could_not_be_seen_is_not_found(stores) -> None:
    store = stores("train")
    features = np.array([[np.nan], [1]], np.float32)
    write_shard(store, SPACE, ["a", "b"], Shard(features, np.array([2, 0], np.int8)))
    assert list(FeatureIndex([["a", "b"]]).read(store, SPACE, ["a", "b"])) == ["b"]


def test_features_that_training_computed_are_kept_in_whole_shards(stores) -> None:
    real = [f"images/{number}" for number in range(SHARD + 3)]
    known = {uri: np.array([float(number)], np.float32) for number, uri in enumerate(real)}
    index = FeatureIndex([real], [["draws/0"]])
    index.write(stores("train"), SPACE, {**dict(list(known.items())[:-1]), "draws/0": np.zeros(1, np.float32)})
    assert len(list(stores("train").list(f"embeddings/{SPACE}/"))) == 1
    index.write(stores("train"), SPACE, known)
    found = index.read(stores("selection"), SPACE, [*real, "draws/0"])
    assert found == known


def test_a_runs_index_is_read_from_its_manifests(stores) -> None:
    store = stores("assembly")
    training = real_rows(store, {"lies": 3})
    validation = real_rows(store, {"lies": 2}, split="validation", first=20)
    made = put_image(
        stores("generation"), shape("lies", seed=9), "lies", folder="draws", split="train", source="synthetic"
    )
    put_version(store, [*validation, *training])
    write_rows(stores("labeling"), "labels/a/manifest.parquet", [made])
    index = read_feature_index(stores("train"), FeatureSources(views=(VERSION,), labels=("labels/a",)))
    for uris in ([row.uri for row in training], [row.uri for row in validation], [made.uri]):
        write_shard(stores("train"), SPACE, uris, shard(len(uris)))
    found = index.read(stores("train"), SPACE, [row.uri for row in (*training, *validation, made)])
    assert len(found) == 6
