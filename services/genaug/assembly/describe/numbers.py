"""Counts and percentiles of a dataset's rows: classes, attributes, multi-disease images, subjects, image quality."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from genaug.assembly.describe.facts import ImageFacts
from genaug.assembly.describe.quality import MEASURES
from genaug.client.importers.keywords import disease_classes
from genaug.schema.common import ClassCount, class_counts, counts_of
from genaug.schema.datasets import (
    Attribute,
    ClassTally,
    Dataset,
    Defects,
    DroppedImage,
    Histogram,
    Measure,
    Value,
)
from genaug.shared.manifest import Row

NOT_SAID = "not said"
PERCENTILES = (5, 25, 50, 75, 95)

# An attribute with few values defines groups to compare; one with many is text, a date or an id.
_MOST_VALUES = 24
_BAND = 10
# An image is blurred below this share of the median sharpness, and blank below this contrast.
_BLURRED = 0.25
_BLANK = 0.02
# Reasons for which usable images are left out.
_USABLE = frozenset({"DUPLICATE", "CONFLICT"})
# Attributes with a section of their own.
_APART = frozenset({"multi_disease", "primary_class", "keywords", "labels"})


def tally(record: Dataset, pairs: Iterable[tuple[str, str]]) -> tuple[ClassTally, ...]:
    """Count images and subjects of each class, by name.

    Args:
        record: The dataset, which holds the counts of the sides.
        pairs: (class, subject) of all rows.
    """
    subjects: dict[str, set[str]] = defaultdict(set)
    for name, subject in pairs:
        subjects[name].add(subject)
    training, validation, test = map(counts_of, (record.training, record.validation, record.test))
    return tuple(
        ClassTally(
            class_name=name,
            training=training.get(name, 0),
            validation=validation.get(name, 0),
            test=test.get(name, 0),
            subjects=len(members),
        )
        for name, members in sorted(subjects.items())
    )


def attributes(rows: Sequence[Row]) -> tuple[Attribute, ...]:
    """Count images per value of each attribute with few values, by name; ages in bands of ten years.

    Rows without an attribute that others have are counted under `NOT_SAID`.
    """
    result = []
    for name in sorted({name for row in rows for name in row.attributes} - _APART):
        values = [_value(name, row.attributes.get(name, "")) for row in rows]
        if len(set(values)) > _MOST_VALUES:
            continue
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for value, row in zip(values, rows, strict=True):
            counts[value][row.class_name] += 1
        ordered = sorted(counts, key=lambda value: (value == NOT_SAID, _lower_end(value), value))
        result.append(
            Attribute(
                name=name,
                values=tuple(
                    Value(value=value, counts=class_counts(dict(sorted(counts[value].items())))) for value in ordered
                ),
            )
        )
    return tuple(result)


def multi_disease(rows: Iterable[Row]) -> tuple[ClassCount, ...]:
    """Count rows with attribute multi_disease="true" by their set of classes, most frequent first.

    The set is read from the attribute "keywords", or else "labels", both separated by "; "; without them, only the
    row's class is known.
    """
    counts: Counter[str] = Counter()
    for row in rows:
        if row.attributes.get("multi_disease") == "true":
            words = row.attributes.get("keywords", "")
            labels = row.attributes.get("labels", "")
            classes = disease_classes(words.split("; ")) if words else labels.split("; ")
            counts[" + ".join(sorted(classes)) if len(classes) > 1 else f"{row.class_name} + others"] += 1
    return class_counts(dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))))


def images_per_subject(subjects: Iterable[str]) -> tuple[int, ...]:
    """Number of subjects with one image, two, three and so on, up to the largest number of images."""
    sizes = Counter(Counter(subjects).values())
    return tuple(sizes[size] for size in range(1, max(sizes, default=0) + 1))


def measures(rows: Sequence[Row], facts: Mapping[str, ImageFacts]) -> tuple[Measure, ...]:
    """Percentiles of each measure, over all images and over each class.

    Args:
        rows: The measured rows.
        facts: Facts of each image, by its id.
    """
    result = []
    for name in MEASURES:
        for class_name, members in _by_class(rows, facts).items():
            percentiles = np.percentile([getattr(entry.quality, name) for entry in members], PERCENTILES)
            rounded = tuple(round(float(percentile), 4) for percentile in percentiles)
            result.append(Measure(name=name, class_name=class_name, percentiles=rounded))
    return tuple(result)


def histograms(rows: Sequence[Row], facts: Mapping[str, ImageFacts]) -> tuple[Histogram, ...]:
    """Mean histogram of luma, over all images and over each class."""
    return tuple(
        Histogram(
            class_name=class_name,
            shares=tuple(round(float(share), 5) for share in np.mean([entry.histogram for entry in members], axis=0)),
        )
        for class_name, members in _by_class(rows, facts).items()
    )


def defects(
    rows: Sequence[Row], facts: Mapping[str, ImageFacts], dropped: Sequence[DroppedImage]
) -> tuple[Defects, ...]:
    """Count unusable, blurred and blank images, over all images and over each class.

    Args:
        rows: The measured rows.
        facts: Facts of each image, by its id.
        dropped: Images of the whole source that were left out.
    """
    by_class = _by_class(rows, facts)
    unusable = Counter(image.class_name for image in dropped if image.reason not in _USABLE)
    everything = by_class.get("", [])
    sharp = _BLURRED * float(np.median([entry.quality.sharpness for entry in everything])) if everything else 0.0
    return tuple(
        Defects(
            class_name=class_name,
            images=len(members),
            dropped=unusable[class_name] if class_name else unusable.total(),
            blurred=sum(entry.quality.sharpness < sharp for entry in members),
            blank=sum(entry.quality.contrast < _BLANK for entry in members),
        )
        for class_name, members in by_class.items()
    )


def imbalance_ratio(tallies: Iterable[ClassTally]) -> float:
    """Training images of the largest class per training image of the smallest; 0 when a class has none."""
    sizes = [entry.training for entry in tallies]
    smallest = min(sizes, default=0)
    return round(max(sizes) / smallest, 2) if smallest else 0.0


def _by_class(rows: Sequence[Row], facts: Mapping[str, ImageFacts]) -> dict[str, list[ImageFacts]]:
    """Facts of all images under the name "", then those of each class, by name."""
    members: dict[str, list[ImageFacts]] = defaultdict(list)
    for row in rows:
        members[row.class_name].append(facts[row.image_id])
        members[""].append(facts[row.image_id])
    return dict(sorted(members.items()))


def _value(name: str, value: str) -> str:
    if not value:
        return NOT_SAID
    if name == "age" and value.isascii() and value.isdecimal():
        band = int(value) // _BAND * _BAND
        return f"{band} to {band + _BAND - 1}"
    return value


def _lower_end(value: str) -> tuple[bool, int]:
    """Sort key: numbers and bands of numbers by value, before words."""
    first = value.split(" ", 1)[0]
    number = first.isascii() and first.isdecimal()
    return not number, int(first) if number else 0
