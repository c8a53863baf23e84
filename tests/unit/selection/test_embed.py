from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
import safetensors.numpy
from tests.shapes import SMALL, VERSION, put_image, put_version, real_rows, served, shape

from genaug.schema.common import Precision
from genaug.selection.embed import Embedding, SelectionProgress, embed, embedding_name, read_embedding
from genaug.shared.digests import digest_of
from genaug.shared.errors import Cancelled, FailedPrecondition, NotFound
from genaug.vision.batching.dynamic_batcher import ModelKey
from genaug.vision.features.image_encoder import LocalEncoder
from genaug.vision.images.load_images import load_pixels
from genaug.vision.models.classifiers import TrainedClassifier
from genaug.vision.models.networks import build_network

CLASSIFIER = ModelKey("classifiers/" + "c" * 32, Precision.FLOAT32)


def trained() -> TrainedClassifier:
    network = build_network(SMALL, channels=1, classes=2, seed=0)
    return TrainedClassifier(("a", "b"), network, name=CLASSIFIER.name)


def open_encoder(model: ModelKey) -> LocalEncoder:
    assert model == CLASSIFIER
    return served(trained())


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
    *progress, embedding = embed(stores("selection"), VERSION, CLASSIFIER, open_encoder=open_encoder)
    assert progress == [SelectionProgress("embedding", done, 7) for done in (3, 6, 7)]
    assert isinstance(embedding, Embedding)
    assert embedding.name == embedding_name(VERSION, CLASSIFIER)
    assert (embedding.dataset_version, embedding.classifier, embedding.precision) == (VERSION, *astuple(CLASSIFIER))
    assert embedding.image_ids == tuple(row.image_id for row in rows)
    expected = trained().features(load_pixels(stores("selection"), rows, image_size=8, channels=1))
    np.testing.assert_array_equal(embedding.features, expected)
    assert embedding.features.dtype == np.float32
    assert embedding.features.shape == (7, 64)
    assert read_embedding(stores("report"), embedding.name).image_ids == embedding.image_ids


def test_an_existing_embedding_is_returned(stores, rows) -> None:
    *_, first = embed(stores("selection"), VERSION, CLASSIFIER, open_encoder=open_encoder)

    def refuse(model: ModelKey) -> LocalEncoder:
        raise AssertionError("the classifier was loaded again")

    (again,) = embed(stores("selection"), VERSION, CLASSIFIER, open_encoder=refuse)
    assert isinstance(first, Embedding)
    assert isinstance(again, Embedding)
    np.testing.assert_array_equal(again.features, first.features)


def test_a_caller_who_left_gets_nothing_written(stores, rows) -> None:
    with pytest.raises(Cancelled):
        list(embed(stores("selection"), VERSION, CLASSIFIER, open_encoder=open_encoder, is_active=lambda: False))
    with pytest.raises(NotFound):
        read_embedding(stores("selection"), embedding_name(VERSION, CLASSIFIER))


def test_a_version_without_training_images_is_refused(stores) -> None:
    put_version(stores("assembly"), real_rows(stores("assembly"), {"lies": 2}, split="validation"))
    with pytest.raises(FailedPrecondition) as caught:
        list(embed(stores("selection"), VERSION, CLASSIFIER, open_encoder=open_encoder))
    assert caught.value.reason == "NO_TRAINING_IMAGES"


def test_names_depend_on_version_classifier_and_number_format() -> None:
    models = [
        CLASSIFIER,
        ModelKey("classifiers/" + "d" * 32, Precision.FLOAT32),
        ModelKey(CLASSIFIER.name, Precision.BFLOAT16),
    ]
    assert len({embedding_name(version, model) for version in (VERSION, VERSION + "x") for model in models}) == 6


def test_embeddings_keep_their_names() -> None:
    """Embeddings of earlier releases are found again: names are digests of the same JSON."""
    inputs = {"dataset_version": VERSION, "classifier": CLASSIFIER.name, "precision": "PRECISION_FLOAT32"}
    digest = digest_of("embed/3", inputs)
    assert (
        embedding_name(VERSION, CLASSIFIER) == f"embeddings/{digest}" == "embeddings/988f69cefb82d8651d45cc3cb21be2c6"
    )


def test_an_embedding_without_its_inputs_is_refused(stores) -> None:
    name = "embeddings/" + "a" * 32
    data = safetensors.numpy.save({"features": np.zeros((1, 2), np.float32)}, metadata={"image_ids": "[]"})
    stores("selection").put_new(f"{name}/features.safetensors", data)
    with pytest.raises(FailedPrecondition, match="embed the dataset version again"):
        read_embedding(stores("selection"), name)


def test_a_killed_embedding_loses_one_shard(stores, rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genaug.vision.features.feature_index.SHARD", 3)
    first = embed(stores("selection"), VERSION, CLASSIFIER, open_encoder=open_encoder)
    assert next(first) == SelectionProgress("embedding", 3, 7)
    first.close()
    for row in rows[:3]:
        stores("assembly").delete(row.uri)
    *_, embedding = embed(stores("selection"), VERSION, CLASSIFIER, open_encoder=open_encoder)
    assert isinstance(embedding, Embedding)
    assert len(embedding.features) == 7, "the images of the finished shard are not read again"


def test_a_damaged_image_is_named(stores, rows) -> None:
    stores("assembly").delete(rows[1].uri)
    stores("assembly").put_new(rows[1].uri, b"\x89PNG cut short")
    with pytest.raises(FailedPrecondition, match=rows[1].image_id) as caught:
        list(embed(stores("selection"), VERSION, CLASSIFIER, open_encoder=open_encoder))
    assert caught.value.reason == "UNREADABLE_IMAGE"
