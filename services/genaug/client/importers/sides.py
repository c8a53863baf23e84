"""Sides of a split as people spell them."""

from __future__ import annotations

from collections.abc import Sequence

from genaug.client.importers.table import Line, refuse_lines

SIDES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Side of a split, by its spelling in lower case."""


def read_sides(lines: Sequence[Line], column: str) -> list[str]:
    """Return the side of each line, empty where there is no column.

    Raises:
        InvalidArgument: a cell is none of `SIDES`.
    """
    if not column:
        return [""] * len(lines)
    unknown = [line for line in lines if line.cells[column].lower() not in SIDES]
    refuse_lines(unknown, f"{column} is none of train, validation, test")
    return [SIDES[line.cells[column].lower()] for line in lines]
