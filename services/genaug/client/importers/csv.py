"""Importer "csv": a table of images with configurable columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from genaug.client.importers import SourceImage, SourceReport
from genaug.client.importers.file_names import match_files
from genaug.client.importers.join import LabeledRow, join_rows
from genaug.client.importers.labeled import LABEL_ATTRIBUTES
from genaug.client.importers.labels import check_columns, read_labels
from genaug.client.importers.sides import read_sides
from genaug.client.importers.subjects import read_subjects
from genaug.client.importers.table import Line, check_folder, read_table, refuse_lines
from genaug.schema.run import ImportSpec
from genaug.shared.errors import InvalidArgument


def read(spec: ImportSpec, report: SourceReport) -> Iterator[SourceImage]:
    """Yield the images of a table's rows, in its order. Further columns become attributes.

    File names are paths below `spec.images`, by default below the table's own folder.

    Raises:
        InvalidArgument: table, column, folder or images are missing; or a cell of class, subject or split is empty,
            unknown or ambiguous.
    """
    if not spec.csv:
        raise InvalidArgument("csv: say which table (--csv)", reason="NO_TABLE")
    check_columns(spec)
    table = Path(spec.csv).expanduser()
    lines = read_table(table, _columns(spec), report)
    yield from read_lines(lines, check_folder(spec.images or str(table.parent)), spec, report)


def read_lines(lines: Sequence[Line], folder: Path, spec: ImportSpec, report: SourceReport) -> Iterator[SourceImage]:
    """Yield the images of a table's lines; errors as `read`.

    Args:
        lines: Rows with the columns that `spec` names.
        folder: The folder that their file names are relative to.
        spec: Columns and options.
        report: Receives the notes.
    """
    columns = _columns(spec)
    taken = set(LABEL_ATTRIBUTES).intersection(lines[0].cells).difference(columns) if spec.multi_label else set()
    if taken:
        raise InvalidArgument(
            f"csv: with multi_label, {', '.join(sorted(taken))} is an attribute of its own; rename the column",
            reason="BAD_TABLE",
        )
    name = spec.filename_column
    refuse_lines([line for line in lines if not line.cells[name]], f"{name} is empty", "fill it in")
    labels = read_labels(lines, spec, report)
    sides = read_sides(lines, spec.split_column)
    paths = match_files(folder, lines, name, report)
    subjects = read_subjects(lines, paths, spec.subject_column, spec, report)
    rows = [
        LabeledRow(
            line=line,
            path=path,
            name=line.cells[name],
            labels=named,
            subject=subject,
            split=side,
            attributes={key: value for key, value in line.cells.items() if key not in columns and value},
        )
        for line, path, named, subject, side in zip(lines, paths, labels, subjects, sides, strict=True)
    ]
    yield from join_rows(rows, spec, report)


def _columns(spec: ImportSpec) -> list[str]:
    classes = spec.class_columns or (spec.class_column,)
    return [column for column in (spec.filename_column, *classes, spec.subject_column, spec.split_column) if column]
