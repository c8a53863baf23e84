from __future__ import annotations

from typing import Any

import pytest

from genaug.generation.sampling.receipts import Sampler
from genaug.generation.sampling.sampler_settings import FROM_THE_START, SCHEDULERS, default_sampler, read_sampler
from genaug.shared.errors import InvalidArgument
from genaug.shared.protojson import to_dict
from genaug.v1 import sampler_pb2


def record(kind: str = "STABLE_DIFFUSION") -> dict[str, Any]:
    return {"name": "generators/x", "spec": {"kind": f"KIND_{kind}"}, "image_size": 64}


def read(kind: str = "STABLE_DIFFUSION", **fields: Any) -> Sampler | None:
    return read_sampler(to_dict(sampler_pb2.SamplerSettings(**fields)), record(kind))


def test_what_is_left_out_is_the_kinds_default() -> None:
    assert read() == Sampler(steps=25, guidance_scale=7.5, image_size=64)
    assert read("CLASS_CONDITIONAL") == Sampler(steps=20, guidance_scale=1.5, image_size=64)
    assert read("TRANSFORMS") is None
    assert default_sampler(record()).steps == 25


def test_what_is_said_is_taken() -> None:
    found = read(
        steps=3, guidance_scale=2, scheduler="DDIMScheduler", negative_prompt="x", image_size=32, strength=0.5,
        profile="PROFILE_TURBO", precision="PRECISION_BFLOAT16",
    )  # fmt: skip
    assert found == Sampler(3, 2, "DDIMScheduler", "x", 32, 0.5, "PROFILE_TURBO", "PRECISION_BFLOAT16")


def test_what_is_unspecified_is_the_default() -> None:
    assert read(profile="PROFILE_UNSPECIFIED", steps=0, strength=0.0) == read()
    assert read_sampler({"profile": "PROFILE_UNSPECIFIED", "precision": ""}, record()) == read()


def test_a_receipts_sampler_is_read_as_it_was() -> None:
    for name in SCHEDULERS:
        found = read(steps=7, scheduler=name, strength=0.0 if name in FROM_THE_START else 0.25)
        assert found is not None
        assert read_sampler(vars(found), record()) == found


@pytest.mark.parametrize("name", FROM_THE_START)
def test_schedulers_that_count_on_their_first_steps_do_not_start_in_the_middle(name: str) -> None:
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
        ({"image_size": 4}, "image_size: 4"),
        ({"image_size": 1032}, "image_size: 1032"),
        ({"negative_prompt": "x" * 1001}, "negative_prompt: is longer than 1000"),
        ({"profile": 9}, "profile: 9 is none of PROFILE_FULL, PROFILE_TURBO"),
        ({"precision": 9}, "precision: 9 is none of"),
        ({"precision": "PRECISION_INT8"}, "precision: PRECISION_INT8 is none of"),
    ],
)
def test_what_is_out_of_range_is_refused_by_its_field(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"^sampler\.{words}") as caught:
        read(**fields)
    assert caught.value.reason == "BAD_SAMPLER"


def test_an_unknown_scheduler_is_refused_by_naming_those_there_are() -> None:
    with pytest.raises(InvalidArgument, match="'LCMScheduler' is none of DDIMScheduler") as caught:
        read(scheduler="LCMScheduler")
    assert caught.value.reason == "BAD_SCHEDULER"


@pytest.mark.parametrize("fields", [{"negative_prompt": "x"}, {"strength": 0.5}, {"image_size": 32}])
def test_what_is_for_stable_diffusion_is_refused_elsewhere(fields: dict[str, Any]) -> None:
    [field] = fields
    with pytest.raises(InvalidArgument, match=rf"sampler\.{field}: is for stable-diffusion"):
        read("CLASS_CONDITIONAL", **fields)
    assert read("CLASS_CONDITIONAL", image_size=64) == read("CLASS_CONDITIONAL")
