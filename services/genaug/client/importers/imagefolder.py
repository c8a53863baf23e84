"""Importer "imagefolder": Hugging Face's layout of images, with metadata.csv or metadata.jsonl beside them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from genaug.client.importers import SourceImage, SourceReport, folder
from genaug.client.importers.csv import read_lines
from genaug.client.importers.escape import readable
from genaug.client.importers.files import SUFFIXES, pass_over
from genaug.client.importers.labeled import text_of
from genaug.client.importers.sides import SIDES
from genaug.client.importers.splits import check_sides
from genaug.client.importers.table import Line, check_folder, column_hint, read_table, refuse_lines
from genaug.client.importers.walk import find_files
from genaug.schema.run import ImportSpec
from genaug.shared.errors import InvalidArgument

METADATA = frozenset({"metadata.csv", "metadata.jsonl"})
_FILE_NAME = "file_name"


def read(spec: ImportSpec, report: SourceReport) -> Iterator[SourceImage]:
    """Yield the images that metadata files name, in their order; without such files, as format "folder".

    The class is in the column `spec.class_column`, or else the image's class folder. Folders named train, test or the
    like are the sides of a split, unless `spec.split_column` is given. Further columns become attributes.

    Raises:
        InvalidArgument: the folder is missing, a metadata file is damaged or lacks a column, rows have no image, or the
            split has a side too few.
        FailedPrecondition: there are DICOM files, and pydicom is not installed.
    """
    root = check_folder(spec.images)
    walk = SourceReport()
    files = find_files(root, walk)
    tables = [file for file in files if file.name.lower() in METADATA]
    if not tables:
        yield from folder.read(spec, report)
        return
    report.passed_over += walk.passed_over
    report.notes += walk.notes
    _refuse_two(tables)
    images = [image for table in tables for image in _read_table(table, root, spec, report)]
    sides = [image.split for image in images]
    if not spec.split_column:
        sides = check_sides([_side(image.name) for image in images], spec, report)
    others = [file for file in files if file not in tables]
    for file in others:
        if file.suffix.lower() not in SUFFIXES:
            pass_over(file.name, "no image", report)
    surplus = sum(file.suffix.lower() in SUFFIXES for file in others) - len(images)
    if surplus > 0:
        report.passed_over["images without a row of metadata"] += surplus
    for image, side in zip(images, sides, strict=True):
        yield replace(image, split=side)


def _refuse_two(tables: Sequence[Path]) -> None:
    counts = Counter(table.parent for table in tables)
    for place, count in counts.items():
        if count > 1:
            raise InvalidArgument(
                f"images: {place} has metadata.csv and metadata.jsonl; keep one of them", reason="SEVERAL_TABLES"
            )


def _read_table(table: Path, root: Path, spec: ImportSpec, report: SourceReport) -> Iterator[SourceImage]:
    """Yield the images of a metadata file, under their names below `root`."""
    lines = read_table(table, [_FILE_NAME], report) if table.suffix.lower() == ".csv" else _read_jsonl(table, spec)
    place = PurePosixPath(table.parent.relative_to(root))
    columns = lines[0].cells
    if spec.class_column not in columns and not spec.class_columns:
        lines = [_with_class(line, place, table, spec) for line in lines]
    needed = [*spec.class_columns, *filter(None, (spec.subject_column, spec.split_column))]
    if missing := [column for column in needed if column not in columns]:
        raise _no_column(table, missing[0], columns)
    named = spec.replace(filename_column=_FILE_NAME)
    for image in read_lines(lines, table.parent, named, report):
        yield replace(image, name=(place / image.name).as_posix())


def _with_class(line: Line, place: PurePosixPath, table: Path, spec: ImportSpec) -> Line:
    """Return the line with the class folder of its image as its class."""
    folders = [part for part in (place / line.cells[_FILE_NAME]).parts[:-1] if part.lower() not in SIDES]
    if len(folders) != 1 or spec.class_column != ImportSpec.model_fields["class_column"].default:
        raise _no_column(table, spec.class_column, line.cells)
    return Line(line.number, line.cells | {spec.class_column: folders[0]})


def _no_column(table: Path, column: str, columns: Iterable[str]) -> InvalidArgument:
    return InvalidArgument(
        f"images: {readable(str(table))} has no column {column!r}; {column_hint([column], columns)}",
        reason="NO_SUCH_COLUMN",
        column=column,
    )


def _read_jsonl(table: Path, spec: ImportSpec) -> list[Line]:
    """Read an object of plain values per line; a list of labels becomes a cell that separates them by "|"."""
    records: list[tuple[int, dict[str, object]]] = []
    with table.open("rb") as file:
        for number, data in enumerate(file, 1):
            if not data.strip():
                continue
            try:
                # Not replaced: two names could become one.
                record = json.loads(data.decode("utf-8-sig" if number == 1 else "utf-8"))
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict) or not text_of(record.get(_FILE_NAME)):
                raise InvalidArgument(
                    f"images: {table} line {number} is no JSON object with {_FILE_NAME}, in UTF-8", reason="BAD_TABLE"
                )
            records.append((number, record))
    if not records:
        raise InvalidArgument(f"images: {table} has no rows", reason="NO_IMAGES")
    columns = dict.fromkeys(name for _, record in records for name in record)
    if not spec.multi_label:
        lists = [(number, record.get(spec.class_column)) for number, record in records]
        refuse_lines(
            [Line(number, {}) for number, value in lists if isinstance(value, list) and len(value) > 1],
            f"{spec.class_column} lists several labels",
            "allow several labels of an image with --multi-label",
        )
    return [Line(number, {name: _cell(record.get(name)) for name in columns}) for number, record in records]


def _cell(value: object) -> str:
    return "|".join(map(text_of, value)) if isinstance(value, list) else text_of(value)


def _side(name: str) -> str:
    """Return the side that one of a name's folders is, the outermost first."""
    return next((SIDES[part.lower()] for part in PurePosixPath(name).parts[:-1] if part.lower() in SIDES), "")
