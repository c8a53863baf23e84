from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
import safetensors.numpy
from tests.shapes import VERSION, put_image, put_version, real_rows, served, shape

from genaug.selection.embed import Doing, Embedding, embed, embedding_name, read_embedding
from genaug.shared.errors import Cancelled, FailedPrecondition, NotFound
from genaug.vision.batching.dynamic_batcher import Model
from genaug.vision.features.image_encoder import LocalEncoder
from genaug.vision.images.load_images import load_pixels
from genaug.vision.models.backbones import SMALL_CNN
from genaug.vision.models.classifiers import Classifier
from genaug.vision.models.networks import build_network
from genaug.vision.models.precision import BFLOAT16, FLOAT32

CLASSIFIER = Model("classifiers/" + "c" * 32, FLOAT32)


def model() -> Classifier:
    network = build_network(SMALL_CNN, image_size=8, channels=1, classes=2, seed=0)
    return Classifier(("a", "b"), network, name=CLASSIFIER.name)


def eye(wanted: Model) -> LocalEncoder:
    assert wanted == CLASSIFIER
    return served(model())


@pytest.fixture
def rows(stores):
    store = stores("assembly")
    made = put_image(store, shape("lies", seed=99), "lies", folder="draws", split="train", source="synthetic")
    validation = real_rows(store, {"lies": 2}, split="validation", first=50)
    training = real_rows(store, {"lies": 4, "stands": 3})
    put_version(store, [*validation, *training, made])
    return training


def test_real_training_images_are_embedded_in_order(stores, rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genaug.vision.features.feature_index.SHARD", 3)
    *progress, found = embed(stores("selection"), VERSION, CLASSIFIER, eye=eye)
    assert progress == [Doing("embedding", done, 7) for done in (3, 6, 7)]
    assert isinstance(found, Embedding)
    assert found.name == embedding_name(VERSION, CLASSIFIER)
    assert (found.dataset_version, found.classifier, found.precision) == (VERSION, *astuple(CLASSIFIER))
    assert found.image_ids == tuple(row.image_id for row in rows)
    expected = model().features(load_pixels(stores("selection"), rows, image_size=8, channels=1))
    np.testing.assert_array_equal(found.features, expected)
    assert found.features.dtype == np.float32
    assert found.features.shape == (7, 64)
    assert read_embedding(stores("report"), found.name).image_ids == found.image_ids


def test_asking_again_computes_nothing(stores, rows) -> None:
    *_, first = embed(stores("selection"), VERSION, CLASSIFIER, eye=eye)

    def refuse(wanted: Model) -> LocalEncoder:
        raise AssertionError("the classifier was loaded again")

    (again,) = embed(stores("selection"), VERSION, CLASSIFIER, eye=refuse)
    assert isinstance(first, Embedding)
    assert isinstance(again, Embedding)
    np.testing.assert_array_equal(again.features, first.features)


def test_a_caller_who_left_gets_nothing_written(stores, rows) -> None:
    with pytest.raises(Cancelled):
        list(embed(stores("selection"), VERSION, CLASSIFIER, eye=eye, until=lambda: False))
    with pytest.raises(NotFound):
        read_embedding(stores("selection"), embedding_name(VERSION, CLASSIFIER))


def test_a_version_without_training_images_is_refused(stores) -> None:
    put_version(stores("assembly"), real_rows(stores("assembly"), {"lies": 2}, split="validation"))
    with pytest.raises(FailedPrecondition) as caught:
        list(embed(stores("selection"), VERSION, CLASSIFIER, eye=eye))
    assert caught.value.reason == "NO_TRAINING_IMAGES"


def test_names_depend_on_version_classifier_and_number_format() -> None:
    models = [CLASSIFIER, Model("classifiers/" + "d" * 32, FLOAT32), Model(CLASSIFIER.name, BFLOAT16)]
    assert len({embedding_name(version, one) for version in (VERSION, VERSION + "x") for one in models}) == 6


def test_an_embedding_that_does_not_say_what_it_embeds_is_refused(stores) -> None:
    name = "embeddings/" + "a" * 32
    data = safetensors.numpy.save({"features": np.zeros((1, 2), np.float32)}, metadata={"image_ids": "[]"})
    stores("selection").put_new(f"{name}/features.safetensors", data)
    with pytest.raises(FailedPrecondition, match="embed the dataset version again"):
        read_embedding(stores("selection"), name)


def test_a_killed_embedding_loses_one_shard(stores, rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genaug.vision.features.feature_index.SHARD", 3)
    first = embed(stores("selection"), VERSION, CLASSIFIER, eye=eye)
    assert next(first) == Doing("embedding", 3, 7)
    first.close()
    for row in rows[:3]:
        stores("assembly").delete(row.uri)
    *_, found = embed(stores("selection"), VERSION, CLASSIFIER, eye=eye)
    assert isinstance(found, Embedding)
    assert len(found.features) == 7, "the images of the finished shard are not read again"


def test_a_damaged_image_is_named(stores, rows) -> None:
    stores("assembly").delete(rows[1].uri)
    stores("assembly").put_new(rows[1].uri, b"\x89PNG cut short")
    with pytest.raises(FailedPrecondition, match=rows[1].image_id) as caught:
        list(embed(stores("selection"), VERSION, CLASSIFIER, eye=eye))
    assert caught.value.reason == "UNREADABLE_IMAGE"
