"""Counting a dataset's rows: classes, attributes, eyes with several diseases, images per subject, percentiles."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from genaug.assembly.datasets import Json, class_counts
from genaug.assembly.describe.quality import MEASURES, Quality
from genaug.assembly.importers.keywords import disease_classes
from genaug.shared.manifest import Row

NOT_SAID = "not said"
PERCENTILES = (5, 25, 50, 75, 95)

# What has few values is a group to compare; what has many is text, a date or an id, and is not for a page.
_MOST_VALUES = 24
_BAND = 10
# These have a section of their own.
_APART = frozenset({"multi_disease", "primary_class", "keywords"})


def tally(record: Json, pairs: Iterable[tuple[str, str]]) -> list[Json]:
    """`Tally` of each class, by name.

    Args:
        record: The message `Dataset`, which has counted the sides.
        pairs: (class, subject) of all rows.
    """
    subjects: dict[str, set[str]] = defaultdict(set)
    for name, subject in pairs:
        subjects[name].add(subject)
    sides = {
        side: {one["class_name"]: one["count"] for one in record[side]} for side in ("training", "validation", "test")
    }
    return [
        {"class_name": name, **{side: found.get(name, 0) for side, found in sides.items()}, "subjects": len(whose)}
        for name, whose in sorted(subjects.items())
    ]


def attributes(rows: Sequence[Row]) -> list[Json]:
    """`Attribute` of each that has few values, by name; ages come in bands of ten years, whatever else is a number.

    Rows that lack an attribute which others have are counted under `NOT_SAID`.
    """
    found = []
    for name in sorted({name for row in rows for name in row.attributes} - _APART):
        values = [_value(name, row.attributes.get(name, "")) for row in rows]
        if len(set(values)) > _MOST_VALUES:
            continue
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for value, row in zip(values, rows, strict=True):
            counts[value][row.class_name] += 1
        listed = sorted(counts, key=lambda value: (value == NOT_SAID, _lower_end(value), value))
        found.append(
            {"name": name, "values": [{"value": value, "counts": class_counts(counts[value])} for value in listed]}
        )
    return found


def multi_disease(rows: Iterable[Row]) -> list[Json]:
    """`ClassCount` of each set of classes that rows with attribute multi_disease="true" name, most frequent first.

    The set is read from the attribute "keywords" where there is one; else the row's class is all that is known.
    """
    found: Counter[str] = Counter()
    for row in rows:
        if row.attributes.get("multi_disease") == "true":
            named = disease_classes([word for word in row.attributes.get("keywords", "").split("; ") if word])
            found[" + ".join(sorted(named)) if len(named) > 1 else f"{row.class_name} + others"] += 1
    return [
        {"class_name": name, "count": count}
        for name, count in sorted(found.items(), key=lambda item: (-item[1], item[0]))
    ]


def images_per_subject(subjects: Iterable[str]) -> list[int]:
    """Subjects with one image, two, three and so on, up to the most that one has."""
    sizes = Counter(Counter(subjects).values())
    return [sizes[size] for size in range(1, max(sizes) + 1)]


def measures(rows: Sequence[Row], qualities: Mapping[str, Quality]) -> list[Json]:
    """`Measure` of each number, of all images and of each class.

    Args:
        rows: The rows that were looked at.
        qualities: What each image was like, by its id.
    """
    found = []
    for name in MEASURES:
        of_class: dict[str, list[float]] = defaultdict(list)
        for row in rows:
            value: float = getattr(qualities[row.image_id], name)
            of_class[row.class_name].append(value)
            of_class[""].append(value)
        for class_name in sorted(of_class):
            percentiles = np.percentile(of_class[class_name], PERCENTILES)
            found.append(
                {"name": name, "class_name": class_name, "percentiles": [round(float(p), 4) for p in percentiles]}
            )
    return found


def _value(name: str, value: str) -> str:
    if not value:
        return NOT_SAID
    if name == "age" and value.isascii() and value.isdecimal():
        band = int(value) // _BAND * _BAND
        return f"{band} to {band + _BAND - 1}"
    return value


def _lower_end(value: str) -> tuple[bool, int]:
    """Numbers and bands of them in their own order, before words."""
    first = value.split(" ", 1)[0]
    number = first.isascii() and first.isdecimal()
    return not number, int(first) if number else 0
