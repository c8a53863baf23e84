"""Results of steps 1 to 5, by name, for the sealed test rows or for one outer fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from genaug.schema.datasets import Dataset, DatasetVersion
from genaug.schema.generators import Batch
from genaug.schema.jobs import ComparedCaptions, FeatureSources


@dataclass
class CaptionComparison:
    """A second generator, trained with other captions, and its draws from the same noise. No scenario takes them."""

    generator: str
    counts: dict[str, int] = field(default_factory=dict)
    """Images of each class that were requested, from index 0."""
    batches: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    match: str = ""

    def inputs(self) -> ComparedCaptions:
        """Its part of a `report` Job's inputs."""
        return ComparedCaptions(
            generator=self.generator, counts=self.counts, labels=tuple(self.labels), match=self.match
        )


@dataclass
class FoldResults:
    """Results of one pass through steps 1 to 5, filled in from top to bottom."""

    dataset: Dataset
    fold: int
    """Outer fold that is held out, from 1; 0 for the sealed rows."""
    version: str
    """Dataset version with the real rows."""
    training: dict[str, int]
    """Real training images per class."""
    generators: dict[str, str] = field(default_factory=dict)
    """By source: synthetic, transformed."""
    labeler: str = ""
    batches: list[Batch] = field(default_factory=list)
    """Batches that were drawn, in the order of their rounds."""
    labels: list[str] = field(default_factory=list)
    """Labelled batches, in the order of their rounds."""
    second_labeler: str = ""
    """A second labeler, for the report's agreement alone; of the first fold only."""
    second_labels: list[str] = field(default_factory=list)
    compared: CaptionComparison | None = None
    """Draws with another set of captions; of the first fold only."""
    transformed: list[str] = field(default_factory=list)
    selection: str = ""
    match: str = ""
    versions: Sequence[DatasetVersion] = ()
    """Dataset version of each scenario, in order."""


def feature_sources(folds: Sequence[FoldResults]) -> FeatureSources:
    """Lists of images with features from earlier steps."""
    return FeatureSources(
        views=tuple(fold.version for fold in folds), labels=tuple(name for fold in folds for name in fold.labels)
    )
