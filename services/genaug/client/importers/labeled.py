"""Rows of formats without a table: labels of an image, and plain values as texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time

from genaug.client.importers.labels import MISSING
from genaug.schema.run import ImportSpec, NoSubject
from genaug.shared.errors import InvalidArgument

LABEL_ATTRIBUTES = ("multi_disease", "primary_class", "labels")
"""Attributes of an image that may have several labels."""

_SHOWN = 3


def label_attributes(labels: Sequence[str]) -> dict[str, str]:
    """Return the attributes of an image that may have several labels, the first of which is its class."""
    values = ("true" if len(labels) > 1 else "false", labels[0], "; ".join(labels))
    return dict(zip(LABEL_ATTRIBUTES, values, strict=True))


def refuse_rows(rows: Sequence[str], problem: str, hint: str) -> None:
    """Raise InvalidArgument if there are `rows`, given by name; the first three are shown."""
    if rows:
        shown = ", ".join(rows[:_SHOWN]) + (", …" if len(rows) > _SHOWN else "")
        raise InvalidArgument(
            f"images: {len(rows)} {problem} ({shown}); {hint}", reason="BAD_ROWS", rows=str(len(rows))
        )


def check_labels(
    names: Sequence[str], labels: Sequence[Sequence[str]], *, multi_label: bool, hint: str = "leave them out"
) -> None:
    """Check that each image has a label, and without `multi_label` no second one.

    Args:
        names: Name of each image, for the error.
        labels: Labels of each image.
        multi_label: Whether there may be several.
        hint: What to do with images that have none.

    Raises:
        InvalidArgument: images have no label, or several.
    """
    without = [
        name for name, of in zip(names, labels, strict=True) if not of or any(label.lower() in MISSING for label in of)
    ]
    refuse_rows(without, "images have no label", hint)
    if not multi_label:
        several = [name for name, of in zip(names, labels, strict=True) if len(of) > 1]
        refuse_rows(several, "images have several labels", "allow several labels of an image with --multi-label")


def check_subjects(names: Sequence[str], subjects: Sequence[str], spec: ImportSpec) -> None:
    """Check that each image has a subject, unless `spec.no_subject` allows that it has none.

    Raises:
        InvalidArgument: images have none.
    """
    if spec.no_subject != NoSubject.OWN:
        without = [name for name, subject in zip(names, subjects, strict=True) if not subject]
        refuse_rows(
            without,
            f"images have no {spec.subject_column}",
            "name it, or take each of these images as its own subject with --no-subject own",
        )


def attributes_of(values: Mapping[str, object], spec: ImportSpec) -> dict[str, str]:
    """Return the plain values, beside class and subject, as attributes; empty ones are left out."""
    used = (spec.class_column, spec.subject_column)
    return {name: text for name, value in values.items() if name not in used and (text := text_of(value))}


def text_of(value: object) -> str:
    """Return a plain value as text: words without surrounding blanks, whole numbers without ".0"; else empty."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.15g}"
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value).strip() if isinstance(value, str | int) else ""
