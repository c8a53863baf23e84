"""What a client may send."""

from __future__ import annotations

import random

import pytest

from genaug.assembly.source import Plan, SourceRow, check_plan, check_row, source_digest
from genaug.shared.errors import InvalidArgument

ROWS = [
    SourceRow("1" * 64, "one", "a", "p", None, {"age": "3"}),
    SourceRow("2" * 64, "two", "a", "p"),
    SourceRow("3" * 64, "three", "b", "q"),
    SourceRow("4" * 64, "four", "b"),
]
PLAN = Plan("d", "csv")


def test_defaults_are_filled_in() -> None:
    assert check_plan("d", "csv", split=[], folds=0, seed=3) == Plan("d", "csv", (0.7, 0.15, 0.15), 5, 3)


@pytest.mark.parametrize(
    "split", [[1.0], [0.7, 0.3], [0.7, 0.3, 0.3], [1.2, -0.1, -0.1], [1, 0, 0], [float("nan")] * 3]
)
def test_shares_that_are_none_are_refused(split: list[float]) -> None:
    with pytest.raises(InvalidArgument, match="split"):
        check_plan("d", "csv", split=split, folds=5, seed=0)


@pytest.mark.parametrize("folds", [-1, 1, 101])
def test_folds_out_of_range_are_refused(folds: int) -> None:
    with pytest.raises(InvalidArgument, match="folds"):
        check_plan("d", "csv", split=[], folds=folds, seed=0)


@pytest.mark.parametrize(
    "row",
    [
        SourceRow("1" * 63, "n", "a"),
        SourceRow("A" * 64, "n", "a"),
        SourceRow("../" + "1" * 61, "n", "a"),
        SourceRow("1" * 64, "n", ""),
        SourceRow("1" * 64, "n", "a\nb"),
        SourceRow("1" * 64, "n", " a"),
        SourceRow("1" * 64, "n", "a" * 101),
        SourceRow("1" * 64, "n", "a", "s" * 2001),
        SourceRow("1" * 64, "n", "a", "s", "training"),
    ],
)
def test_rows_that_cannot_be_imported_are_refused_by_number(row: SourceRow) -> None:
    with pytest.raises(InvalidArgument, match="row 7"):
        check_row(row, number=7)


def test_the_source_digest_ignores_order_and_names() -> None:
    renamed = [
        SourceRow(r.content_sha256, "other", r.class_name, r.subject and f"patient {r.subject}", r.split, r.attributes)
        for r in ROWS
    ]
    random.Random(0).shuffle(renamed)
    assert source_digest(PLAN, renamed) == source_digest(PLAN, ROWS)


@pytest.mark.parametrize(
    ("plan", "rows"),
    [
        (Plan("d", "csv", seed=1), ROWS),
        (Plan("d", "csv", folds=4), ROWS),
        (Plan("d", "csv", split=(0.6, 0.2, 0.2)), ROWS),
        (PLAN, ROWS[:3]),
        (PLAN, [*ROWS[:3], SourceRow("4" * 64, "four", "a")]),
        (PLAN, [*ROWS[:3], SourceRow("4" * 64, "four", "b", "q")]),
        (PLAN, [*ROWS[:3], SourceRow("4" * 64, "four", "b", "", None, {"age": "4"})]),
    ],
)
def test_the_source_digest_sees_everything_else(plan: Plan, rows: list[SourceRow]) -> None:
    assert source_digest(plan, rows) != source_digest(PLAN, ROWS)
