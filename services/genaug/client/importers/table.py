"""Tables of images: text files of separated values and Excel workbooks."""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from genaug.client.importers import SourceReport
from genaug.schema.run import ImportSpec
from genaug.shared.errors import InvalidArgument

if TYPE_CHECKING:
    from _csv import Reader

_SHOWN = 5
# Columns that a message lists.
_MAX_COLUMNS = 20
# Similarity from which a column is offered in place of a missing one; "label" and "Age" have 0.5.
_NEAR = 0.7
_SEPARATORS = (",", ";", "\t", "|")
_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
# Characters that hold any header; less than the csv module's limit of a cell.
_HEAD = 100_000
_SAVE_AS = "save it as CSV in UTF-8"


@dataclass(frozen=True)
class Line:
    """One row of a table."""

    number: int
    """Line in the file, counted from 1; of several lines the first."""
    cells: dict[str, str]
    """Cells without surrounding blanks, by column."""


Rows = Iterator[tuple[int, list[str]]]
"""Line number and cells without surrounding blanks of each row, the header first; blank rows are left out."""


def read_table(path: Path, columns: Sequence[str], report: SourceReport) -> list[Line]:
    """Read a table with the required `columns`.

    Text is UTF-8, UTF-16 with a byte order mark, or else Windows-1252, which is noted; its separator is a comma, a
    semicolon, a tab or "|". A file that is a zip archive is read as an Excel workbook, whatever its suffix.

    Raises:
        InvalidArgument: the file or a column is missing, the file is no table, a column's name occurs twice, rows have
            more or fewer cells than the header, quotation marks are unbalanced, or there are no rows.
        FailedPrecondition: an Excel workbook, and openpyxl is not installed.
    """
    if not path.is_file():
        raise InvalidArgument(f"csv: there is no file {path}", reason="NO_SUCH_FILE")
    with path.open("rb") as file:
        start = file.read(4)
    if start == _ZIP:
        # openpyxl is read only where there is a workbook.
        from genaug.client.importers.excel import read_workbook

        rows = read_workbook(path, columns, report)
    elif start == _OLE:
        raise _no_table(path, f"is a workbook of Excel 97 to 2003; save it as .xlsx, or {_SAVE_AS}")
    else:
        rows = _split(path, _decode(path, report), columns)
    return _lines(path, rows, columns)


def _no_table(path: Path, problem: str) -> InvalidArgument:
    return InvalidArgument(f"csv: {path} {problem}", reason="BAD_TABLE")


def _decode(path: Path, report: SourceReport) -> str:
    data = path.read_bytes()
    marks = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
    mark = next((mark for mark in marks if data.startswith(mark)), b"")
    encoding = marks.get(mark, "utf-8")
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        if mark:
            raise _no_table(path, f"begins like {encoding.upper()} and is none; {_SAVE_AS}") from None
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError:
            raise _no_table(path, f"is text in neither UTF-8, UTF-16 nor Windows-1252; {_SAVE_AS}") from None
        line = text.count("\n", 0, error.start) + 1
        report.notes.append(
            f"{path.name} is not UTF-8 and was read as Windows-1252, such as {_word(text, error.start)!r} in line "
            f"{line}; if that is not the word, {_SAVE_AS}"
        )
    # A binary file may well decode; no text has these characters.
    if _CONTROL.search(text):
        raise _no_table(path, f"holds control characters, so it is no text in a known encoding; {_SAVE_AS}")
    return text


def _word(text: str, place: int) -> str:
    """Return the word around the character at `place`."""
    before, after = text[:place].split("\n")[-1], text[place:].split("\n", 1)[0]
    return re.split(r"\W", before)[-1] + text[place] + re.split(r"\W", after[1:])[0]


def _split(path: Path, text: str, columns: Sequence[str]) -> Rows:
    """Yield the rows of a text."""
    source = io.StringIO(text, newline="")
    first = source.readline()
    separators: Iterable[str] = _SEPARATORS
    skipped = 0
    # Excel's own way to name the separator.
    if match := re.fullmatch(r'"?sep=(.)"?', first.strip("\r\n"), re.IGNORECASE):
        separators, skipped = match.groups(), 1
    text = text[len(first) :] if skipped else text

    def fit(separator: str) -> tuple[int, int]:
        """Number of required columns, and of all columns, in a header of this separator."""
        names = [name.strip() for name in next(filter(any, _reader(text[:_HEAD], separator)), [])]
        return sum(column in names for column in columns), len(names)

    separator = max(separators, key=fit)
    reader = _reader(text, separator, strict=True)
    header: list[str] = []
    while True:
        number = skipped + reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise _no_table(path, _quotes(number, skipped + reader.line_num, str(error))) from None
        if row is None:
            return
        last = skipped + reader.line_num
        if last > number and _swallows(row, separator, header, columns):
            raise _no_table(path, _quotes(number, last, "the lines between look like rows"))
        if any(cells := [cell.strip() for cell in row]):
            header = header or cells
            yield number, cells


def _reader(text: str, separator: str, *, strict: bool = False) -> Reader:
    # Lines are those of the file: StringIO leaves their ends as they are.
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=strict)


def _swallows(row: Sequence[str], separator: str, header: Sequence[str], columns: Sequence[str]) -> bool:
    """Whether a cell of several lines holds a row: as many cells, the required ones filled, no blank in the first."""
    places = [header.index(column) for column in columns if column in header]
    for line in (line for cell in row for line in cell.splitlines()[1:]):
        cells = [cell.strip(' "') for cell in line.split(separator)]
        if (
            len(cells) == len(header)
            and places
            and all(cells[place] for place in places)
            and " " not in cells[places[0]]
        ):
            return True
    return False


def _quotes(first: int, last: int, detail: str) -> str:
    return (
        f"has unbalanced quotation marks: the row of line {first} ends in line {last} ({detail}); write a quotation "
        'mark inside a quoted cell twice (""), and close each cell'
    )


def _lines(path: Path, rows: Rows, columns: Sequence[str]) -> list[Line]:
    _, header = next(rows, (0, []))
    while header and not header[-1]:
        header.pop()
    if missing := [column for column in dict.fromkeys(columns) if column not in header]:
        raise InvalidArgument(
            f"csv: {path} has no column {' and no column '.join(map(repr, missing))}; {column_hint(missing, header)}",
            reason="NO_SUCH_COLUMN",
            column=missing[0],
        )
    double = [f"{name!r}" for name, count in Counter(header).items() if name and count > 1]
    if double:
        raise _no_table(path, f"has several columns {', '.join(double)}; rename or delete all but one")
    # The first column may lack a name: it is the index that pandas writes.
    nameless = [place for place, name in enumerate(header) if place and not name]
    width, lines, surplus, short = len(header), [], [], []
    for number, cells in rows:
        line = Line(
            number,
            {name: cell for place, (name, cell) in enumerate(zip(header, cells, strict=False)) if name or not place},
        )
        if any(cells[width:]) or any(cells[place] for place in nameless if place < len(cells)):
            surplus.append(line)
        if len(cells) < width:
            short.append(line)
        lines.append(line)
    refuse_lines(
        surplus,
        f"cells without a column's name (the header has {width} columns)",
        "put cells that hold a separator into quotation marks, or name the column",
    )
    refuse_lines(
        short, f"fewer cells than the header's {width} columns", "fill them up, with empty cells where nothing is known"
    )
    if not lines:
        raise InvalidArgument(f"csv: {path} has no rows", reason="NO_IMAGES")
    return lines


def column_hint(missing: Sequence[str], header: Iterable[str], *, class_columns: bool = True) -> str:
    """Return the columns that a table has, and the options that name others in place of default ones.

    Args:
        missing: Columns that the table lacks.
        header: Columns of the table.
        class_columns: Whether the format has a column of 0 and 1 per class.
    """
    names = [name for name in header if name]
    near = difflib.get_close_matches(missing[0].lower(), [name.lower() for name in names], n=1, cutoff=_NEAR)
    nearest = next((name for name in names if near and name.lower() == near[0]), "")
    if nearest and len(missing) == 1:
        hint = f"the nearest is {nearest!r}"
    else:
        more = f" and {len(names) - _MAX_COLUMNS} more" if len(names) > _MAX_COLUMNS else ""
        hint = f"there are {', '.join(map(repr, names[:_MAX_COLUMNS])) or 'none'}{more}"
    # A default name was not typed by the user, who may not know that there is an option.
    fields = ImportSpec.model_fields
    options = {
        fields["filename_column"].default: "--filename-column",
        fields["class_column"].default: "--class-column" + (" (or --class-columns)" if class_columns else ""),
    }
    named = " and ".join(options[column] for column in missing if column in options)
    return f"{hint}; choose with {named}" if named and names else hint


def check_folder(folder: str) -> Path:
    """Return the folder of the images.

    Raises:
        InvalidArgument: no folder is given, or it does not exist.
    """
    if not folder:
        raise InvalidArgument("images: say which folder the images are in (--images)", reason="NO_FOLDER")
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise InvalidArgument(f"images: there is no folder {path}", reason="NO_SUCH_FOLDER")
    return path


def refuse_lines(lines: Sequence[Line], problem: str, hint: str = "") -> None:
    """Raise InvalidArgument if there are `lines`; the first five are given by number.

    Args:
        lines: The faulty lines.
        problem: Names the column and the fault.
        hint: What to do.
    """
    if lines:
        shown = ", ".join(str(line.number) for line in lines[:_SHOWN])
        more = ", …" if len(lines) > _SHOWN else ""
        rows = "1 row (line" if len(lines) == 1 else f"{len(lines)} rows (lines"
        raise InvalidArgument(
            f"csv: {problem} in {rows} {shown}{more}){f'; {hint}' if hint else ''}",
            reason="BAD_ROWS",
            rows=str(len(lines)),
        )
