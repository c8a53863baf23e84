"""Excel workbooks (.xlsx), by openpyxl."""

from __future__ import annotations

import datetime
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genaug.client.importers import SourceReport
from genaug.client.importers.table import Rows
from genaug.shared.errors import FailedPrecondition, InvalidArgument

_MAX_CELLS = 3_000_000
_MAX_BYTES = 200_000_000
"""Largest unpacked workbook: openpyxl holds its texts in memory."""
# Cells compress to a tenth, at most to a fiftieth. Empty elements by the million do better, and each takes 100 bytes of
# memory.
_LARGE_PART, _MAX_RATIO = 10_000_000, 200


def read_workbook(path: Path, columns: Sequence[str], report: SourceReport) -> Rows:
    """Return the rows of the only sheet with the required `columns`; which one of several sheets it is is noted.

    Values are the texts that Excel shows: 7.0 is "7", and 7 in the format "000" is "007"; dates are in ISO 8601. Of a
    formula, the value that Excel stored is read.

    Raises:
        FailedPrecondition: openpyxl is not installed.
        InvalidArgument: the file is no workbook or too large, or several sheets have the columns.
    """
    try:
        import openpyxl
    except ImportError:
        raise FailedPrecondition(
            f"csv: {path} is an Excel workbook; pip install 'genaug[excel]', or save it as CSV", reason="NO_OPENPYXL"
        ) from None
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
        size = sum(part.file_size for part in parts)
        if size > _MAX_BYTES:
            raise _too_large(path, f"{size >> 20} MiB unpacked")
        if any(part.file_size > max(_LARGE_PART, _MAX_RATIO * part.compress_size) for part in parts):
            raise _too_large(path, f"a part that unpacks to more than {_MAX_RATIO} times its size")
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            tables = {sheet.title: _read_sheet(path, sheet) for sheet in book.worksheets}
        finally:
            book.close()
    except InvalidArgument:
        raise
    except Exception as error:  # openpyxl raises KeyError, ValueError, BadZipFile, ParseError and others
        raise InvalidArgument(
            f"csv: {path} is a zip archive and no Excel workbook that openpyxl reads ({type(error).__name__}); save "
            "it as .xlsx or CSV",
            reason="BAD_TABLE",
        ) from None
    tables = {title: rows for title, rows in tables.items() if rows}
    fitting = [title for title, rows in tables.items() if set(columns) <= set(rows[0][1])]
    if len(fitting) > 1:
        raise InvalidArgument(
            f"csv: {len(fitting)} sheets of {path} have the columns ({', '.join(map(repr, fitting))}); keep one, or "
            "save that one as CSV",
            reason="BAD_TABLE",
        )
    title = next(iter([*fitting, *tables]), "")
    if len(tables) > 1:
        report.notes.append(f"{path.name} has {len(tables)} sheets; {title!r} is read")
    return iter(tables.get(title, []))


def _too_large(path: Path, detail: str) -> InvalidArgument:
    return InvalidArgument(
        f"csv: {path} has {detail}, more than a table of images needs; save the sheet as CSV", reason="TABLE_TOO_LARGE"
    )


def _read_sheet(path: Path, sheet: Any) -> list[tuple[int, list[str]]]:
    """Return (row number, cells) of the rows that are not blank, all of one length."""
    rows: list[tuple[int, list[str]]] = []
    count = 0
    # Without the size that the sheet states: it may be wrong, and cells outside of it would not be read.
    sheet.reset_dimensions()
    for number, row in enumerate(sheet.iter_rows(), 1):
        count += max(len(row), 1)
        if count > _MAX_CELLS:
            raise _too_large(path, f"more than {_MAX_CELLS:,} cells in sheet {sheet.title!r}")
        cells = [_text(cell.value, cell.number_format) if cell.value is not None else "" for cell in row]
        if any(cells):
            rows.append((number, cells))
    width = max((len(cells) for _, cells in rows), default=0)
    return [(number, cells + [""] * (width - len(cells))) for number, cells in rows]


def _text(value: object, number_format: str) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and re.fullmatch("0+", number_format):
        return str(value).zfill(len(number_format))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    return f"{value:.15g}" if isinstance(value, float) else str(value).strip()
