from __future__ import annotations

import contextlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from genaug.schema.runfile import apply_overrides, load_yaml, parse_spec
from genaug.shared.errors import InvalidArgument
from genaug.v1 import run_pb2

RUN = run_pb2.RunSpec


def test_a_run_file_reads_as_it_is_written() -> None:
    spec = parse_spec(
        load_yaml(
            """
            name: odir-5class
            dataset: odir
            classes: [0, G]
            multi_disease: EXCLUDE
            labeling: {mode: trust-labeler}
            scenarios:
              - {name: real}
              - {name: synthetic-x2, synthetic: 2}
            evaluation: {seeds: 5}
            """
        ),
        RUN,
    )
    assert list(spec.classes) == ["0", "G"]
    assert spec.multi_disease == 1
    assert spec.labeling.mode == run_pb2.LabelingSpec.MODE_TRUST_LABELER
    assert spec.scenarios[1].synthetic == 2.0
    assert spec.evaluation.seeds == 5
    assert not spec.evaluation.HasField("updates")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a: [", "line 1"),
        ("- a", "mapping"),
        ("name: a\nname: b", "stands twice"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("[1]: 2", "not a word"),
        ("x: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a" * 1_000_001, "more than"),
    ],
)
def test_broken_yaml_says_where(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        load_yaml(text)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"nmae": "x"}, r"^nmae: unknown key; did you mean 'name'\?"),
        ({"evaluation": {"seed": 3}}, r"^evaluation\.seed: unknown key; did you mean 'seeds'\?"),
        ({"scenarios": [{"name": "real"}, {"synthtic": 2}]}, r"^scenarios\[1\]\.synthtic: .*'synthetic'"),
        ({"evaluation": {"seeds": "three"}}, r"^evaluation\.seeds: 'three' is not a whole number"),
        ({"evaluation": {"seeds": True}}, r"^evaluation\.seeds: True is not a whole number"),
        ({"evaluation": []}, r"^evaluation: must be a mapping"),
        ({"classes": "D"}, r"^classes: must be a list"),
        ({"labeling": {"mode": "AGRE"}}, r"did you mean AGREE\? there are AGREE"),
        ({"import": {"keep": {"1": "x"}}}, r"^import\.keep\.1: 'x' is not a whole number"),
        ({"classes": [False]}, r"quotes"),
    ],
)
def test_a_wrong_value_is_named_by_its_path(value, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        parse_spec(value, RUN)


def test_overrides_reach_into_lists_and_make_mappings() -> None:
    value = {"scenarios": [{"name": "real"}]}
    apply_overrides(value, ["scenarios.0.synthetic=2", "evaluation.seeds=3", "name=x"])
    assert value == {"scenarios": [{"name": "real", "synthetic": 2}], "evaluation": {"seeds": 3}, "name": "x"}


@pytest.mark.parametrize("override", ["seeds", "=3", "name.x=1", "scenarios.7.name=x"])
def test_a_wrong_override_is_refused(override: str) -> None:
    with pytest.raises(InvalidArgument, match="--set"):
        apply_overrides({"name": "a", "scenarios": []}, [override])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=6), c, max_size=3),
        max_leaves=8,
    )
)
def test_anything_is_a_spec_or_a_clear_error(value) -> None:
    with contextlib.suppress(InvalidArgument):
        parse_spec(value, RUN)


@pytest.mark.parametrize("text", ["x: 2001-99-99", "[" * 5000, "x: " + "9" * 6000])
def test_what_breaks_the_yaml_library_is_broken_yaml(text: str) -> None:
    with pytest.raises(InvalidArgument, match="run file"):
        load_yaml(text)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train_steps", 3_000_000_000),
        ("batch_size", 10**20),
        ("learning_rate", float("nan")),
        ("held_out", float("-inf")),
        ("ema_decay", 10**400),
    ],
)
def test_a_number_that_fits_no_field_is_refused_by_its_path(key: str, value: float) -> None:
    with pytest.raises(InvalidArgument, match=rf"^generator\.class_conditional\.{key}: .{{1,40}} is no number"):
        parse_spec({"generator": {"class_conditional": {key: value}}}, RUN)


def test_an_override_that_is_no_yaml_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="no YAML value"):
        apply_overrides({}, ["a=[1"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"train_steps": 600}, {"class_conditional": {"train_steps": 600}}),
        ({"kind": "TRANSFORMS", "image_size": 32}, {"image_size": 32, "transforms": {}}),
        (
            {"kind": "STABLE_DIFFUSION", "base": "b", "memorised": 1, "seed": 3},
            {"seed": 3, "stable_diffusion": {"base": "b", "memorized": 1}},
        ),
    ],
)
def test_a_generator_of_the_old_form_is_refused_with_the_new_one(old: dict, new: dict) -> None:
    with pytest.raises(InvalidArgument, match="write:") as caught:
        parse_spec({"generator": old}, RUN)
    assert caught.value.reason == "OLD_RUN_FILE"
    form = yaml.safe_load(caught.value.message.partition("write:")[2])
    assert form == {"generator": new}
    parse_spec(form, RUN)


def test_ranges_of_traditional_scenarios_move_to_the_top() -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_spec({"generator": {"train_steps": 5, "transforms": {"shift": 0.1}}}, RUN)
    form = yaml.safe_load(caught.value.message.partition("write:")[2])
    assert form == {"generator": {"class_conditional": {"train_steps": 5}}, "transforms": {"shift": 0.1}}
