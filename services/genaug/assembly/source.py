"""What a client sends to be imported: the plan of the import and its rows, before any of it is believed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from genaug.shared.digests import ID_LENGTH, canonical_json, sha256
from genaug.shared.errors import InvalidArgument
from genaug.shared.manifest import Split

RECIPE = "import/1"

_SHA256 = re.compile("[0-9a-f]{64}")
_MAX_TEXT = 2000
_MAX_CLASS = 100
_MAX_ATTRIBUTES = 64
_SMALLEST_SHARE = 0.01


@dataclass(frozen=True)
class Plan:
    """How to import."""

    dataset: str
    """The dataset's id."""
    format: str
    """Where the rows came from, for the record."""
    split: tuple[float, float, float] = (0.7, 0.15, 0.15)
    """Shares of training, validation and test."""
    folds: int = 5
    seed: int = 42


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
        """The id its image will have."""
        return self.content_sha256[:ID_LENGTH]


@dataclass(frozen=True)
class Progress:
    """How far an import is."""

    step: str
    done: int
    total: int
    unit: str = "images"


def check_plan(dataset: str, format: str, *, split: Sequence[float], folds: int, seed: int) -> Plan:
    """A plan with its defaults filled in (empty `split`, `folds` 0).

    Raises:
        InvalidArgument: a share or the number of folds is out of range.
    """
    shares = tuple(split) or Plan.split
    if len(shares) != 3 or not all(share >= _SMALLEST_SHARE for share in shares) or not math.isclose(sum(shares), 1):
        raise InvalidArgument(
            f"split: {list(shares)} must be three shares of at least {_SMALLEST_SHARE} (training, validation, test) "
            "that add up to 1",
            reason="BAD_SPLIT",
        )
    if not 0 <= folds <= 100 or folds == 1:
        raise InvalidArgument(f"folds: {folds} is not between 2 and 100", reason="BAD_FOLDS")
    if not format or len(format) > _MAX_CLASS:
        raise InvalidArgument("format: say in a word where the rows came from", reason="UNKNOWN_FORMAT")
    return Plan(dataset, format, shares, folds or Plan.folds, seed)


def check_sha256(value: str, *, field: str) -> str:
    """Return `value` if it is 64 lower-case hex digits."""
    if not _SHA256.fullmatch(value):
        raise InvalidArgument(f"{field}: not a sha256 in 64 lower-case hex digits", reason="BAD_DIGEST")
    return value


def check_row(row: SourceRow, *, number: int) -> SourceRow:
    """Return `row`, the `number`th of the source counted from 0, if it can be imported.

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


def source_digest(plan: Plan, rows: Iterable[SourceRow]) -> str:
    """Digest of everything that decides the sealed dataset, known before an image is decoded.

    Neither the rows' order nor their file names enter, nor how subjects are called: only which rows share one.
    """
    listed = list(rows)
    first: dict[str, str] = {}
    for row in listed:
        if row.subject:
            first[row.subject] = min(row.content_sha256, first.get(row.subject, row.content_sha256))
    facts = sorted(
        [
            row.content_sha256,
            row.class_name,
            first.get(row.subject, ""),
            row.split or "",
            sorted((row.attributes or {}).items()),
        ]
        for row in listed
    )
    return sha256(canonical_json([RECIPE, plan.split, plan.folds, plan.seed, facts]))
