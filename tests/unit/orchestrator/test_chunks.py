from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from genaug.orchestrator.chunks import chunk_size, compared_counts, draw_requests, rejections, top_up
from genaug.schema.common import ClassCount
from genaug.schema.generators import GENERATORS, Batch, GeneratorSpec, Rejection, RejectionReason
from genaug.schema.run import GenerationSpec

GENERATION = GenerationSpec(seed=3).completed(GeneratorSpec())


@given(st.dictionaries(st.sampled_from("ABC"), st.tuples(st.integers(0, 2000), st.integers(0, 500)), min_size=1))
def test_chunks_cover_each_index_once(plan) -> None:
    wanted = {name: count for name, (count, _) in plan.items()}
    first = {name: start for name, (_, start) in plan.items()}
    seen: dict[str, list[int]] = {name: [] for name in wanted}
    for request in draw_requests(GENERATION, "generators/x", wanted, first, size=256):
        (count,) = request.counts
        assert 1 <= count.count <= 256
        seen[count.class_name] += range(request.first_index, request.first_index + count.count)
    for name, indexes in seen.items():
        assert indexes == list(range(first[name], first[name] + wanted[name]))


def test_rejected_images_are_topped_up() -> None:
    none = {"A": 0, "B": 0}
    assert top_up({"A": 100, "B": 10}, none, none, limit=8) == {"A": 120, "B": 12}
    assert top_up({"A": 100, "B": 10}, {"A": 60, "B": 10}, {"A": 120, "B": 12}, limit=8) == {"A": 96}
    assert top_up({"A": 5}, {"A": 9}, {"A": 9}, limit=8) == {}


def test_a_class_whose_images_are_all_rejected_is_given_up_at_the_limit() -> None:
    needed, kept, drawn = {"A": 100}, {"A": 0}, {"A": 0}
    for _ in range(20):
        wanted = top_up(needed, kept, drawn, limit=8)
        drawn["A"] += wanted.get("A", 0)
    assert drawn == {"A": 800}
    assert top_up(needed, kept, drawn, limit=8) == {}


@given(
    st.dictionaries(st.sampled_from("ABCD"), st.tuples(st.integers(0, 500), st.floats(0, 1)), min_size=1),
    st.floats(1, 20),
)
def test_rounds_end_with_enough_or_at_the_limit(classes, limit) -> None:
    needed = {name: count for name, (count, _) in classes.items()}
    kept, drawn = dict.fromkeys(needed, 0), dict.fromkeys(needed, 0)
    while wanted := top_up(needed, kept, drawn, limit=limit):
        for name, count in wanted.items():
            assert count > 0
            drawn[name] += count
            kept[name] += int(count * classes[name][1])
    for name, target in needed.items():
        assert drawn[name] <= math.ceil(limit * target)
        assert kept[name] >= target or drawn[name] == math.ceil(limit * target)


def test_chunks_are_cut_by_the_work_that_is_in_them() -> None:
    """64 images of 512 pixels would keep a small CPU at one chunk for hours."""
    base, scratch = GENERATORS.get("stable_diffusion"), GENERATORS.get("class_conditional")
    assert chunk_size(base, 512) == 16
    assert chunk_size(base, 8) == 16
    assert chunk_size(scratch, 64) == 64
    assert chunk_size(scratch, 16) == 256


def test_other_captions_draw_what_the_first_round_begins_with() -> None:
    assert compared_counts({"a": 10, "b": 500, "c": 0}, limit=8) == {"a": 12, "b": 64}
    assert compared_counts({"a": 10}, limit=1) == {"a": 10}


def test_rejected_draws_are_summed_by_class_and_reason() -> None:
    black = Rejection(class_name="a", reason=RejectionReason.BLACK, count=2)
    other = Rejection(class_name="b", reason=RejectionReason.BLACK, count=1)
    batches = [Batch(rejected=(black,)), Batch(), Batch(rejected=(black, other))]
    assert rejections(batches) == (black.replace(count=4), other)
    assert rejections([Batch(name="batches/x")]) == ()


def test_a_batch_may_have_no_image_of_a_class() -> None:
    """JSON leaves out a count of zero."""
    assert Batch(counts=(ClassCount(class_name="a"), ClassCount(class_name="b", count=3))).size == 3
