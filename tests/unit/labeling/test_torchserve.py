from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.shapes import shape

from genaug.labeling import torchserve
from genaug.labeling.export import HEAD, SUMS, export_torchserve, model_name
from genaug.labeling.model_store import Labelers, write_model
from genaug.labeling.torchserve import answer, handle, images_of
from genaug.shared.digests import sha256
from genaug.shared.errors import FailedPrecondition, NotFound
from genaug.vision.batching.dynamic_batcher import Model
from genaug.vision.images.pixels import encode_png
from genaug.vision.models.backbones import SMALL_CNN, VGG19
from genaug.vision.models.classifiers import Classifier, save
from genaug.vision.models.networks import FINE_TUNED, build_network
from genaug.vision.models.precision import BFLOAT16, FLOAT32, INT8

NAME = "classifiers/" + "a" * 32
POOL = ThreadPoolExecutor(2)


def classifier() -> Classifier:
    return Classifier(("a", "b", "c"), build_network(SMALL_CNN, image_size=8, channels=1, classes=3, seed=0))


def row(*images: bytes) -> dict:
    data = [base64.b64encode(one).decode() for one in images]
    tensor = {"name": "images", "datatype": "BYTES", "shape": [len(images), 1], "data": data}
    return {"body": {"id": "7", "inputs": [tensor]}}


def png(seed: int) -> bytes:
    return encode_png(shape("lies", seed=seed))


def outputs(found: dict) -> dict:
    return {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in found["outputs"]}


@pytest.fixture
def saved(stores) -> str:
    for digit, role, time in (("a", "LABELER", "2"), ("b", "LABELER", "1"), ("c", "EVALUATOR", "3")):
        record = {"role": f"ROLE_{role}", "create_time": time}
        save(stores("train"), classifier(), name="classifiers/" + digit * 32, record=record)
    return NAME


def test_requests_of_a_batch_share_a_pass_and_get_their_own_answers() -> None:
    found = answer([row(png(0), png(1)), row(png(2))], classifier(), POOL)
    expected = classifier().predict(np.stack([shape("lies", seed=seed) for seed in range(3)]))
    first, second = map(outputs, found)
    np.testing.assert_allclose(np.concatenate([first["scores"], second["scores"]]), expected, atol=1e-6)
    assert [one["id"] for one in found] == ["7", "7"]
    json.dumps(found)


def test_a_bad_image_spoils_no_neighbour() -> None:
    constant = encode_png(np.full((8, 8, 1), 7, np.uint8))
    (found,) = answer([row(png(0), png(1)[:50], constant)], classifier(), POOL)
    tensors = outputs(found)
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
def test_a_request_that_is_none_is_answered_well_formed_beside_a_good_one(body: object) -> None:
    bad, good = answer([{"body": body}, row(png(0))], classifier(), POOL)
    assert outputs(bad)["status"].size == 0
    assert outputs(good)["status"].tolist() == [0]


def test_bodies_may_be_bytes() -> None:
    body = row(png(0))["body"]
    assert images_of({"data": json.dumps(body).encode()}) == [png(0)]


def test_what_is_exported_is_loaded_by_the_handler(stores, saved: str, tmp_path, monkeypatch) -> None:
    folder = write_model(stores("labeling"), Model(saved, FLOAT32), tmp_path)
    assert folder.name == "a" * 32 + "-float32"
    monkeypatch.setattr(torchserve, "_loaded", None)
    context = SimpleNamespace(system_properties={"model_dir": str(folder), "gpu_id": None})
    assert handle(None, context) is None
    (found,) = handle([row(png(3))], context)
    expected = classifier().predict(shape("lies", seed=3)[None])
    np.testing.assert_allclose(outputs(found)["scores"], expected, atol=1e-6)


def test_the_export_says_what_it_is_and_its_digests(stores, saved: str) -> None:
    files = dict(export_torchserve(stores("labeling"), Model(saved, BFLOAT16)))
    assert next(iter(files)) == HEAD
    assert json.loads(files[HEAD]) == {"name": saved, "format": "torchserve", "precision": BFLOAT16}
    lines = [line.split("  ") for line in files.pop(SUMS).decode().splitlines()]
    assert {path: digest for digest, path in lines} == {path: sha256(data) for path, data in files.items()}
    manifest = json.loads(files["MAR-INF/MANIFEST.json"])
    assert manifest["model"]["modelName"] == model_name(Model(saved, BFLOAT16)) == "a" * 32 + "-bfloat16"


def test_what_is_not_there_is_not_exported(stores, saved: str, tmp_path) -> None:
    with pytest.raises(NotFound):
        write_model(stores("labeling"), Model("classifiers/" + "9" * 32, FLOAT32), tmp_path)


def test_the_newest_labelers_are_served(stores, saved: str) -> None:
    assert Labelers(stores("labeling")).newest(1, FLOAT32) == [Model(saved, FLOAT32)]
    assert [one.name[-1] for one in Labelers(stores("labeling")).newest(9, FLOAT32)] == ["a", "b"]


def test_for_8_bits_only_what_was_measured_for_them(stores, saved: str) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        list(export_torchserve(stores("labeling"), Model(saved, INT8)))
    assert caught.value.reason == "NOT_QUANTIZED"
    assert Labelers(stores("labeling")).newest(9, INT8) == []
    network = build_network(VGG19, image_size=32, channels=3, classes=2, seed=0, tuning=FINE_TUNED, weights="none")
    network.measure(np.zeros((1, 32, 32, 3), np.uint8))
    measured = "classifiers/" + "d" * 32
    record = {"role": "ROLE_LABELER", "create_time": "0"}
    save(stores("train"), Classifier(("a", "b"), network), name=measured, record=record)
    assert Labelers(stores("labeling")).newest(9, INT8) == [Model(measured, INT8)]
    assert next(export_torchserve(stores("labeling"), Model(measured, INT8)))[0] == HEAD
