from __future__ import annotations

import pytest

from genaug.evaluation.captions import CaptionDraws, compare_captions
from genaug.shared.manifest import Row


def drawn(*said: tuple[str, int, str, float], verdict: str = "accepted") -> CaptionDraws:
    """Images by class asked for, index, label and distance."""
    rows = [
        Row(
            f"{name}{index}", "", "", "", name, "train", source="synthetic", prompt=name, index=index, label=label,
            label_verdict=verdict if label == name else "disagrees",  # type: ignore[arg-type]
        )
        for name, index, label, _ in said
    ]  # fmt: skip
    return CaptionDraws(rows, {f"{name}{index}": distance for name, index, label, distance in said if label == name})


def test_sets_are_compared_by_class_and_over_all() -> None:
    first = drawn(("a", 0, "a", 0.1), ("a", 1, "a", 0.3), ("a", 2, "b", 0.0), ("b", 0, "b", 0.5))
    second = drawn(("a", 0, "a", 0.2), ("a", 1, "b", 0.0), ("b", 0, "a", 0.0))
    classes, overall = compare_captions({"a": 3, "b": 1}, first, second, natural={"a": 0.4, "b": 0.8})
    a, b = classes
    mine, theirs = a.sets
    assert (a.class_name, mine.drawn, mine.accepted, mine.no_image) == ("a", 3, 2, 0)
    assert mine.distance == pytest.approx(0.2)
    assert mine.share.value == pytest.approx(2 / 3)
    # The third was no image: it counts as a draw that was not accepted.
    assert (theirs.drawn, theirs.accepted, theirs.no_image, theirs.distance) == (3, 1, 1, 0.2)
    assert a.difference.value == pytest.approx(1 / 3)
    assert a.natural == 0.4
    assert (b.sets[1].accepted, b.sets[1].distance) == (0, None)
    assert [entry.accepted for entry in overall.sets] == [3, 1]
    assert overall.difference.value == pytest.approx(2 / 4)
    assert overall.natural == 0.4, "each class as often as it was drawn"


def test_only_what_both_were_asked_for_is_compared() -> None:
    """The run's own captions went on to draw more."""
    first = drawn(*[("a", index, "a", 0.1) for index in range(200)], ("c", 0, "c", 0.1))
    second = drawn(*[("a", index, "b", 0.1) for index in range(10)])
    _, overall = compare_captions({"a": 10}, first, second, natural={})
    assert [entry.accepted for entry in overall.sets] == [10, 0]
    assert overall.natural is None
    assert overall.difference.lower > 0


def test_where_the_labeler_is_not_asked_to_agree_its_label_says_whether_it_does() -> None:
    first, second = drawn(("a", 0, "a", 0.1)), drawn(("a", 0, "b", 0.1))
    second = CaptionDraws([Row(**{**row.__dict__, "label_verdict": "accepted"}) for row in second.rows], {})
    _, overall = compare_captions({"a": 1}, first, second, natural={})
    assert [entry.accepted for entry in overall.sets] == [1, 0]
