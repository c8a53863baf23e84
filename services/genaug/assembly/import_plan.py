"""Rows of an import as the client sends them, their checks, and the digest of the whole source."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

from genaug.schema.common import Progress
from genaug.schema.run import ImportSpec
from genaug.shared.digests import ID_LENGTH, canonical_json, sha256
from genaug.shared.errors import InvalidArgument
from genaug.shared.manifest import Split

RECIPE = "import/1"

# Options that decide the sealed dataset and are not in the digests of the first imports.
_LATER = ("bits", "window", "on_conflict", "near_duplicates")

_SHA256 = re.compile("[0-9a-f]{64}")
_MAX_TEXT = 2000
_MAX_CLASS = 100
_MAX_ATTRIBUTES = 64


@dataclass(frozen=True)
class SourceRow:
    """One image as its source describes it."""

    content_sha256: str
    source_name: str
    class_name: str
    subject: str = ""
    split: Split | None = None
    attributes: Mapping[str, str] | None = None

    @property
    def image_id(self) -> str:
        """Id of its image."""
        return self.content_sha256[:ID_LENGTH]


def progress(step: str, done: int, total: int) -> Progress:
    """Progress of a step, in images."""
    return Progress(step=step, done=done, total=total, unit="images")


def check_sha256(value: str, *, field: str) -> str:
    """Return `value` if it is 64 lower-case hex digits; raise InvalidArgument otherwise."""
    if not _SHA256.fullmatch(value):
        raise InvalidArgument(f"{field}: not a sha256 in 64 lower-case hex digits", reason="BAD_DIGEST")
    return value


def check_row(row: SourceRow, *, number: int) -> SourceRow:
    """Return `row`, number `number` of the source counted from 0, if it can be imported.

    Raises:
        InvalidArgument: the class is missing or unprintable, the side of the split is unknown, or a text is too long.
    """
    check_sha256(row.content_sha256, field=f"row {number}: content_sha256")
    name = row.class_name
    if not 0 < len(name) <= _MAX_CLASS or not name.isprintable() or name != name.strip():
        raise InvalidArgument(
            f"row {number}: class_name must be 1 to {_MAX_CLASS} printable characters without blanks around them",
            reason="BAD_CLASS",
        )
    if row.split is not None and row.split not in get_args(Split):
        raise InvalidArgument(f"row {number}: split is none of {', '.join(get_args(Split))}", reason="BAD_SPLIT")
    attributes = row.attributes or {}
    texts = (row.source_name, row.subject, *attributes, *attributes.values())
    if len(attributes) > _MAX_ATTRIBUTES or any(len(text) > _MAX_TEXT for text in texts):
        raise InvalidArgument(
            f"row {number}: more than {_MAX_ATTRIBUTES} attributes, or a text above {_MAX_TEXT} characters",
            reason="ROW_TOO_LARGE",
        )
    return row


def source_digest(spec: ImportSpec, rows: Iterable[SourceRow]) -> str:
    """Digest of everything that decides the sealed dataset, known before an image is decoded.

    It covers neither the rows' order, nor file names, nor the subjects' names: only which rows share a subject.
    """
    listed = list(rows)
    first: dict[str, str] = {}
    for row in listed:
        if row.subject:
            first[row.subject] = min(row.content_sha256, first.get(row.subject, row.content_sha256))
    entries = sorted(
        [
            row.content_sha256,
            row.class_name,
            first.get(row.subject, ""),
            row.split or "",
            sorted((row.attributes or {}).items()),
        ]
        for row in listed
    )
    # Options of later releases count where they are not the default: imports without them keep their digests.
    later = {
        name: getattr(spec, name) for name in _LATER if getattr(spec, name) != ImportSpec.model_fields[name].default
    }
    return sha256(canonical_json([RECIPE, spec.split, spec.folds, spec.seed, entries, *([later] if later else [])]))
