from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from genaug.generation.sampling.receipts import (
    DrawnImage,
    ImageRequest,
    draw_digest,
    draw_key,
    receipt_json,
    receipt_of,
)
from genaug.schema.common import Precision
from genaug.schema.generators import Generator, Receipt
from genaug.schema.sampling import Profile, Sampler
from genaug.schema.wire import from_proto, to_proto
from genaug.shared.digests import canonical_json
from genaug.shared.provenance import revision
from genaug.v1 import generator_pb2

GENERATOR = "generators/" + "0" * 32
REQUEST = ImageRequest("a", 5, 7)
FULL = Sampler(
    steps=3, guidance_scale=7.5, negative_prompt="x", image_size=64, strength=0.5, profile=Profile.TURBO,
    precision=Precision.BFLOAT16,
)  # fmt: skip
RECORD = Generator(name=GENERATOR, base="bases/" + "1" * 32, weights_sha256="f" * 64, captions={"a": "an a"})


@pytest.mark.parametrize(
    ("sampler", "digest"),
    [
        (None, "6d64160b6119ce0dc78a403f28b7cc65"),
        (Sampler(), "7c1fa30f386148f64b0b15939418841b"),
        (Sampler(guidance_scale=2, image_size=8), "6c11721734a84a88a45e2612c3e19864"),
        (FULL, "5a9dd4af3cedf9282d770cb352c7c3a9"),
    ],
)
def test_digests_are_those_of_stored_draws(sampler: Sampler | None, digest: str) -> None:
    assert draw_digest(GENERATOR, REQUEST, sampler) == digest


@pytest.mark.parametrize("change", [{"class_name": "b"}, {"seed": 1}, {"index": 1}])
def test_each_field_of_a_request_changes_its_digest(change: dict[str, Any]) -> None:
    assert draw_digest(GENERATOR, replace(REQUEST, **change), FULL) != draw_digest(GENERATOR, REQUEST, FULL)


@pytest.mark.parametrize("field", list(Sampler.model_fields))
def test_each_sampler_setting_changes_the_digest(field: str) -> None:
    other = FULL.replace(scheduler="DDIMScheduler") if field == "scheduler" else FULL.replace(
        **{field: getattr(Sampler(), field)}
    )  # fmt: skip
    assert draw_digest(GENERATOR, REQUEST, other) != draw_digest(GENERATOR, REQUEST, FULL)


def test_a_draw_lies_below_the_start_of_its_digest() -> None:
    assert draw_key("ab" + "0" * 30) == "draws/ab/ab" + "0" * 30


def receipt(sampler: Sampler | None, record: Generator = RECORD, parents: tuple[str, ...] = ()) -> Receipt:
    image = DrawnImage(REQUEST, np.zeros((8, 8, 1), np.uint8), 32, parents)
    return receipt_of(record, image, sampler=sampler, device="cpu")


RECEIPTS = [receipt(FULL, parents=("p" * 32,)), receipt(None), receipt(FULL, Generator(name="g"))]


@pytest.mark.parametrize("made", RECEIPTS)
def test_a_receipt_survives_the_wire_and_the_store(made: Receipt) -> None:
    assert from_proto(Receipt, to_proto(generator_pb2.Receipt, made)) == made
    assert Receipt.model_validate(receipt_json(made)) == made


def test_a_receipt_names_the_generator_and_the_caption() -> None:
    made = receipt(FULL)
    assert (made.prompt, made.base, made.weights_sha256) == ("an a", RECORD.base, "f" * 64)
    assert (made.image_size, made.device, made.bucket) == (8, "cpu", 32)
    assert made.draw == draw_digest(GENERATOR, REQUEST, FULL)
    assert made.revision == revision()


def test_stored_receipts_have_no_empty_fields() -> None:
    """The very bytes that earlier releases wrote: row digests depend on them."""
    fixed = {"pixel_sha256": "e" * 64, "revision": ""}
    transformed = receipt(None, parents=("p" * 32,)).replace(**fixed)
    assert canonical_json(receipt_json(transformed)).decode() == (
        '{"base":"bases/11111111111111111111111111111111","bucket":32,"class_name":"a","device":"cpu",'
        '"draw":"6d64160b6119ce0dc78a403f28b7cc65","generator":"generators/00000000000000000000000000000000",'
        '"image_size":8,"index":7,"parent_ids":["pppppppppppppppppppppppppppppppp"],'
        f'"pixel_sha256":"{"e" * 64}","prompt":"an a","seed":5,"weights_sha256":"{"f" * 64}"}}'
    )
    first = DrawnImage(ImageRequest("a", 0, 0), np.zeros((8, 8, 1), np.uint8), 1)
    drawn = receipt_of(Generator(name="g"), first, sampler=FULL, device="").replace(**fixed)
    assert receipt_json(drawn) == {
        "generator": "g", "class_name": "a", "seed": 0, "index": 0, "bucket": 1, "pixel_sha256": "e" * 64,
        "draw": drawn.draw, "image_size": 8,
        "sampler": {
            "steps": 3, "guidance_scale": 7.5, "scheduler": "DPMSolverMultistepScheduler", "negative_prompt": "x",
            "image_size": 64, "strength": 0.5, "profile": "PROFILE_TURBO", "precision": "PRECISION_BFLOAT16",
        },
    }  # fmt: skip


@pytest.mark.parametrize(("steps", "guided"), [(1, 1), (2, 1), (5, 3), (10, 5)])
def test_turbo_guides_the_first_half(steps: int, guided: int) -> None:
    turbo, full = Sampler(profile=Profile.TURBO), Sampler()
    assert [turbo.is_guided(step, of=steps) for step in range(steps)] == [step < guided for step in range(steps)]
    assert all(full.is_guided(step, of=steps) for step in range(steps))
    assert not any(turbo.replace(guidance_scale=1).is_guided(step, of=steps) for step in range(steps))
