"""Description of a dataset as one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from genaug.assembly.describe.contact_sheet import ContactImage
from genaug.schema.common import counts_of
from genaug.schema.datasets import Attribute, Dataset, DatasetDescription, Histogram, Measure
from genaug.shared.pages import environment

_MEANINGS = {
    "width": "width, pixels",
    "height": "height, pixels",
    "brightness": "brightness: mean luma, 0 to 1",
    "contrast": "contrast: standard deviation of luma, 0 to 1",
    "sharpness": "sharpness: variance of the Laplacian at 256 pixels",
}


@dataclass(frozen=True)
class AttributeRow:
    """Images of one value of an attribute."""

    value: str
    counts: list[int]
    """By class, in the page's order."""

    @property
    def all(self) -> int:
        """Images of all classes."""
        return sum(self.counts)


@dataclass
class MeasureTable:
    """Percentiles of one measure."""

    meaning: str
    all: list[str] = field(default_factory=list)
    classes: list[tuple[str, list[str]]] = field(default_factory=list)


def render(
    description: DatasetDescription, dataset: Dataset, sheets: Mapping[str, Sequence[ContactImage]] | None = None
) -> str:
    """Render the page; all text from outside is escaped.

    Args:
        description: The description.
        dataset: Record of the dataset.
        sheets: Training images to show of each class.
    """
    classes = [entry.class_name for entry in description.classes]
    return (
        environment("genaug.assembly", "describe")
        .get_template("page.html.j2")
        .render(
            d=description,
            dataset=dataset,
            classes=classes,
            totals={
                side: sum(getattr(entry, side) for entry in description.classes)
                for side in ("training", "validation", "test")
            },
            attributes=[(attribute.name, _attribute_rows(attribute, classes)) for attribute in description.attributes],
            measures=_measure_tables(description.measures),
            histograms=[(entry.class_name or "all", _bars(entry)) for entry in description.histograms],
            sheets={name: images for name, images in (sheets or {}).items() if images},
            most=max((entry.training for entry in description.classes), default=1) or 1,
            subjects=sum(description.images_per_subject),
        )
    )


def _bars(histogram: Histogram) -> list[float]:
    """Heights of a histogram's bars, 0 to 1; the highest has 1."""
    top = max(histogram.shares, default=0.0) or 1.0
    return [round(share / top, 3) for share in histogram.shares]


def _attribute_rows(attribute: Attribute, classes: Iterable[str]) -> list[AttributeRow]:
    """A row per value, a column per class."""
    rows = []
    for value in attribute.values:
        counts = counts_of(value.counts)
        rows.append(AttributeRow(value.value, [counts.get(name, 0) for name in classes]))
    return rows


def _measure_tables(measures: Iterable[Measure]) -> list[MeasureTable]:
    """By measure: its percentiles over all images, then over each class."""
    tables: dict[str, MeasureTable] = {}
    for measure in measures:
        table = tables.setdefault(measure.name, MeasureTable(_MEANINGS.get(measure.name, measure.name)))
        percentiles = [_figure(value) for value in measure.percentiles]
        if measure.class_name:
            table.classes.append((measure.class_name, percentiles))
        else:
            table.all = percentiles
    return list(tables.values())


def _figure(value: float) -> str:
    """A number with about three significant digits, the same number of them for values of one size."""
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 2 else f"{value:.3f}"
