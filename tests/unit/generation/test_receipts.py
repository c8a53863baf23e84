from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from genaug.generation.receipts import Drawn, Sampler, Source, Wanted, draw_digest, draw_key, receipt_json
from genaug.shared.protojson import from_dict, to_dict
from genaug.v1 import generator_pb2

GENERATOR = "generators/" + "0" * 32
WANTED = Wanted("a", 0, 0)


def test_equal_requests_have_one_digest() -> None:
    assert draw_digest(GENERATOR, WANTED, Sampler()) == draw_digest(GENERATOR, Wanted("a", 0, 0), Sampler(20, 1.5))


@pytest.mark.parametrize("change", [{"class_name": "b"}, {"seed": 1}, {"index": 1}])
def test_each_fact_of_an_image_changes_its_digest(change: dict[str, Any]) -> None:
    assert draw_digest(GENERATOR, replace(WANTED, **change), Sampler()) != draw_digest(GENERATOR, WANTED, Sampler())


@pytest.mark.parametrize("sampler", [None, Sampler(steps=21), Sampler(guidance_scale=1)])
def test_the_sampler_changes_the_digest(sampler: Sampler | None) -> None:
    assert draw_digest(GENERATOR, WANTED, sampler) != draw_digest(GENERATOR, WANTED, Sampler())


def test_a_draw_lies_below_the_start_of_its_digest() -> None:
    assert draw_key("ab" + "0" * 30) == "draws/ab/ab" + "0" * 30


FULL = Sampler(
    steps=3, guidance_scale=7.5, negative_prompt="x", image_size=64, strength=0.5, profile="PROFILE_TURBO",
    precision="PRECISION_BFLOAT16",
)  # fmt: skip
SOURCE = Source(GENERATOR, base="bases/" + "1" * 32, weights_sha256="f" * 64, captions={"a": "an a"}, device="cpu")


def receipt(sampler: Sampler | None, source: Source = SOURCE, **changes: Any) -> dict[str, Any]:
    drawn = Drawn(Wanted("a", 5, 7), np.zeros((8, 8, 1), np.uint8), 32, **changes)
    return receipt_json(source, drawn, sampler=sampler, pixel_sha256="e" * 64)


@pytest.mark.parametrize("made", [receipt(FULL, parent_ids=("p" * 32,)), receipt(None), receipt(FULL, Source("g"))])
def test_the_receipt_is_the_message_without_loss(made: dict[str, Any]) -> None:
    assert to_dict(from_dict(generator_pb2.Receipt, made)) == made


def test_the_receipt_says_what_drew_the_image_and_with_which_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genaug.generation.receipts.revision", lambda: "a1b2")
    made = receipt(FULL)
    assert (made["prompt"], made["base"], made["weights_sha256"]) == ("an a", SOURCE.base, "f" * 64)
    assert (made["image_size"], made["device"], made["bucket"]) == (8, "cpu", 32)
    assert made["draw"] == draw_digest(GENERATOR, Wanted("a", 5, 7), FULL)
    assert made["revision"] == "a1b2"


@pytest.mark.parametrize("field", ["negative_prompt", "strength", "image_size", "profile", "precision", "scheduler"])
def test_each_setting_of_the_sampler_changes_the_digest(field: str) -> None:
    default = getattr(Sampler(), field)
    other = replace(FULL, **{field: default}) if field != "scheduler" else replace(FULL, scheduler="DDIMScheduler")
    assert draw_digest(GENERATOR, WANTED, other) != draw_digest(GENERATOR, WANTED, FULL)


@pytest.mark.parametrize(("steps", "guided"), [(1, 1), (2, 1), (5, 3), (10, 5)])
def test_turbo_guides_the_first_half(steps: int, guided: int) -> None:
    turbo, full = Sampler(profile="PROFILE_TURBO"), Sampler()
    assert [turbo.guided(step, of=steps) for step in range(steps)] == [step < guided for step in range(steps)]
    assert all(full.guided(step, of=steps) for step in range(steps))
    assert not any(replace(turbo, guidance_scale=1).guided(step, of=steps) for step in range(steps))
