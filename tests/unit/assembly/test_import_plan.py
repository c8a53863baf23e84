"""Checks of rows, and the digest of a source."""

from __future__ import annotations

import random

import pytest

from genaug.assembly.import_plan import SourceRow, check_row, source_digest
from genaug.schema.run import ImportSpec
from genaug.shared.errors import InvalidArgument

ROWS = [
    SourceRow("1" * 64, "one", "a", "p", None, {"age": "3"}),
    SourceRow("2" * 64, "two", "a", "p"),
    SourceRow("3" * 64, "three", "b", "q"),
    SourceRow("4" * 64, "four", "b"),
]
SPEC = ImportSpec(format="csv")


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
    assert source_digest(SPEC, renamed) == source_digest(SPEC, ROWS)


@pytest.mark.parametrize(
    ("spec", "rows"),
    [
        (ImportSpec(format="csv", seed=1), ROWS),
        (ImportSpec(format="csv", folds=4), ROWS),
        (ImportSpec(format="csv", bits=12), ROWS),
        (ImportSpec(format="csv", window=(0, 4095)), ROWS),
        (ImportSpec(format="csv", split=(0.6, 0.2, 0.2)), ROWS),
        (SPEC, ROWS[:3]),
        (SPEC, [*ROWS[:3], SourceRow("4" * 64, "four", "a")]),
        (SPEC, [*ROWS[:3], SourceRow("4" * 64, "four", "b", "q")]),
        (SPEC, [*ROWS[:3], SourceRow("4" * 64, "four", "b", "", None, {"age": "4"})]),
    ],
)
def test_the_source_digest_sees_everything_else(spec: ImportSpec, rows: list[SourceRow]) -> None:
    assert source_digest(spec, rows) != source_digest(SPEC, ROWS)
