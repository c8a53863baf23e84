from __future__ import annotations

import copy

import pytest

from genaug.orchestrator.spec import augmented_classes, check_alone, complete, evaluators, run_id
from genaug.shared.errors import InvalidArgument
from genaug.shared.protojson import from_dict, to_dict
from genaug.v1 import run_pb2

DATASET = {
    "name": "datasets/odir",
    "digest": "d",
    "median_side": 256,
    "channels": 3,
    "folds": 5,
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
        ({"scenarios": [{"name": "real"}, {"name": "b", "synthetic": "NaN"}]}, r"^scenarios\[1\]\.synthetic"),
        ({"generator": {"learning_rate": "Infinity"}}, r"^generator\.learning_rate: Infinity"),
        ({"evaluation": {"learning_rate": "NaN"}}, r"^evaluation\.learning_rate: NaN"),
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../x"}, "^name: "),
        ({"generator": {"train_steps": 0}}, r"^generator\.train_steps: 0"),
        ({"scenarios": [{"name": "real"}, {"name": "b", "synthetic": -1.0}]}, r"^scenarios\[1\]\.synthetic"),
        ({"evaluation": {"seeds": 1}}, r"^evaluation\.seeds"),
        ({"evaluation": {"further": [{"updates": 0}]}}, r"^evaluation\.further\[0\]\.updates"),
    ],
)
def test_what_is_wrong_whatever_the_dataset_needs_none_to_be_refused(change, message: str) -> None:
    given = {"name": "x", "dataset": "odir"}
    check_alone(given)
    with pytest.raises(InvalidArgument, match=message):
        check_alone(given | change)
    assert given == {"name": "x", "dataset": "odir"}


def test_a_selection_has_its_random_control() -> None:
    spec = complete({"name": "x", "dataset": "odir", "selection": {"classes": ["N", "D"]}}, DATASET)
    control = spec["scenarios"][-1]
    assert (control["name"], control["reduction"]) == ("real-random", "REDUCTION_RANDOM")
    assert complete(copy.deepcopy(spec), DATASET) == spec
    chosen = {
        "selection": {"classes": ["N"]},
        "scenarios": [{"name": "real"}, {"name": "c", "reduction": "REDUCTION_RANDOM"}],
    }
    assert [s["name"] for s in complete({"name": "x", "dataset": "odir", **chosen}, DATASET)["scenarios"]] == [
        "real",
        "c",
    ]


def test_networks_follow_the_images_and_the_generators_detail() -> None:
    spec = complete({"name": "x", "dataset": "odir", "generator": {"image_size": 32}}, DATASET)
    for part in ("labeling", "evaluation"):
        assert spec[part]["classifier"] == {
            "backbone": "BACKBONE_EFFICIENTNET_LITE0",
            "image_size": 224,
            "tuning": "TUNING_FROZEN",
            "head": "HEAD_LINEAR",
            "weights": "imagenet",
            "detail": 32,
        }
    tiny = complete({"name": "x", "dataset": "odir"}, DATASET | {"median_side": 8})
    assert tiny["labeling"]["classifier"]["backbone"] == "BACKBONE_SMALL_CNN"
    assert tiny["evaluation"]["classifier"]["weights"] == "none"


def test_further_evaluators_take_what_they_leave_out_from_the_first() -> None:
    vgg = {"backbone": "BACKBONE_VGG19", "tuning": "TUNING_FINE_TUNED"}
    given = {"seeds": 4, "learning_rate": 0.01, "further": [{"classifier": vgg, "updates": 50}]}
    spec = complete({"name": "x", "dataset": "odir", "evaluation": given}, DATASET)
    first, second = evaluators(spec["evaluation"])
    assert (first["seeds"], first["updates"], first["learning_rate"]) == (4, 600, 0.01)
    assert (second["seeds"], second["updates"], second["learning_rate"]) == (4, 50, 0.0002)
    assert "further" not in first | second
    assert complete(copy.deepcopy(spec), DATASET) == spec
    assert from_dict(run_pb2.RunSpec, spec).evaluation.further[0].classifier.backbone


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generator": {"image_size": 128}}, r"^generator\.image_size: 128 is above 64.*generator\.autoencoder"),
        ({"generator": {"image_size": 136, "autoencoder": "/w"}}, r"136 is not a multiple of 16"),
        ({"generator": {"patch_size": 3}}, r"^generator\.patch_size: 3"),
        ({"generator": {"held_out": 0.9}}, r"^generator\.held_out"),
        ({"evaluation": {"folds": 3}}, r"^evaluation\.folds: 3 is neither 1 nor 5"),
        ({"evaluation": {"further": [{}]}}, r"^evaluation\.further\[0\]: is the same"),
        ({"evaluation": {"further": [{"further": [{}]}]}}, r"^evaluation\.further\[0\]\.further"),
        ({"evaluation": {"further": [{"updates": 0}]}}, r"^evaluation\.further\[0\]\.updates: 0"),
        ({"evaluation": {"further": [{"folds": 5}]}}, r"^evaluation\.further\[0\]\.folds"),
        ({"scenarios": [{"name": "real"}, {"name": "b", "reduction": "REDUCTION_NONE"}]}, r"nothing to reduce"),
        (
            {"labeling": {"classifier": {"backbone": "BACKBONE_SMALL_CNN", "tuning": "TUNING_FROZEN"}}},
            r"^labeling\.classifier: SMALL_CNN learns every layer",
        ),
        (
            {"evaluation": {"classifier": {"head": "HEAD_LOGISTIC", "tuning": "TUNING_FINE_TUNED"}}},
            r"^evaluation\.classifier\.head: LOGISTIC",
        ),
        ({"evaluation": {"classifier": {"weights": "none"}}}, r"^evaluation\.classifier\.weights: random"),
    ],
)
def test_depth_is_checked_at_the_edge(change, message) -> None:
    with pytest.raises(InvalidArgument, match=message):
        complete({"name": "x", "dataset": "odir", **change}, DATASET)


def test_how_a_classifier_is_trained_has_its_defaults_written_out() -> None:
    plain = {"precision": "PRECISION_FLOAT32", "decay": "DECAY_COSINE", "class_weights": False}
    spec = complete({"name": "x", "dataset": "odir"}, DATASET)
    labeling = spec["labeling"]
    assert (labeling["training"], spec["evaluation"]["training"]) == (plain, plain)
    assert (labeling["batch_size"], labeling["learning_rate"], labeling["second_seed"]) == (64, 0.002, 2000)
    moved = {"backbone": "BACKBONE_MOBILENET_V2", "tuning": "TUNING_FINE_TUNED"}
    options = {"decay": "DECAY_PLATEAU", "class_weights": True, "augment": {"shift": 0.1, "horizontal_flip": True}}
    spec = complete({"name": "x", "dataset": "odir", "evaluation": {"classifier": moved, "training": options}}, DATASET)
    ranges = {"horizontal_flip": True, "rotate_degrees": 10.0, "shift": 0.1, "scale": 0.1, "colour": 0.1}
    assert spec["evaluation"]["training"] == {**plain, **options, "augment": ranges}
    assert complete(copy.deepcopy(spec), DATASET) == spec
    assert to_dict(from_dict(run_pb2.RunSpec, spec))["evaluation"]["training"] == spec["evaluation"]["training"]


_MOVED = {"backbone": "BACKBONE_VGG19", "tuning": "TUNING_FINE_TUNED"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evaluation": {"training": {"augment": {}}}}, r"^evaluation\.training: augment and precision.*FINE_TUNED"),
        (
            {"labeling": {"training": {"precision": "PRECISION_BFLOAT16"}}},
            r"^labeling\.training: augment and precision",
        ),
        (
            {"evaluation": {"classifier": _MOVED, "training": {"precision": "PRECISION_INT8"}}},
            r"^evaluation\.training\.precision: 8 bits",
        ),
        (
            {"evaluation": {"classifier": _MOVED, "training": {"augment": {"shift": 0.9}}}},
            r"^evaluation\.training\.augment\.shift: 0\.9",
        ),
        (
            {
                "evaluation": {
                    "classifier": _MOVED,
                    "training": {"augment": dict.fromkeys(("rotate_degrees", "shift", "scale", "colour"), 0.0)},
                }
            },
            r"^evaluation\.training\.augment: every range is 0",
        ),
        (
            {"evaluation": {"classifier": {"head": "HEAD_LOGISTIC"}, "training": {"class_weights": True}}},
            r"^evaluation\.training: class_weights and decay",
        ),
        ({"labeling": {"precision": "PRECISION_INT8"}}, r"^labeling\.precision: INT8 is there for backbone VGG19"),
        ({"labeling": {"second_seed": 1000}}, r"^labeling\.second_seed: 1000 is the labeler's own"),
        ({"labeling": {"learning_rate": 2.0}}, r"^labeling\.learning_rate: 2\.0"),
        ({"labeling": {"classifier": {**_MOVED, "head": "HEAD_DENSE"}}}, r"^labeling\.classifier\.head: DENSE stands"),
    ],
)
def test_trainings_that_cannot_be_are_refused(change, message) -> None:
    with pytest.raises(InvalidArgument, match=message):
        complete({"name": "x", "dataset": "odir", **change}, DATASET)


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({"compared_prompts": "disease-specific"}, True),
        ({"compared_prompts": "disease-specific", "captions": {"a": "an eye"}}, False),
        ({"compared_prompts": "generic"}, False),
        ({"prompts": "generic", "compared_prompts": "disease-specific"}, False),
    ],
)
def test_captions_are_not_compared_with_themselves(change, refused: bool) -> None:
    dataset = {**DATASET, "training": [{"class_name": name, "count": 20} for name in "ab"]}
    generator = {"kind": "KIND_STABLE_DIFFUSION", "base": "bases/x", **change}
    given = {"name": "x", "dataset": "odir", "generator": generator}
    if refused:
        with pytest.raises(InvalidArgument, match=r"^generator\.compared_prompts: 'disease-specific' is what"):
            complete(given, dataset)
    else:
        assert complete(given, dataset)["generator"]["compared_prompts"] == change["compared_prompts"]
        assert complete(given, dataset)["generation"]["keep_copies"] is False
