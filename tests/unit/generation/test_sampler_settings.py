from __future__ import annotations

from typing import Any

import pytest

from genaug.generation.sampling.sampler_settings import read_sampler
from genaug.schema.generators import Generator, GeneratorSpec
from genaug.schema.requests import SamplerSettings
from genaug.schema.sampling import SCHEDULERS, Sampler
from genaug.schema.wire import from_proto
from genaug.shared.errors import InvalidArgument
from genaug.v1 import sampler_pb2

SETTINGS: dict[str, dict[str, Any]] = {"class_conditional": {}, "stable_diffusion": {"base": "b"}, "transforms": {}}


def record(kind: str) -> Generator:
    spec = GeneratorSpec.model_validate({kind: SETTINGS[kind]})
    return Generator(name="generators/x", spec=spec, image_size=64)


def read(kind: str = "stable_diffusion", **fields: Any) -> Sampler | None:
    message = sampler_pb2.SamplerSettings(**fields)
    return read_sampler(from_proto(SamplerSettings, message, path="sampler", reason="BAD_SAMPLER"), record(kind))


def test_empty_fields_take_the_default_of_the_kind() -> None:
    assert read() == Sampler(steps=25, guidance_scale=7.5, image_size=64)
    assert read("class_conditional") == Sampler(steps=20, guidance_scale=1.5, image_size=64)
    assert read("transforms") is None
    assert read(profile="PROFILE_UNSPECIFIED", steps=0, strength=0.0) == read()


def test_given_fields_are_kept() -> None:
    settings: dict[str, Any] = {
        "steps": 3, "guidance_scale": 2.0, "scheduler": "DDIMScheduler", "negative_prompt": "x", "image_size": 32,
        "strength": 0.5, "profile": "PROFILE_TURBO", "precision": "PRECISION_BFLOAT16",
    }  # fmt: skip
    assert read(**settings) == Sampler(**settings)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_sampler_of_a_receipt_is_read_unchanged(name: str) -> None:
    sampler = read(steps=7, scheduler=name, strength=0.25 if SCHEDULERS[name].starts_midway else 0.0)
    assert sampler is not None
    assert read_sampler(SamplerSettings.of(sampler), record("stable_diffusion")) == sampler


@pytest.mark.parametrize("name", [name for name, scheduler in SCHEDULERS.items() if not scheduler.starts_midway])
def test_schedulers_that_need_their_first_steps_do_not_start_midway(name: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot start in the middle"):
        read(scheduler=name, strength=0.5)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"steps": -1}, "steps: -1 is not within 1 and 1000"),
        ({"steps": 1001}, "steps: 1001"),
        ({"guidance_scale": 0.5}, "guidance_scale: 0.5"),
        ({"guidance_scale": 101}, "guidance_scale: 101"),
        ({"guidance_scale": float("nan")}, "guidance_scale: nan"),
        ({"guidance_scale": float("inf")}, "guidance_scale: inf"),
        ({"strength": float("nan")}, "strength: nan"),
        ({"strength": -0.1}, "strength: -0.1"),
        ({"strength": 1.01}, "strength: 1.01"),
        ({"image_size": -8}, "image_size: -8"),
        ({"image_size": 4}, "image_size: 4 is not within 8 and 1024"),
        ({"image_size": 1032}, "image_size: 1032"),
        ({"negative_prompt": "x" * 1001}, "negative_prompt: is longer than 1000"),
        ({"profile": 9}, "profile: 9 is unknown; there are FULL, TURBO"),
        ({"precision": 9}, "precision: 9 is unknown; there are FLOAT32, BFLOAT16"),
        ({"precision": "PRECISION_INT8"}, "precision: 8 bits are for labeling; there are FLOAT32 and BFLOAT16"),
    ],
)
def test_an_invalid_value_is_refused_by_its_field(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"^sampler\.{words}") as caught:
        read(**fields)
    assert caught.value.reason == "BAD_SAMPLER"


def test_an_unknown_scheduler_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidArgument, match="'LCMScheduler' is none of DDIMScheduler") as caught:
        read(scheduler="LCMScheduler")
    assert caught.value.reason == "BAD_SCHEDULER"


@pytest.mark.parametrize("fields", [{"negative_prompt": "x"}, {"strength": 0.5}, {"image_size": 32}])
def test_settings_of_prompted_kinds_are_refused_for_others(fields: dict[str, Any]) -> None:
    [field] = fields
    message = rf"sampler\.{field}: is not available for generators/x, a generator of kind class_conditional"
    with pytest.raises(InvalidArgument, match=message):
        read("class_conditional", **fields)
    assert read("class_conditional", image_size=64) == read("class_conditional")


def test_all_problems_are_named() -> None:
    with pytest.raises(InvalidArgument, match=r"sampler\.steps: -1.*; sampler\.strength: 2"):
        read(steps=-1, strength=2.0)
