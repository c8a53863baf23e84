"""Importer "csv": a table of images with configurable columns."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from genaug.client.importers import SourceImage, SourceReport
from genaug.client.importers.table import check_folder, find_images, read_table, refuse_lines
from genaug.schema.run import ImportSpec
from genaug.shared.errors import InvalidArgument

# Spellings of the sides of a split.
SIDES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def read(spec: ImportSpec, report: SourceReport) -> Iterator[SourceImage]:
    """Yield the images of a table's rows, in its order. Further columns become attributes.

    File names are paths below `spec.images`, by default below the table's own folder.

    Raises:
        InvalidArgument: table, column, folder or images are missing; a cell of class, subject or split is empty or
            unknown.
    """
    if not spec.csv:
        raise InvalidArgument("csv: say which table", reason="NO_TABLE")
    table = Path(spec.csv).expanduser()
    columns = [spec.filename_column, spec.class_column, spec.subject_column, spec.split_column]
    columns = [column for column in columns if column]
    lines = read_table(table, columns)
    for column in columns:
        refuse_lines([line for line in lines if not line.cells[column]], f"{column} is empty")
    if spec.split_column:
        unknown = [line for line in lines if line.cells[spec.split_column].lower() not in SIDES]
        refuse_lines(unknown, f"{spec.split_column} is none of train, validation, test")
    folder = check_folder(spec.images or str(table.parent))
    paths = find_images(folder, lines, spec.filename_column)
    for line, path in zip(lines, paths, strict=True):
        cells = line.cells
        yield SourceImage(
            cells[spec.filename_column],
            cells[spec.class_column],
            cells[spec.subject_column] if spec.subject_column else "",
            SIDES[cells[spec.split_column].lower()] if spec.split_column else "",
            {key: value for key, value in cells.items() if key not in columns and value},
            partial(Path.read_bytes, path),
        )
