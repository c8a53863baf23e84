"""Labels of a table's rows: one or several in a cell, or a column per class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from genaug.client.importers import SourceReport
from genaug.client.importers.table import Line, refuse_lines
from genaug.schema.run import ImportSpec
from genaug.shared.errors import InvalidArgument

MISSING = frozenset({"", "nan", "none", "null", "n/a", "#n/a", "na", "?", "-"})
"""Cells that say that a value is missing, in lower case."""

_SHOWN = 3
_SEPARATOR = re.compile(r"[|;]")
_QUOTED = re.compile(r"""(['"])(.*?)\1""")
_PRINTED = re.compile(r"""\[\s*(['"].*['"])?\s*\]""")
_YES, _NO = frozenset({"1", "1.0", "true", "yes"}), frozenset({"0", "0.0", "false", "no"})
_SEVERAL = "allow several labels of an image with --multi-label"


def read_labels(lines: Sequence[Line], spec: ImportSpec, report: SourceReport) -> list[tuple[str, ...]]:
    """Return the labels of each line, each once, in the order of the cell or the columns.

    A column of lists as Python prints them, such as "['G']", is read as such, and noted.

    Raises:
        InvalidArgument: lines have no label, or several without `spec.multi_label`; or a cell of `spec.class_columns`
            is neither yes nor no.
    """
    return _from_columns(lines, spec) if spec.class_columns else _from_cells(lines, spec, report)


def _from_columns(lines: Sequence[Line], spec: ImportSpec) -> list[tuple[str, ...]]:
    for column in spec.class_columns:
        odd = [line for line in lines if line.cells[column].lower() not in _YES | _NO]
        values = sorted({line.cells[column] for line in odd})
        refuse_lines(odd, f"{column} is neither 1, true, yes nor 0, false, no ({_shown(values)})", "fill in 1 or 0")
    labels = [tuple(column for column in spec.class_columns if line.cells[column].lower() in _YES) for line in lines]
    refuse_lines(
        [line for line, named in zip(lines, labels, strict=True) if not named],
        "no class column is 1",
        "add a column for these images, such as normal, and name it in --class-columns, or delete the rows",
    )
    if not spec.multi_label:
        several = [line for line, named in zip(lines, labels, strict=True) if len(named) > 1]
        refuse_lines(several, "several class columns are 1", _SEVERAL)
    return labels


def _from_cells(lines: Sequence[Line], spec: ImportSpec, report: SourceReport) -> list[tuple[str, ...]]:
    column = spec.class_column
    cells = [line.cells[column] for line in lines]
    printed = all(_PRINTED.fullmatch(cell) for cell in cells)
    if printed:
        report.notes.append(f"{column} holds lists, such as {cells[0]}; their quoted parts are the labels")
        labels = [tuple(dict.fromkeys(part for _, part in _QUOTED.findall(cell))) for cell in cells]
    else:
        labels = [_split(cell) if spec.multi_label else (cell,) for cell in cells]
    without = [
        line
        for line, named in zip(lines, labels, strict=True)
        if not named or any(label.lower() in MISSING for label in named)
    ]
    words = sorted({line.cells[column] for line in without})
    refuse_lines(without, f"{column} names no class ({_shown(words)})", "name the class, or delete the rows")
    known = {label for named in labels for label in named}
    if not spec.multi_label:
        lists = {cell for cell, named in zip(cells, labels, strict=True) if len(named) > 1} | _lists(set(cells))
        several = [line for line in lines if line.cells[column] in lists]
        refuse_lines(several, f"{column} lists several labels ({_shown(sorted(lists))})", _SEVERAL)
    # Commas occur in names ("melanoma, in situ"): no list, unless all parts are labels of their own.
    commas = {label for label in known if "," in label and {part.strip() for part in label.split(",")} <= known}
    joined = [line for line, named in zip(lines, labels, strict=True) if commas.intersection(named)]
    refuse_lines(
        joined, f"{column} lists several labels ({_shown(sorted(commas))})", f"put | between them, and {_SEVERAL}"
    )
    return labels


def _shown(values: Sequence[str]) -> str:
    return ", ".join(map(repr, values[:_SHOWN])) + (", …" if len(values) > _SHOWN else "")


def _split(cell: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, (part.strip() for part in _SEPARATOR.split(cell)))))


def _lists(cells: set[str]) -> set[str]:
    """Return the cells that list labels: a part of them is a label of its own, or in another such cell, too."""
    parts = {cell: set(_split(cell)) for cell in cells if _SEPARATOR.search(cell)}
    counts = Counter(part for named in parts.values() for part in named)
    return {
        cell
        for cell, named in parts.items()
        if len(named) > 1 and any(part in cells or counts[part] > 1 for part in named)
    }


def check_columns(spec: ImportSpec) -> None:
    """Check that the class is in `spec.class_column` or in `spec.class_columns`.

    Raises:
        InvalidArgument: both are given, or there is a single class column.
    """
    columns = spec.class_columns
    if columns and spec.class_column != ImportSpec.model_fields["class_column"].default:
        raise InvalidArgument("class_column: class_columns says the class; leave one of them out", reason="BAD_OPTION")
    if len(columns) == 1 or len(set(columns)) < len(columns):
        raise InvalidArgument(
            "class_columns: name two or more columns, one per class; a single column of 0 and 1 is a class_column",
            reason="BAD_OPTION",
        )
