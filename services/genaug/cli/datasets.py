"""`genaug dataset …`: import, describe, export and delete datasets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from genaug.cli.command import FormatOption, client, command, group, printable, resource
from genaug.cli.output import (
    check_format,
    counts_text,
    make_table,
    notice,
    show,
    show_list,
    show_plain,
    stderr,
    stdout,
    titled,
)
from genaug.client import Client, ImportResult
from genaug.client.importers import SourceImage, open_source
from genaug.schema.model import parse
from genaug.schema.run import ImportSpec, NearDuplicates, NoSubject, OnConflict
from genaug.shared.errors import GenaugError, InvalidArgument
from genaug.shared.protojson import to_dict
from genaug.v1 import common_pb2, dataset_pb2

E = TypeVar("E", bound=StrEnum)
ProgressHook = Callable[[common_pb2.Progress], None]

app = group("dataset", "Import and look at sealed datasets.")

_DEFAULTS = ImportSpec.model_construct()

# Sections of the options of `dataset import`.
_COLUMNS = "Columns (csv, imagefolder, parquet, webdataset) and labels"
_SPLITTING = "Subjects and split"
_DEEP = "Images with more than 8 bits per value"
# Dropped images that are shown by name after an import.
_MAX_DROPPED = 5

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The dataset's name.")]
VersionArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME[@VERSION]",
        help='The dataset\'s name; VERSION is "real", 32 hex digits, or a run with its scenario: RUN/SCENARIO.',
    ),
]


@command(app, "import")
def import_(
    name: NameArgument,
    format: Annotated[
        str,
        typer.Option(
            "--format", help="auto, folder, csv, odir, imagefolder, parquet, webdataset, npz, or digits (demo)."
        ),
    ],
    images: Annotated[
        str, typer.Option(help="Folder of the images; npz, parquet, webdataset: or a file.")
    ] = _DEFAULTS.images,
    csv: Annotated[str, typer.Option(help="csv, odir: table of the images, CSV or Excel.")] = _DEFAULTS.csv,
    filename_column: Annotated[
        str, typer.Option(help="Column of the file's name; parquet: of the image.", rich_help_panel=_COLUMNS)
    ] = _DEFAULTS.filename_column,
    class_column: Annotated[
        str, typer.Option(help="Column of the class.", rich_help_panel=_COLUMNS)
    ] = _DEFAULTS.class_column,
    class_columns: Annotated[
        str,
        typer.Option(
            metavar="A,B,…", help="In place of --class-column: a column of 0 and 1 per class.", rich_help_panel=_COLUMNS
        ),
    ] = "",
    multi_label: Annotated[
        bool,
        typer.Option(
            help="Allow several labels per image: in a cell (A|B), in rows or in --class-columns.",
            rich_help_panel=_COLUMNS,
        ),
    ] = _DEFAULTS.multi_label,
    subject_column: Annotated[
        str, typer.Option(help="Column of the subject (patient).", rich_help_panel=_COLUMNS)
    ] = _DEFAULTS.subject_column,
    split_column: Annotated[
        str, typer.Option(help="Column of your own split; checked, not trusted.", rich_help_panel=_COLUMNS)
    ] = _DEFAULTS.split_column,
    subject_regex: Annotated[
        str,
        typer.Option(
            help="Regular expression whose first (group) is the subject, in the file's name without folders, or in "
            "--subject-column (odir: ID): '^(\\d+)_' takes 17 of 17_left.png.",
            rich_help_panel=_SPLITTING,
        ),
    ] = _DEFAULTS.subject_regex,
    no_subject: Annotated[
        str,
        typer.Option(
            metavar="refuse|own",
            help="Images in which no subject is found: refuse the import, or take each as its own subject.",
            rich_help_panel=_SPLITTING,
        ),
    ] = "refuse",
    split: Annotated[
        str, typer.Option(help="Shares of training, validation and test.", rich_help_panel=_SPLITTING)
    ] = ",".join(map(str, _DEFAULTS.split)),
    seed: Annotated[int, typer.Option(help="Seed of the split.", rich_help_panel=_SPLITTING)] = _DEFAULTS.seed,
    folds: Annotated[
        int, typer.Option(help="Outer folds by subject, 2 to 100.", rich_help_panel=_SPLITTING)
    ] = _DEFAULTS.folds,
    ignore_split: Annotated[
        bool,
        typer.Option(
            help="Leave out the source's own split, such as folders train and test; one is made.",
            rich_help_panel=_SPLITTING,
        ),
    ] = _DEFAULTS.ignore_split,
    on_conflict: Annotated[
        str,
        typer.Option(
            metavar="refuse|drop-training|drop-validation",
            help="A subject or photograph on two sides of your own split.",
            rich_help_panel=_SPLITTING,
        ),
    ] = "refuse",
    near_duplicates: Annotated[
        str,
        typer.Option(
            metavar="join|report|off",
            help="Near-identical images of different subjects: keep them on one side, list them, or do not look.",
            rich_help_panel=_SPLITTING,
        ),
    ] = "join",
    bits: Annotated[
        int, typer.Option(help="Bits per value, 8 to 32; 0 finds them.", rich_help_panel=_DEEP)
    ] = _DEFAULTS.bits,
    window: Annotated[
        str,
        typer.Option(
            metavar="LOW,HIGH", help="Values that map to black and white, such as -160,240.", rich_help_panel=_DEEP
        ),
    ] = "",
    keep: Annotated[str, typer.Option(help="digits: images per class to keep, such as 0=40,1=300.")] = "",
    dry_run: Annotated[bool, typer.Option(help="Check and describe, store nothing.")] = False,
    output: FormatOption = "table",
) -> None:
    """Import and seal a dataset: images, classes, subjects (patients), split.

    An option that a format does not use is refused. An import that was made before is found, not repeated.
    See docs/data.md.
    """
    check_format(output)
    options = {
        "format": format,
        "images": images,
        "csv": csv,
        "split": _numbers(split, option="--split", example="0.7,0.15,0.15"),
        "folds": folds,
        "seed": seed,
        "keep": _keep(keep),
        "subject_regex": subject_regex,
        "filename_column": filename_column,
        "class_column": class_column,
        "subject_column": subject_column,
        "split_column": split_column,
        "bits": bits,
        "window": _numbers(window, option="--window", example="-1000,1000"),
        "multi_label": multi_label,
        "class_columns": [column.strip() for column in class_columns.split(",") if column.strip()],
        "no_subject": _choice(NoSubject, no_subject, option="--no-subject"),
        "on_conflict": _choice(OnConflict, on_conflict, option="--on-conflict"),
        "near_duplicates": _choice(NearDuplicates, near_duplicates, option="--near-duplicates"),
        "ignore_split": ignore_split,
    }
    spec = parse(ImportSpec, options, reason="BAD_OPTION")
    with client() as server:
        result = import_spec(server, name, spec, dry_run=dry_run)
    if result.description is None:
        show(result.dataset, output, lambda: _dataset_table(result.dataset))
    elif output == "table":
        stdout.print(Group(_dataset_table(result.dataset), "", _description_table(result.description)))
    else:
        show_plain({"dataset": to_dict(result.dataset), "description": to_dict(result.description)}, output)


def import_spec(server: Client, name: str, spec: ImportSpec, *, dry_run: bool = False) -> ImportResult:
    """Import a source, with progress, notes and alarms on stderr. The files are read by this process.

    Args:
        server: The client.
        name: Id of the dataset.
        spec: The source.
        dry_run: Store nothing; the alarms are in the result's description, and are not printed.
    """
    source = open_source(spec)
    for note in source.report.notes:
        notice(f"note: {note}")
    if passed_over := source.report.passed_over_text():
        notice(passed_over)
    with _progress("reading") as on_progress:
        try:
            result = server.import_dataset(
                name,
                source.images,
                spec=source.spec,
                passed_over=source.report.passed_over,
                validate_only=dry_run,
                on_progress=on_progress,
            )
        except GenaugError as error:
            _show_pairs(source.images, error.metadata.get("pairs", ""))
            raise
    _show_dropped(source.images, result.dataset)
    if not dry_run:
        _print_alarms(server, result.dataset.name)
    return result


def _print_alarms(server: Client, dataset: str) -> None:
    """Describe a dataset and print its alarms on stderr; an error is printed, too, since the import has succeeded."""
    try:
        with _progress("reading") as on_progress:
            description, _ = server.describe_dataset(dataset, page=False, on_progress=on_progress)
    except GenaugError as error:
        notice(f"note: {dataset} is imported, and could not be described: {error.message}")
        return
    for alarm in description.alarms:
        notice(f"alarm: {alarm.sentence}")


def _show_pairs(images: Sequence[SourceImage], pairs: str) -> None:
    """Show the files of pairs of rows such as "3:17,5:40": the server knows, and may name, rows alone."""
    for pair in filter(None, pairs.split(",")):
        first, second = (f"{images[row].name} (row {row}, {images[row].split})" for row in map(int, pair.split(":")))
        notice(f"conflict: {first} and {second}")


def _show_dropped(images: Sequence[SourceImage], dataset: dataset_pb2.Dataset) -> None:
    """Show the files of the first dropped images: the server knows, and may name, rows alone."""
    for dropped in dataset.dropped[:_MAX_DROPPED]:
        # The rows of an import that is found are those of its first time: the source may have another order by now.
        image = images[dropped.row] if dropped.row < len(images) else None
        if image and image.class_name == dropped.class_name and _is_image(image, dropped.image_id):
            notice(f"dropped: {image.name} (row {dropped.row}): {dropped.reason}, {dropped.detail}")
    if len(dataset.dropped) > _MAX_DROPPED:
        notice(f"dropped: {len(dataset.dropped) - _MAX_DROPPED} more; `genaug dataset get -o json` lists their rows")


def _is_image(image: SourceImage, image_id: str) -> bool:
    """Whether an image has this id, or cannot be read and has none."""
    try:
        return hashlib.sha256(image.read()).hexdigest().startswith(image_id)
    except (GenaugError, OSError):
        return not image_id


@contextmanager
def _progress(first: str) -> Iterator[ProgressHook]:
    """Show a bar on stderr, on a terminal; yield the hook that updates it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as bars:
        bar = bars.add_task(first, total=None)

        def on_progress(progress: common_pb2.Progress) -> None:
            bars.update(bar, description=progress.step, completed=progress.done, total=progress.total or None)

        yield on_progress


@command(app, "describe")
def describe(
    name: VersionArgument,
    page: Annotated[Path | None, typer.Option(help="HTML file to write.")] = None,
    output: FormatOption = "table",
) -> None:
    """Show alarms, classes, subjects, photographs, shortcuts, and the leakage of a split by image."""
    check_format(output)
    with client() as server:
        parent, version = server.split_version(name)
        with _progress("reading") as on_progress:
            description, html = server.describe_dataset(
                _resource(parent, version), page=page is not None, on_progress=on_progress
            )
        dataset = server.get_dataset(parent)
    if page is not None:
        write_file(page, html)
        stderr.print(f"{page}: {len(html)} bytes")
    show(description, output, lambda: _description_table(description, dataset))


def _resource(dataset: str, version: str) -> str:
    """Resource name of a version; of the dataset where `version` is empty."""
    return f"{dataset}/versions/{version}" if version else dataset


def _description_table(
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


@command(app, "trace")
def trace(
    name: NameArgument,
    images: Annotated[list[str], typer.Argument(metavar="DIGEST...", help="Image ids, or sha256 of contents.")],
    output: FormatOption = "table",
) -> None:
    """Show the original row, file name and subject of images. They identify people: each call is logged."""
    check_format(output)
    with client() as server:
        show_list(
            server.trace_images(resource(name, "datasets"), images),
            output,
            columns=("image", "row", "file", "subject"),
            cells=lambda origin: (origin.image_id, str(origin.row), origin.source_name, origin.subject),
        )


@command(app, "union")
def union(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new dataset's name.")],
    datasets: Annotated[list[str], typer.Argument(metavar="DATASET...", help="Two or more datasets.")],
    output: FormatOption = "table",
) -> None:
    """Unite sealed datasets: every image keeps its side, photographs in two of them are kept once."""
    check_format(output)
    with client() as server, _progress("comparing") as on_progress:
        dataset = server.unite_datasets(
            resource(name, "datasets"), [resource(parent, "datasets") for parent in datasets], on_progress=on_progress
        )
    show(dataset, output, lambda: _dataset_table(dataset))


@command(app, "list")
def list_(output: FormatOption = "table") -> None:
    """List datasets."""
    with client() as server:
        show_list(
            server.list_datasets(),
            output,
            columns=("name", "format", "training", "validation", "test", "subjects", "created"),
            cells=lambda d: (
                d.name.removeprefix("datasets/"),
                d.format,
                *(str(sum(count.count for count in counts)) for counts in (d.training, d.validation, d.test)),
                str(d.subjects),
                d.create_time,
            ),
        )


@command(app, "get")
def get(name: NameArgument, output: FormatOption = "table") -> None:
    """Show a dataset: split, subjects, dropped images."""
    with client() as server:
        dataset = server.get_dataset(resource(name, "datasets"))
    show(dataset, output, lambda: _dataset_table(dataset))


@command(app, "versions")
def versions(name: VersionArgument, output: FormatOption = "table") -> None:
    """List a dataset's versions, or show one of them."""
    with client() as server:
        dataset, version = server.split_version(name)
        show_list(
            [server.get_dataset_version(_resource(dataset, version))]
            if version
            else server.list_dataset_versions(dataset),
            output,
            columns=("version", "real", "synthetic", "transformed", "validation", "shortfall"),
            cells=lambda v: (
                v.name.rsplit("/", 1)[-1],
                *(
                    str(sum(count.count for count in counts))
                    for counts in (v.real, v.synthetic, v.transformed, v.validation)
                ),
                counts_text(v.shortfall),
            ),
        )


@command(app, "manifest")
def manifest(
    name: VersionArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write.")],
    include_sealed: Annotated[
        bool, typer.Option(help="Add the sealed rows; logged as an opening of the seal.")
    ] = False,
) -> None:
    """Write a manifest as a Parquet file."""
    with client() as server:
        data = server.export_manifest(_resource(*server.split_version(name)), include_sealed=include_sealed)
    write_file(output, data)
    stderr.print(f"{output}: {len(data)} bytes")


@command(app, "export")
def export(
    name: VersionArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder: empty, or with the same export.")],
    layout: Annotated[str, typer.Option(help="folders (ImageFolder) or csv (filename,labels)")] = "folders",
) -> None:
    """Write a version's training and validation images as files."""
    with client() as server:
        dataset, version = server.split_version(name)
        with _progress("exporting") as on_progress:
            files = server.export_images(
                _resource(dataset, version or "real"), output, layout=layout, on_progress=on_progress
            )
    stderr.print(f"{output}: {files} files")


@command(app, "delete")
def delete(name: NameArgument, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Delete a dataset with its versions and images."""
    if not yes:
        typer.confirm(f"Delete the dataset {name} with all its versions and images?", abort=True, err=True)
    with client() as server:
        server.delete_dataset(resource(name, "datasets"))
    stderr.print(f"deleted {resource(name, 'datasets')}")


def write_file(path: Path, data: bytes) -> None:
    """Write a command's result to a file; raise InvalidArgument if it cannot be written."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise InvalidArgument(f"-o {path}: cannot be written ({error.strerror})", reason="NOT_WRITABLE") from None


def _numbers(text: str, *, option: str, example: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if text]
    except ValueError:
        raise InvalidArgument(f"{option} {text!r}: numbers such as {example}", reason="BAD_OPTION") from None


def _choice(kind: type[E], text: str, *, option: str) -> E:
    words = {choice.name.lower().replace("_", "-"): choice for choice in kind}
    if text not in words:
        raise InvalidArgument(f"{option} {text!r}: choose {', '.join(words)}", reason="BAD_OPTION")
    return words[text]


def _keep(text: str) -> dict[str, int]:
    try:
        return {name: int(count) for name, count in (part.split("=") for part in text.split(",") if part)}
    except ValueError:
        raise InvalidArgument(f"--keep {text!r}: pairs such as 0=40,1=300", reason="BAD_KEEP") from None


def _dataset_table(dataset: dataset_pb2.Dataset) -> RenderableType:
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
