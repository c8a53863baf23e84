"""Tables of datasets and their descriptions."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from genaug.cli.command import printable
from genaug.cli.output import make_table, titled
from genaug.v1 import dataset_pb2


def dataset_table(dataset: dataset_pb2.Dataset) -> RenderableType:
    """Table of a dataset: images per class and side, dropped images, window and notes."""
    rows = []
    sides = {
        side: {count.class_name: count.count for count in getattr(dataset, side)}
        for side in ("training", "validation", "test")
    }
    for name in sorted(set().union(*sides.values())):
        rows.append((name, *(str(side.get(name, 0)) for side in sides.values())))
    rows.append(("all", *(str(sum(side.values())) for side in sides.values())))
    title = (
        f"{dataset.name}  {dataset.subjects} subjects, {dataset.subjects_on_two_sides} on two sides, "
        f"{dataset.joined_groups} groups joined, {len(dataset.dropped)} images dropped"
    )
    dropped: dict[str, int] = {}
    for image in dataset.dropped:
        dropped[image.reason] = dropped.get(image.reason, 0) + 1
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
    below = [*([f"dropped: {reasons}"] if reasons else []), *_values_lines(dataset)]
    return titled(title, make_table(("class", *sides), rows), below="\n".join(below))


def _values_lines(dataset: dataset_pb2.Dataset) -> list[str]:
    """Say how values with more than 8 bits became grey levels, and the notes of the import."""
    lines = [f"note: {note}" for note in dataset.notes]
    if dataset.HasField("window"):
        window = dataset.window
        lines.insert(0, f"window: {window.low:.10g} is black, {window.high:.10g} white ({window.rule})")
    return lines


def description_table(
    description: dataset_pb2.DatasetDescription, dataset: dataset_pb2.Dataset | None = None
) -> RenderableType:
    """Tables and alarms of a description, with the values and notes of its dataset where that is not shown besides."""
    columns = ("class", "training", "validation", "test", "subjects", "unusable", "blurred", "blank")
    defects = {entry.class_name: entry for entry in description.defects}
    rows = [
        (
            c.class_name,
            *map(str, (c.training, c.validation, c.test, c.subjects)),
            *(str(getattr(defects.get(c.class_name), field, 0)) for field in ("dropped", "blurred", "blank")),
        )
        for c in description.classes
    ]
    several = sum(entry.count for entry in description.multi_disease)
    below = (
        f"{several} images name several diseases; {description.duplicates} duplicates left out, "
        f"{description.near_duplicates} near-identical pairs of different subjects"
    )
    if description.HasField("leakage_estimate"):
        leakage = description.leakage_estimate
        several_images = any(description.images_per_subject[1:])
        leaks = (
            f"a split by image would show {leakage.leaked:.0%} of test images a subject that was trained on "
            f"({leakage.leaked_lowest:.0%} to {leakage.leaked_highest:.0%}); {leakage.subjects_on_two_sides:.0f} of "
            f"{sum(description.images_per_subject)} subjects on two sides"
        )
        own = (
            "every subject has one image; if patients have several, name subjects at the import, or their images may "
            "be on two sides of the split"
        )
        below = f"{leaks if several_images else own}\n{below}"
    below = "\n".join([below, *(_values_lines(dataset) if dataset else ())])
    parts = [titled(description.dataset, make_table(columns, rows), below=below)]
    if description.shortcuts:
        parts += ["", titled("shortcuts", _shortcut_table(description))]
    lines = [f"alarm: {alarm.sentence}" for alarm in description.alarms] or ["no alarms"]
    return Group(*parts, "", *(Text(printable(line)) for line in lines))


def _shortcut_table(description: dataset_pb2.DatasetDescription) -> Table:
    columns = ("properties", "balanced accuracy", "chance", "best-told class", "against the others")
    return make_table(
        columns,
        [
            (
                entry.properties,
                f"{entry.accuracy:.0%} ({entry.lower:.0%} to {entry.upper:.0%})",
                f"{entry.chance:.0%}",
                entry.class_name,
                f"{entry.class_accuracy:.0%}",
            )
            for entry in description.shortcuts
        ],
    )
