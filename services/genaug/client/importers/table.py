"""Tables of images: CSV files and the folder that their file names point into."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genaug.shared.errors import InvalidArgument

_SHOWN = 5
_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class Line:
    """One row of a table."""

    number: int
    """Line in the file, counted from 1; the header is the first."""
    cells: dict[str, str]
    """Cells without surrounding blanks, by column."""


def read_table(path: Path, columns: Sequence[str]) -> list[Line]:
    """Read a CSV file (UTF-8; separated by comma, semicolon or tab) with the required `columns`.

    Raises:
        InvalidArgument: the file or a column is missing, the file is no text, a row is short, or there are no rows.
    """
    if not path.is_file():
        raise InvalidArgument(f"csv: there is no file {path}", reason="NO_SUCH_FILE")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=max(_DELIMITERS, key=head.count), restval="")
            header = reader.fieldnames or []
            for column in columns:
                _check_column(path, column, header)
            lines = [
                Line(reader.line_num, {key: value.strip() for key, value in row.items() if isinstance(value, str)})
                for row in reader
            ]
        # A binary file may well decode as UTF-8; no text has this character.
        if any("\0" in cell for line in lines for cell in line.cells.values()):
            raise csv.Error("line contains NUL")
    except (UnicodeDecodeError, csv.Error):
        raise InvalidArgument(f"csv: {path} is not a CSV file in UTF-8", reason="BAD_TABLE") from None
    if not lines:
        raise InvalidArgument(f"csv: {path} has no rows", reason="NO_IMAGES")
    return lines


def _check_column(path: Path, column: str, header: Sequence[str]) -> None:
    if column in header:
        return
    near = difflib.get_close_matches(column.lower(), [name.lower() for name in header], n=1, cutoff=0.5)
    nearest = next((name for name in header if near and name.lower() == near[0]), "")
    hint = f"the nearest is {nearest!r}" if nearest else f"there are {', '.join(map(repr, header)) or 'none'}"
    raise InvalidArgument(f"csv: {path} has no column {column!r}; {hint}", reason="NO_SUCH_COLUMN", column=column)


def check_folder(folder: str) -> Path:
    """Return the folder of the images.

    Raises:
        InvalidArgument: no folder is given, or it does not exist.
    """
    if not folder:
        raise InvalidArgument("images: say which folder the images are in", reason="NO_FOLDER")
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise InvalidArgument(f"images: there is no folder {path}", reason="NO_SUCH_FOLDER")
    return path


def find_images(folder: Path, lines: Sequence[Line], column: str) -> list[Path]:
    """Return the image file of each line; `column` holds its path below `folder`.

    Raises:
        InvalidArgument: lines have no image, or point outside the folder; they are counted and the first ones given.
    """
    inside = folder.resolve()
    paths = [inside / line.cells[column] for line in lines]
    refuse_lines(
        [line for line, path in zip(lines, paths, strict=True) if not path.resolve().is_relative_to(inside)],
        f"{column} points outside the folder {folder}",
    )
    refuse_lines(
        [line for line, path in zip(lines, paths, strict=True) if not _is_file(path)],
        f"{column} names no file in the folder {folder}",
    )
    return paths


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # The name is longer than the file system allows.
        return False


def refuse_lines(lines: Sequence[Line], problem: str) -> None:
    """Raise InvalidArgument if there are `lines`; the first five are given by number."""
    if lines:
        shown = ", ".join(str(line.number) for line in lines[:_SHOWN])
        more = ", …" if len(lines) > _SHOWN else ""
        raise InvalidArgument(
            f"csv: {problem} in {len(lines)} rows (lines {shown}{more})", reason="BAD_ROWS", rows=str(len(lines))
        )
