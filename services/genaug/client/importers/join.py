"""Join of the rows of one file, as in tables of objects or with a row per label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from genaug.client.importers import SourceImage, SourceReport
from genaug.client.importers.files import describe, identify_path, note_patient_ids
from genaug.client.importers.labeled import label_attributes
from genaug.client.importers.table import Line, refuse_lines
from genaug.schema.run import ImportSpec

_FEW = 3


@dataclass(frozen=True)
class LabeledRow:
    """One row of a table, read: a file with its labels."""

    line: Line
    path: Path
    name: str
    """The file's name as the table has it."""
    labels: tuple[str, ...]
    subject: str
    split: str
    attributes: dict[str, str]


def join_rows(rows: Sequence[LabeledRow], spec: ImportSpec, report: SourceReport) -> Iterator[SourceImage]:
    """Yield an image per file, in the order of its first row.

    Attributes that differ between the rows of a file are those of objects, where most files with several rows differ in
    one: they are left out, and noted. With `spec.multi_label`, the class is the label named first, and the attributes
    are multi_disease ("true" with several labels, else "false"), primary_class (the class) and labels (all, separated
    by "; ").

    Raises:
        InvalidArgument: rows of one file have different subjects, sides or attributes, or, without `multi_label`,
            labels; or a file is no image.
        FailedPrecondition: there are DICOM files, and pydicom is not installed.
    """
    files: dict[Path, list[LabeledRow]] = defaultdict(list)
    for row in rows:
        files[row.path].append(row)
    several = [group for group in files.values() if len(group) > 1]
    if several:
        _agree(several, "subject", lambda row: row.subject)
        _agree(several, "side of the split", lambda row: row.split)
        if not spec.multi_label:
            _agree(several, "label", lambda row: row.labels, "or allow several labels of an image with --multi-label")
        report.notes.append(f"{len(rows):,} rows name {len(files):,} files; rows of one file are joined")
    left_out = _object_columns(several, report)
    images = {path: identify_path(path) for path in files}
    for problem in sorted({image.problem for image in images.values() if image.problem}):
        refuse_lines(
            [row.line for row in rows if images[row.path].problem == problem], f"files are not read, {problem},"
        )
    describe(((path.name, image) for path, image in images.items()), spec, report)
    subjects = {path: group[0].subject or images[path].subject for path, group in files.items()}
    note_patient_ids([images[path] for path, group in files.items() if not group[0].subject], report)
    for path, group in files.items():
        first = group[0]
        labels = tuple(dict.fromkeys(label for row in group for label in row.labels))
        attributes = {name: value for name, value in first.attributes.items() if name not in left_out}
        attributes |= label_attributes(labels) if spec.multi_label else {}
        yield SourceImage(first.name, labels[0], subjects[path], first.split, attributes, images[path].read)


def _agree(
    groups: Sequence[Sequence[LabeledRow]], what: str, value: Callable[[LabeledRow], object], hint: str = ""
) -> None:
    differing = [row.line for group in groups if len({value(row) for row in group}) > 1 for row in group]
    refuse_lines(differing, f"the {what} of one file differs", ", ".join(filter(None, ("make its rows agree", hint))))


def _object_columns(groups: Sequence[Sequence[LabeledRow]], report: SourceReport) -> frozenset[str]:
    """Return the attributes to leave out; raise InvalidArgument if they differ in a few files only."""
    differing: dict[str, list[LabeledRow]] = defaultdict(list)
    files: dict[str, int] = defaultdict(int)
    for group in groups:
        # The column without a name numbers the rows.
        for name in {name for row in group for name in row.attributes if name}:
            if len({row.attributes.get(name, "") for row in group}) > 1:
                differing[name] += group
                files[name] += 1
    if max(files.values(), default=0) < max(_FEW, len(groups) / 2):
        for name, rows in sorted(differing.items()):
            refuse_lines(
                [row.line for row in rows],
                f"{name} of one file differs",
                "make its rows agree, or delete the column or the surplus rows",
            )
    elif files:
        report.notes.append(f"columns that differ between the rows of a file are left out: {', '.join(sorted(files))}")
    return frozenset(files)
