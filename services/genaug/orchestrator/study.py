"""What one pass through steps 1 to 5 has found so far: names of results, filled in from top to bottom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass
class Compared:
    """A second generator that learnt other captions, and what it drew from the same noise. No scenario takes it."""

    generator: str
    counts: dict[str, int] = field(default_factory=dict)
    """Images of each class that were asked for, from index 0."""
    batches: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    match: str = ""


@dataclass
class Study:
    """One pass through steps 1 to 5: against the seal, or against one outer fold. Filled in from top to bottom."""

    dataset: Json
    """The Dataset record."""
    fold: int
    """The outer fold that is held out, from 1; 0 for the seal."""
    version: str
    """The real rows that are looked at."""
    training: dict[str, int]
    """Real training images per class."""
    generators: dict[str, str] = field(default_factory=dict)
    """By source: synthetic, transformed."""
    labeler: str = ""
    batches: list[Json] = field(default_factory=list)
    """The Batch records of what was drawn, in the order of their rounds."""
    labels: list[str] = field(default_factory=list)
    """Labelled batches, in the order of their rounds."""
    second_labeler: str = ""
    """Another labeler that only says how far the labels are the first one's own; of the first study alone."""
    second_labels: list[str] = field(default_factory=list)
    compared: Compared | None = None
    """What another set of captions draws; of the first study alone, and where one is asked for."""
    transformed: list[str] = field(default_factory=list)
    selection: str = ""
    match: str = ""
    versions: list[Json] = field(default_factory=list)
    """The DatasetVersion of each scenario, in order."""


def shelf_of(studies: Sequence[Study]) -> Json:
    """The lists of images whose features may lie in the store already: see `genaug.vision.features.feature_index.read_shelf`."""
    return {
        "views": [study.version for study in studies],
        "labels": [name for study in studies for name in study.labels],
    }


def compared_inputs(compared: Compared) -> Json:
    """What the report is told of another set of captions."""
    return {
        "generator": compared.generator,
        "counts": compared.counts,
        "labels": compared.labels,
        "match": compared.match,
    }
