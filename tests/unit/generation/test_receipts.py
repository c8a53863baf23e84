from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from genaug.generation.receipts import Drawn, Sampler, Wanted, draw_digest, draw_key, receipt_json
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


def test_the_receipt_is_the_message_without_loss() -> None:
    drawn = Drawn(Wanted("a", 5, 7), np.zeros((8, 8, 1), np.uint8), 32, ("p" * 32,))
    receipt = receipt_json(GENERATOR, drawn, sampler=Sampler(), digest="d" * 32, pixel_sha256="e" * 64)
    assert to_dict(from_dict(generator_pb2.Receipt, receipt)) == receipt
