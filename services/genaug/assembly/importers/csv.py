"""A table of any make; options say which column is what."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from genaug.assembly.importers import ImportOptions, SourceImage
from genaug.assembly.importers.table import check_folder, find_images, read_table, refuse_lines
from genaug.shared.errors import InvalidArgument

# How people write the sides of a split.
SIDES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def read(options: ImportOptions) -> Iterator[SourceImage]:
    """Yield the images of a table's rows, in its order. Columns that no option names become attributes.

    File names are paths below `options.images`, or below the table's own folder when that is not said.

    Raises:
        InvalidArgument: table, column, folder or images are missing; a cell of class, subject or split is empty or
            unknown.
    """
    if not options.csv:
        raise InvalidArgument("csv: say which table", reason="NO_TABLE")
    table = Path(options.csv).expanduser()
    named = [options.filename_column, options.class_column, options.subject_column, options.split_column]
    columns = [column for column in named if column]
    lines = read_table(table, columns)
    for column in columns:
        refuse_lines([line for line in lines if not line.cells[column]], f"{column} is empty")
    if options.split_column:
        unknown = [line for line in lines if line.cells[options.split_column].lower() not in SIDES]
        refuse_lines(unknown, f"{options.split_column} is none of train, validation, test")
    folder = check_folder(options.images or str(table.parent))
    paths = find_images(folder, lines, options.filename_column)
    for line, path in zip(lines, paths, strict=True):
        cells = line.cells
        yield SourceImage(
            cells[options.filename_column],
            cells[options.class_column],
            cells[options.subject_column] if options.subject_column else "",
            SIDES[cells[options.split_column].lower()] if options.split_column else "",
            {key: value for key, value in cells.items() if key not in columns and value},
            partial(Path.read_bytes, path),
        )
