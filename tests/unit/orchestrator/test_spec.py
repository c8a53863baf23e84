from __future__ import annotations

import copy

import pytest

from genaug.orchestrator.spec import augmented_classes, complete, run_id
from genaug.shared.errors import InvalidArgument
from genaug.shared.protojson import from_dict, to_dict
from genaug.v1 import run_pb2

DATASET = {
    "name": "datasets/odir",
    "digest": "d",
    "median_side": 256,
    "channels": 3,
    "training": [{"class_name": name, "count": 50} for name in "ADN"],
}


def test_every_default_is_written_out() -> None:
    spec = complete({"name": "x", "dataset": "odir"}, DATASET)
    assert spec["classes"] == ["A", "D", "N"]
    assert [s["name"] for s in spec["scenarios"]] == [
        "real",
        "real-balanced",
        "synthetic-x1",
        "synthetic-x2",
        "traditional-x1",
    ]
    assert spec["generator"]["image_size"] == 64
    assert spec["evaluation"]["seeds"] == 3
    assert from_dict(run_pb2.RunSpec, spec).generator.transforms.HasField("horizontal_flip")
    assert complete(copy.deepcopy(spec), DATASET) == spec
    assert complete(to_dict(from_dict(run_pb2.RunSpec, spec)), DATASET) == spec


def test_completing_does_not_change_what_it_was_given() -> None:
    given = {"name": "x", "dataset": "odir", "evaluation": {"seeds": 4}}
    before = copy.deepcopy(given)
    complete(given, DATASET)
    assert given == before


def test_the_id_depends_on_settings_and_data() -> None:
    spec = complete({"name": "x", "dataset": "odir"}, DATASET)
    other = complete({"name": "x", "dataset": "odir", "evaluation": {"seeds": 4}}, DATASET)
    assert run_id(spec, DATASET).startswith("x-")
    assert len({run_id(spec, DATASET), run_id(other, DATASET), run_id(spec, DATASET | {"digest": "e"})}) == 3


def test_dominant_classes_are_not_augmented() -> None:
    spec = complete({"name": "x", "dataset": "odir", "selection": {"classes": ["N", "D"]}}, DATASET)
    assert spec["selection"]["classes"] == ["D", "N"]
    assert augmented_classes(spec) == ["A"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "X"}, r"^name: 'X'"),
        ({"name": ""}, r"^name: ''"),
        ({"classes": ["A", "Q"]}, r"^classes\[1\]: 'Q' is not in datasets/odir; it has A, D, N"),
        ({"classes": ["A"]}, "at least two"),
        ({"classes": ["A", "A"]}, "twice"),
        ({"selection": {"classes": ["Q"]}}, r"^selection\.classes\[0\]"),
        ({"selection": {"classes": ["A", "D", "N"]}}, "leave at least one"),
        ({"scenarios": [{"name": "a", "synthetic": 1.0}, {"name": "b", "synthetic": 2.0}]}, "reference"),
        ({"scenarios": [{"name": "real"}]}, "nothing to compare"),
        ({"scenarios": [{"name": "real"}, {"name": "real"}]}, r"^scenarios\[1\]\.name: 'real' stands twice"),
        ({"scenarios": [{"name": "real"}, {"name": "b", "synthetic": -1.0}]}, r"^scenarios\[1\]\.synthetic"),
        ({"scenarios": [{"name": "real"}, {"name": "b", "synthetic": float("nan")}]}, r"^scenarios\[1\]\.synthetic"),
        ({"scenarios": [{"name": "real"}, {"synthetic": 1.0}]}, r"^scenarios\[1\]\.name"),
        ({"evaluation": {"seeds": 1}}, r"^evaluation\.seeds: 1 is not within 2 and 100"),
        ({"generation": {"steps": 0}}, r"^generation\.steps"),
        ({"generator": {"image_size": 12}}, r"^generator\.image_size: 12"),
        ({"generator": {"image_size": 512}}, r"^generator\.image_size: 512"),
        ({"labeling": {"seed": 2}}, "also an evaluator's seed"),
    ],
)
def test_a_wrong_run_file_is_refused_by_path(change, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        complete({"name": "x", "dataset": "odir"} | change, DATASET)
