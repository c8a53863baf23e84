from __future__ import annotations

import numpy as np
import pytest
from tests.conftest import Stores

from genaug.generation.artifacts import (
    Artefact,
    check_classes,
    check_tensors,
    read_artefact,
    read_record,
    samples,
    write_artefact,
)
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound

NAME = "generators/" + "0" * 32
FACTS = {"classes": ["a"], "image_size": 8, "channels": 1}
RECORD = {"name": NAME, **FACTS, "spec": {"kind": "KIND_TRANSFORMS"}}


def test_a_generator_is_read_as_it_was_written(stores: Stores) -> None:
    artefact = Artefact(NAME, RECORD, FACTS, b"weights")
    write_artefact(stores("finetune"), artefact)
    assert read_artefact(stores("generation"), NAME) == artefact


def test_what_is_stored_first_stays(stores: Stores) -> None:
    write_artefact(stores("finetune"), Artefact(NAME, RECORD, FACTS, b"first"))
    write_artefact(stores("finetune"), Artefact(NAME, RECORD, FACTS, b"second"))
    assert read_artefact(stores("generation"), NAME).weights == b"first"


def test_an_unfinished_generator_is_not_there(stores: Stores) -> None:
    stores("finetune").put_new(f"{NAME}/model.safetensors", b"weights")
    stores("finetune").put_new_json(f"{NAME}/config.json", FACTS)
    with pytest.raises(NotFound, match="genaug generator list"):
        read_record(stores("generation"), NAME)


def test_parts_that_contradict_each_other_are_refused(stores: Stores) -> None:
    write_artefact(stores("finetune"), Artefact(NAME, RECORD, {**FACTS, "classes": ["b"]}, b""))
    with pytest.raises(FailedPrecondition, match="disagree on classes"):
        read_artefact(stores("generation"), NAME)


def test_tensors_that_do_not_fit_are_listed() -> None:
    found = {"same": np.zeros(1), "extra": np.zeros(1), "shape": np.zeros(2)}
    expected = {"same": np.zeros(1), "lost": np.zeros(1), "shape": np.zeros(3)}
    with pytest.raises(FailedPrecondition) as error:
        check_tensors(NAME, found=found, expected=expected)
    assert error.value.reason == "BROKEN_GENERATOR"
    assert "missing: lost; unknown: extra; of another shape: shape" in error.value.message


def test_a_foreign_class_is_refused_by_naming_those_there_are() -> None:
    check_classes(RECORD, ["a"])
    with pytest.raises(InvalidArgument, match=r"class 'z': .* draws a and no other"):
        check_classes(RECORD, ["a", "z"])


def test_transforms_do_not_sample() -> None:
    assert not samples(RECORD)
    assert samples({"spec": {"kind": "KIND_CLASS_CONDITIONAL"}})
