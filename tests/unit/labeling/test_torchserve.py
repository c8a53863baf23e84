from __future__ import annotations

import base64
import dataclasses
import io
import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.shapes import SMALL, shape

from genaug.labeling import torchserve
from genaug.labeling.export import HEAD, SUMS, export_torchserve, model_name
from genaug.labeling.model_store import Labelers, write_model
from genaug.labeling.torchserve import answer, handle, images_of
from genaug.schema.classifiers import Classifier, ClassifierSpec, Role
from genaug.schema.common import Precision
from genaug.schema.datasets import Window
from genaug.shared.digests import sha256
from genaug.shared.errors import FailedPrecondition, NotFound
from genaug.vision.batching.dynamic_batcher import ModelKey
from genaug.vision.images.pixels import encode_png
from genaug.vision.models.classifiers import TrainedClassifier, save
from genaug.vision.models.networks import build_network

NAME = "classifiers/" + "a" * 32
POOL = ThreadPoolExecutor(2)


def trained() -> TrainedClassifier:
    return TrainedClassifier(("a", "b", "c"), build_network(SMALL, channels=1, classes=3, seed=0))


def row(*images: bytes) -> dict:
    data = [base64.b64encode(image).decode() for image in images]
    tensor = {"name": "images", "datatype": "BYTES", "shape": [len(images), 1], "data": data}
    return {"body": {"id": "7", "inputs": [tensor]}}


def png(seed: int) -> bytes:
    return encode_png(shape("lies", seed=seed))


def outputs(answer: dict) -> dict:
    return {tensor["name"]: np.array(tensor["data"]).reshape(tensor["shape"]) for tensor in answer["outputs"]}


@pytest.fixture
def saved(stores) -> str:
    for digit, role, time in (("a", Role.LABELER, "2"), ("b", Role.LABELER, "1"), ("c", Role.EVALUATOR, "3")):
        record = Classifier(role=role, create_time=time)
        save(stores("train"), trained(), name="classifiers/" + digit * 32, record=record)
    return NAME


def test_requests_of_a_batch_share_a_pass_and_get_their_own_answers() -> None:
    answers = answer([row(png(0), png(1)), row(png(2))], trained(), POOL)
    expected = trained().predict(np.stack([shape("lies", seed=seed) for seed in range(3)]))
    first, second = map(outputs, answers)
    np.testing.assert_allclose(np.concatenate([first["scores"], second["scores"]]), expected, atol=1e-6)
    assert [part["id"] for part in answers] == ["7", "7"]
    json.dumps(answers)


def test_deep_images_are_rendered_by_the_classifiers_window() -> None:
    sink = io.BytesIO()
    Image.fromarray(np.rint(shape("lies", seed=0)[:, :, 0] / 255 * 4095).astype(np.uint16)).save(sink, "PNG")
    windowed = dataclasses.replace(trained(), window=Window(low=0, high=4095))
    (response,) = answer([row(sink.getvalue(), png(0))], windowed, POOL)
    scores = outputs(response)["scores"]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)
    (response,) = answer([row(sink.getvalue(), png(0))], trained(), POOL)
    assert outputs(response)["status"].tolist() == [2, 0]


def test_a_bad_image_spoils_no_neighbour() -> None:
    constant = encode_png(np.full((8, 8, 1), 7, np.uint8))
    (response,) = answer([row(png(0), png(1)[:50], constant)], trained(), POOL)
    tensors = outputs(response)
    assert tensors["status"].tolist() == [0, 2, 1]
    assert tensors["scores"][1].tolist() == [0, 0, 0]
    assert tensors["scores"][0].sum() == pytest.approx(1, abs=1e-5)


@given(
    st.one_of(
        st.none(),
        st.binary(max_size=40),
        st.text(max_size=40),
        st.dictionaries(
            st.sampled_from(["inputs", "id"]), st.one_of(st.none(), st.integers(), st.lists(st.integers()))
        ),
        st.lists(st.integers(), max_size=3),
    )
)
@settings(max_examples=80)
def test_a_malformed_request_is_answered_well_formed_beside_a_good_one(body: object) -> None:
    bad, good = answer([{"body": body}, row(png(0))], trained(), POOL)
    assert outputs(bad)["status"].size == 0
    assert outputs(good)["status"].tolist() == [0]


def test_bodies_may_be_bytes() -> None:
    body = row(png(0))["body"]
    assert images_of({"data": json.dumps(body).encode()}) == [png(0)]


def test_an_export_is_loaded_by_the_handler(stores, saved: str, tmp_path, monkeypatch) -> None:
    folder = write_model(stores("labeling"), ModelKey(saved, Precision.FLOAT32), tmp_path)
    assert folder.name == "a" * 32 + "-float32"
    monkeypatch.setattr(torchserve, "_loaded", None)
    context = SimpleNamespace(system_properties={"model_dir": str(folder), "gpu_id": None})
    assert handle(None, context) is None
    (response,) = handle([row(png(3))], context)
    expected = trained().predict(shape("lies", seed=3)[None])
    np.testing.assert_allclose(outputs(response)["scores"], expected, atol=1e-6)


def test_an_export_names_its_classifier_and_the_digests_of_its_files(stores, saved: str) -> None:
    files = dict(export_torchserve(stores("labeling"), ModelKey(saved, Precision.BFLOAT16)))
    assert next(iter(files)) == HEAD
    assert json.loads(files[HEAD]) == {"name": saved, "format": "torchserve", "precision": "PRECISION_BFLOAT16"}
    lines = [line.split("  ") for line in files.pop(SUMS).decode().splitlines()]
    assert {path: digest for digest, path in lines} == {path: sha256(data) for path, data in files.items()}
    manifest = json.loads(files["MAR-INF/MANIFEST.json"])
    assert manifest["model"]["modelName"] == model_name(ModelKey(saved, Precision.BFLOAT16)) == "a" * 32 + "-bfloat16"


def test_a_missing_classifier_is_not_exported(stores, saved: str, tmp_path) -> None:
    with pytest.raises(NotFound):
        write_model(stores("labeling"), ModelKey("classifiers/" + "9" * 32, Precision.FLOAT32), tmp_path)


def test_the_newest_labelers_are_served(stores, saved: str) -> None:
    assert Labelers(stores("labeling")).newest(1, Precision.FLOAT32) == [ModelKey(saved, Precision.FLOAT32)]
    assert [model.name[-1] for model in Labelers(stores("labeling")).newest(9, Precision.FLOAT32)] == ["a", "b"]


def test_only_calibrated_classifiers_are_exported_for_8_bits(stores, saved: str, narrow_vgg19: ClassifierSpec) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        list(export_torchserve(stores("labeling"), ModelKey(saved, Precision.INT8)))
    assert caught.value.reason == "NOT_QUANTIZED"
    assert Labelers(stores("labeling")).newest(9, Precision.INT8) == []
    network = build_network(narrow_vgg19, channels=3, classes=2, seed=0)
    network.measure(np.zeros((1, 32, 32, 3), np.uint8))
    measured = "classifiers/" + "d" * 32
    record = Classifier(role=Role.LABELER, create_time="0")
    save(stores("train"), TrainedClassifier(("a", "b"), network), name=measured, record=record)
    assert Labelers(stores("labeling")).newest(9, Precision.INT8) == [ModelKey(measured, Precision.INT8)]
    assert next(export_torchserve(stores("labeling"), ModelKey(measured, Precision.INT8)))[0] == HEAD
