from __future__ import annotations

import numpy as np
import pytest
from pydantic import JsonValue
from tests.conftest import Stores

from genaug.generation.artifacts import (
    Artifact,
    check_classes,
    check_tensors,
    read_artifact,
    read_record,
    write_artifact,
)
from genaug.schema.common import TransformSpec
from genaug.schema.generators import Generator, GeneratorSpec
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound

NAME = "generators/" + "0" * 32
CONFIG = {"kind": "KIND_TRANSFORMS", "classes": ["a"], "image_size": 8, "channels": 1}
RECORD = Generator(
    name=NAME, classes=("a",), image_size=8, channels=1, spec=GeneratorSpec(seed=0, transforms=TransformSpec())
)


def test_a_generator_is_read_as_it_was_written(stores: Stores) -> None:
    artifact = Artifact(NAME, RECORD, CONFIG, b"weights")
    write_artifact(stores("finetune"), artifact)
    assert read_artifact(stores("generation"), NAME) == artifact


def test_what_is_stored_first_stays(stores: Stores) -> None:
    write_artifact(stores("finetune"), Artifact(NAME, RECORD, CONFIG, b"first"))
    write_artifact(stores("finetune"), Artifact(NAME, RECORD, CONFIG, b"second"))
    assert read_artifact(stores("generation"), NAME).weights == b"first"


def test_an_unfinished_generator_is_not_there(stores: Stores) -> None:
    stores("finetune").put_new(f"{NAME}/model.safetensors", b"weights")
    stores("finetune").put_new_json(f"{NAME}/config.json", CONFIG)
    with pytest.raises(NotFound, match="genaug generator list"):
        read_record(stores("generation"), NAME)


def test_parts_that_contradict_each_other_are_refused(stores: Stores) -> None:
    write_artifact(stores("finetune"), Artifact(NAME, RECORD, {**CONFIG, "classes": ["b"]}, b""))
    with pytest.raises(FailedPrecondition, match="disagree on classes"):
        read_artifact(stores("generation"), NAME)


def test_tensors_that_do_not_fit_are_listed() -> None:
    actual = {"same": np.zeros(1), "extra": np.zeros(1), "shape": np.zeros(2)}
    expected = {"same": np.zeros(1), "lost": np.zeros(1), "shape": np.zeros(3)}
    with pytest.raises(FailedPrecondition) as error:
        check_tensors(NAME, actual=actual, expected=expected)
    assert error.value.reason == "BROKEN_GENERATOR"
    assert "missing: lost; unknown: extra; of another shape: shape" in error.value.message


def test_a_foreign_class_is_refused_by_naming_those_there_are() -> None:
    check_classes(RECORD, ["a"])
    with pytest.raises(InvalidArgument, match=r"class 'z': .* draws a and no other"):
        check_classes(RECORD, ["a", "z"])


@pytest.mark.parametrize(
    ("config", "words"),
    [({**CONFIG, "kind": "KIND_MAGIC"}, "no generator of kind 'KIND_MAGIC'"), ({"kind": "KIND_TRANSFORMS"}, "classes")],
)
def test_an_unknown_kind_and_an_incomplete_configuration_are_refused(
    stores: Stores, config: dict[str, JsonValue], words: str
) -> None:
    write_artifact(stores("finetune"), Artifact(NAME, RECORD, config, b""))
    with pytest.raises(FailedPrecondition, match=words) as caught:
        read_artifact(stores("generation"), NAME)
    assert caught.value.reason == "BROKEN_GENERATOR"


def test_records_of_earlier_releases_are_read(stores: Stores) -> None:
    """Their specification is flat, with British spelling, and their grids' measurements have another name."""
    old = {
        **RECORD.json_value(),
        "spec": {"kind": "KIND_TRANSFORMS", "image_size": 8, "seed": 3, "transforms": {"colour": 0.2, "shift": 0.01}},
        "closenesses": [{"update": 5, "median": 0.1, "natural_median": 0.2, "remembered": 0.3}],
    }
    stores("finetune").put_new_json(f"{NAME}/generator.json", old)
    record = read_record(stores("generation"), NAME)
    assert record.spec == GeneratorSpec(image_size=8, seed=3, transforms=TransformSpec(color=0.2, shift=0.01))
    assert [grid.memorized for grid in record.closenesses] == [0.3]
