from __future__ import annotations

import pytest

from genaug.evaluation.agreement import agreement
from genaug.shared.manifest import Row

CLASSES = ["a", "b"]


def rows(*said: tuple[str, str, str]) -> list[Row]:
    """Images by prompt, label and verdict."""
    return [
        Row(
            f"{i:032x}", f"draws/{i}", "", "", prompt, "train", source="synthetic", prompt=prompt, label=label,
            label_verdict=verdict,  # type: ignore[arg-type]
        )
        for i, (prompt, label, verdict) in enumerate(said)
    ]  # fmt: skip


def test_shares_and_kappa_by_hand() -> None:
    first = rows(*[("a", "a", "accepted")] * 6, *[("a", "b", "disagrees")] * 2, *[("b", "b", "accepted")] * 2)
    second = rows(
        *[("a", "a", "accepted")] * 4, ("a", "a", "unsure"), ("a", "b", "disagrees"), *[("a", "b", "disagrees")] * 2,
        *[("b", "b", "accepted")] * 2,
    )  # fmt: skip
    found = agreement(CLASSES, first, second[::-1])
    # Nine of ten alike. By chance (6 × 5 + 4 × 5) / 100: kappa (0.9 - 0.5) / (1 - 0.5).
    assert found is not None
    assert (found.images, found.same.value) == (10, 0.9)
    assert found.kappa == pytest.approx(0.8)
    # Wilson's interval of 9 out of 10, as tabled.
    assert (found.same.lower, found.same.upper) == pytest.approx((0.5958, 0.9821), abs=1e-4)
    a, b = found.classes
    assert (a.class_name, a.images, a.accepted, a.both) == ("a", 8, 6, 4)
    assert (b.same.value, b.accepted, b.both) == (1.0, 2, 2)


def test_an_image_kept_as_another_class_is_not_kept_by_both() -> None:
    first, second = rows(("a", "b", "accepted")), rows(("a", "a", "accepted"))
    trusted = [Row(**{**row.__dict__, "class_name": row.label}) for row in (*first, *second)]
    found = agreement(CLASSES, trusted[:1], trusted[1:])
    assert found is not None
    (a,) = found.classes
    assert (a.accepted, a.both) == (1, 0)


def test_what_is_no_photograph_says_nothing() -> None:
    first = rows(("a", "", "degenerate"), ("a", "a", "accepted"))
    found = agreement(CLASSES, first, first)
    assert found is not None
    assert found.images == 1
    # One label alone: chance agrees on all, and kappa is not defined.
    assert found.kappa is None
    assert agreement(CLASSES, first[:1], first[:1]) is None
    assert agreement(CLASSES, first, []) is None
