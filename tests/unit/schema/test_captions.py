from __future__ import annotations

import json
from importlib.resources import files

import pytest

from genaug.schema.captions import captions_of, prompt_sets
from genaug.shared.errors import InvalidArgument

ODIR = tuple("NDGCAHMO")


def test_the_sets_are_there_in_versions_and_say_what_they_are() -> None:
    assert prompt_sets() == {"disease-specific": [1], "generic": [1]}
    for name, versions in prompt_sets().items():
        for version in versions:
            text = files("genaug.schema").joinpath("prompts", f"{name}-{version}.json").read_text("utf-8")
            content = json.loads(text)
            assert (content["name"], content["version"]) == (name, version)


def test_every_class_of_odir_has_a_caption_of_its_disease() -> None:
    found = captions_of("disease-specific", ODIR, own={})
    assert found.prompts == "disease-specific@1"
    assert len(set(found.by_class.values())) == 8
    words = {"D": "diabetic", "G": "glaucoma", "C": "cataract", "A": "macular", "H": "hypertensive", "M": "myopia"}
    for letter, word in words.items():
        assert word in found.by_class[letter]
    assert all("fundus photograph" in one for one in found.by_class.values())


def test_generic_captions_differ_in_the_classs_name_alone() -> None:
    found = captions_of("generic", ["lies", "D"], own={})
    assert dict(found.by_class) == {"lies": "a photograph of class lies", "D": "a photograph of class D"}


@pytest.mark.parametrize("prompts", ["generic", "generic@1"])
def test_a_version_is_written_out(prompts: str) -> None:
    assert captions_of(prompts, ["a"], own={}).prompts == "generic@1"


def test_own_captions_go_before_the_sets() -> None:
    found = captions_of("disease-specific", ["D", "N"], own={"N": "an eye"})
    assert found.by_class["N"] == "an eye"
    assert "diabetic" in found.by_class["D"]
    assert list(found.by_class) == ["D", "N"]
    assert captions_of("no such set", ["x"], own={"x": "an x"}).prompts == "own"


@pytest.mark.parametrize(
    ("prompts", "own", "words"),
    [
        ("disease-specific", {}, r"captions: disease-specific@1 has no caption of class lies, stands; it has N, D"),
        ("disease-specific", {"lies": "x"}, r"no caption of class stands"),
        ("nice", {}, r"prompts: 'nice' is none of disease-specific, generic"),
        ("", {}, r"prompts: ''"),
        ("generic@2", {}, r"versions of generic are 1"),
        ("generic@x", {}, r"versions of generic are 1"),
        ("generic@²", {}, r"versions of generic are 1"),
        ("generic@-1", {}, r"versions of generic are 1"),
        ("../generic", {}, r"is none of"),
        ("generic", {"leans": "x"}, r"captions: 'leans' is none of the classes that are drawn: lies, stands"),
        ("generic", {"lies": ""}, r"captions: the caption of 'lies' is empty"),
        ("generic", {"lies": " \n"}, r"captions: the caption of 'lies' is empty"),
        ("generic", {"lies": "x" * 1001}, r"longer than 1000"),
    ],
)
def test_what_cannot_be_said_is_refused_by_path(prompts: str, own: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words) as caught:
        captions_of(prompts, ["lies", "stands"], own=own)
    assert caught.value.reason == "BAD_CAPTIONS"
    assert caught.value.message.startswith("generator.")
