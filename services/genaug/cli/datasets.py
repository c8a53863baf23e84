"""`genaug dataset …`: import, describe, export and delete datasets."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Group

from genaug.cli.command import FormatOption, client, command, group, resource
from genaug.cli.dataset_tables import dataset_table, description_table
from genaug.cli.imports import import_spec, progress_bar
from genaug.cli.output import (
    check_format,
    counts_text,
    show,
    show_list,
    show_plain,
    stderr,
    stdout,
)
from genaug.schema.model import parse
from genaug.schema.run import ImportSpec, NearDuplicates, NoSubject, OnConflict
from genaug.shared.errors import InvalidArgument
from genaug.shared.protojson import to_dict

E = TypeVar("E", bound=StrEnum)

app = group("dataset", "Import and look at sealed datasets.")

_DEFAULTS = ImportSpec.model_construct()

# Sections of the options of `dataset import`.
_COLUMNS = "Columns (csv, imagefolder, parquet, webdataset) and labels"
_SPLITTING = "Subjects and split"
_DEEP = "Images with more than 8 bits per value"

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
        show(result.dataset, output, lambda: dataset_table(result.dataset))
    elif output == "table":
        stdout.print(Group(dataset_table(result.dataset), "", description_table(result.description)))
    else:
        show_plain({"dataset": to_dict(result.dataset), "description": to_dict(result.description)}, output)


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
        with progress_bar("reading") as on_progress:
            description, html = server.describe_dataset(
                _resource(parent, version), page=page is not None, on_progress=on_progress
            )
        dataset = server.get_dataset(parent)
    if page is not None:
        write_file(page, html)
        stderr.print(f"{page}: {len(html)} bytes")
    show(description, output, lambda: description_table(description, dataset))


def _resource(dataset: str, version: str) -> str:
    """Resource name of a version; of the dataset where `version` is empty."""
    return f"{dataset}/versions/{version}" if version else dataset


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
    with client() as server, progress_bar("comparing") as on_progress:
        dataset = server.unite_datasets(
            resource(name, "datasets"), [resource(parent, "datasets") for parent in datasets], on_progress=on_progress
        )
    show(dataset, output, lambda: dataset_table(dataset))


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
    show(dataset, output, lambda: dataset_table(dataset))


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
        with progress_bar("exporting") as on_progress:
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
