"""Subjects of images, from a column of a table or by a regular expression on names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from genaug.client.importers import SourceReport
from genaug.client.importers.labels import MISSING
from genaug.client.importers.table import Line, refuse_lines
from genaug.schema.run import ImportSpec, NoSubject
from genaug.shared.errors import InvalidArgument

_SHOWN = 3
_OWN = "take each of these images as its own subject with --no-subject own"


def read_subjects(
    lines: Sequence[Line], paths: Sequence[Path], column: str, spec: ImportSpec, report: SourceReport
) -> list[str]:
    """Return the subject of each line: of its cell, or of its file's name if there is an expression and no column.

    Raises:
        InvalidArgument: as `match_subjects`; or cells are empty and `spec.no_subject` does not allow it.
    """
    if spec.subject_regex:
        texts = [line.cells[column] for line in lines] if column else [path.name for path in paths]
        return match_subjects(texts, spec, report, what=f"cells of {column}" if column else "file names")
    if not column:
        return [""] * len(lines)
    missing = [line for line in lines if line.cells[column].lower() in MISSING]
    if missing and spec.no_subject == NoSubject.OWN:
        report.notes.append(_own(len(missing), len(lines), f"cells of {column}"))
    else:
        refuse_lines(missing, f"{column} is empty, or says that there is no value,", f"fill it in, or {_OWN}")
    return ["" if line.cells[column].lower() in MISSING else line.cells[column] for line in lines]


def match_subjects(texts: Sequence[str], spec: ImportSpec, report: SourceReport, *, what: str) -> list[str]:
    """Return the first group of `spec.subject_regex` in each text; empty where it finds none and that is allowed.

    Args:
        texts: One text per image.
        spec: Its `no_subject` allows texts without a subject.
        report: Receives the number of images without a subject.
        what: Names the texts in messages, such as "file names".

    Raises:
        InvalidArgument: the expression is wrong or has no group, or texts have no subject.
    """
    pattern = _compile(spec.subject_regex)
    matches = [pattern.search(text) for text in texts]
    subjects = [match.group(1) or "" if match else "" for match in matches]
    missing = [text for text, subject in zip(texts, subjects, strict=True) if not subject]
    if missing and spec.no_subject == NoSubject.OWN:
        report.notes.append(_own(len(missing), len(texts), what))
    elif missing:
        shown = ", ".join(map(repr, missing[:_SHOWN])) + (", …" if len(missing) > _SHOWN else "")
        raise InvalidArgument(
            f"subject_regex: finds no subject in {len(missing)} of {len(texts)} {what} ({shown}); correct the "
            f"expression, or {_OWN}",
            reason="NO_SUBJECT",
        )
    return subjects


def _compile(regex: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise InvalidArgument(f"subject_regex: {error}", reason="BAD_REGEX") from None
    if not pattern.groups:
        raise InvalidArgument("subject_regex: put the subject's part in (parentheses)", reason="BAD_REGEX")
    return pattern


def _own(missing: int, total: int, what: str) -> str:
    return f"{missing} of {total} {what} have no subject; each of these images is its own"
