"""Kaggle's layout of ODIR-5K: `full_df.csv`, one row per eye, and a folder of photographs.

Traps, each of which has broken a study: the columns N, D, G, C, A, H, M, O are per patient (both eyes), the image's own
class is in `labels`; that single label hides second diseases, which only the eye's keywords name; rows list all right
eyes, then all left ones; `filepath` is a path on Kaggle's machines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from genaug.client.importers import SourceImage, SourceReport
from genaug.client.importers.file_names import match_files
from genaug.client.importers.join import LabeledRow, join_rows
from genaug.client.importers.keywords import NORMAL, disease_classes, split_keywords
from genaug.client.importers.sides import read_sides
from genaug.client.importers.subjects import read_subjects
from genaug.client.importers.table import Line, check_folder, read_table, refuse_lines
from genaug.schema.run import ImportSpec
from genaug.shared.errors import InvalidArgument

CLASSES = "NDGCAHMO"

_KEYWORDS = {"left": "Left-Diagnostic Keywords", "right": "Right-Diagnostic Keywords"}
_COLUMNS = ("ID", "Patient Age", "Patient Sex", *_KEYWORDS.values(), "labels", "filename")
_LETTERS = re.compile("[a-zA-Z]+")
_SIDE = re.compile(r"_(left|right)\b", re.IGNORECASE)


def read(spec: ImportSpec, report: SourceReport) -> Iterator[SourceImage]:
    """Yield ODIR's eyes in the table's order: the class is the image's own label letter, the subject is `ID`.

    Attributes: laterality ("left", "right"), age, sex, keywords (that eye's own, separated by "; "), multi_disease
    ("true" when they name diseases of two classes or more, else "false") and primary_class (letter of the disease
    named first, N where none is named but the fundus is normal; absent where neither).

    Raises:
        InvalidArgument: table, column, folder or images are missing; a label is not one letter of N D G C A H M O, a
            file name does not say which eye, an ID is empty, or a side is unknown.
    """
    if not spec.csv:
        raise InvalidArgument("csv: say where full_df.csv is", reason="NO_TABLE")
    columns = [*_COLUMNS, *filter(None, [spec.split_column])]
    lines = read_table(Path(spec.csv).expanduser(), columns, report)
    refuse_lines([line for line in lines if not _label(line)], f"labels is not one letter of {CLASSES}")
    refuse_lines([line for line in lines if not _laterality(line)], "filename does not say left or right")
    sides = read_sides(lines, spec.split_column)
    paths = match_files(check_folder(spec.images), lines, "filename", report)
    subjects = read_subjects(lines, paths, "ID", spec, report)
    rows = [
        LabeledRow(
            line=line,
            path=path,
            name=line.cells["filename"],
            labels=(_label(line),),
            subject=subject,
            split=side,
            attributes=_attributes(line),
        )
        for line, path, subject, side in zip(lines, paths, subjects, sides, strict=True)
    ]
    yield from join_rows(rows, spec, report)


def _label(line: Line) -> str:
    """Return the single class letter in a cell such as "['G']"; empty for anything else."""
    letters = _LETTERS.findall(line.cells["labels"])
    return letters[0] if len(letters) == 1 and len(letters[0]) == 1 and letters[0] in CLASSES else ""


def _laterality(line: Line) -> str:
    match = _SIDE.search(line.cells["filename"])
    return match.group(1).lower() if match else ""


def _attributes(line: Line) -> dict[str, str]:
    side = _laterality(line)
    keywords = split_keywords(line.cells[_KEYWORDS[side]])
    diseases = disease_classes(keywords)
    primary = diseases[0] if diseases else NORMAL if "normal fundus" in keywords else ""
    attributes = {
        "laterality": side,
        "age": line.cells["Patient Age"],
        "sex": line.cells["Patient Sex"].lower(),
        "keywords": "; ".join(keywords),
        "multi_disease": "true" if len(diseases) > 1 else "false",
        "primary_class": primary,
    }
    return {key: value for key, value in attributes.items() if value}
