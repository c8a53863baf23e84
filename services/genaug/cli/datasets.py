"""`genaug dataset …`: import, describe, export and delete datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from genaug.cli.command import FormatOption, client, command, group, resource
from genaug.cli.output import check_format, counts_text, make_table, show, show_list, stderr, titled
from genaug.client import Client
from genaug.client.importers import SourceImage, open_source
from genaug.schema.model import parse
from genaug.schema.run import ImportSpec, NearDuplicates, NoSubject, OnConflict
from genaug.shared.errors import GenaugError, InvalidArgument
from genaug.v1 import common_pb2, dataset_pb2

E = TypeVar("E", bound=StrEnum)
ProgressHook = Callable[[common_pb2.Progress], None]

app = group("dataset", "Import and look at sealed datasets.")

_DEFAULTS = ImportSpec.model_construct()

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The dataset's name.")]


@command(app, "import")
def import_(
    name: NameArgument,
    format: Annotated[str, typer.Option("--format", help="digits, folder, csv or odir")],
    images: Annotated[str, typer.Option(help="Folder of the images.")] = _DEFAULTS.images,
    csv: Annotated[str, typer.Option(help="Table of the images: CSV or Excel.")] = _DEFAULTS.csv,
    split: Annotated[str, typer.Option(help="Shares of training, validation and test.")] = ",".join(
        map(str, _DEFAULTS.split)
    ),
    folds: Annotated[int, typer.Option(help="Outer folds by subject, 2 to 100.")] = _DEFAULTS.folds,
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = _DEFAULTS.seed,
    keep: Annotated[str, typer.Option(help="digits: images per class to keep, such as 0=40,1=300.")] = "",
    subject_regex: Annotated[
        str, typer.Option(help="First group is the subject, in --subject-column (odir: ID) or else the file's name.")
    ] = _DEFAULTS.subject_regex,
    filename_column: Annotated[str, typer.Option(help="csv: column of the file's name.")] = _DEFAULTS.filename_column,
    class_column: Annotated[str, typer.Option(help="csv: column of the class.")] = _DEFAULTS.class_column,
    subject_column: Annotated[str, typer.Option(help="csv: column of the subject.")] = _DEFAULTS.subject_column,
    split_column: Annotated[
        str, typer.Option(help="csv, odir: column of your own split; checked, not trusted.")
    ] = _DEFAULTS.split_column,
    bits: Annotated[int, typer.Option(help="Bits per value of deep images; 0 finds them.")] = _DEFAULTS.bits,
    window: Annotated[
        str, typer.Option(metavar="LOW,HIGH", help="Values of deep images that map to black and white.")
    ] = "",
    multi_label: Annotated[
        bool, typer.Option(help="csv: several labels per image, in a cell (A|B), in rows or in --class-columns.")
    ] = _DEFAULTS.multi_label,
    class_columns: Annotated[str, typer.Option(metavar="A,B,…", help="csv: one column of 0 and 1 per class.")] = "",
    no_subject: Annotated[
        str, typer.Option(metavar="refuse|own", help="Images without a subject: refused, or each its own.")
    ] = "refuse",
    on_conflict: Annotated[
        str,
        typer.Option(
            metavar="refuse|drop-training|drop-validation", help="A subject or photograph on two sides of your split."
        ),
    ] = "refuse",
    near_duplicates: Annotated[
        str, typer.Option(metavar="join|report|off", help="Near-identical images of different subjects.")
    ] = "join",
    output: FormatOption = "table",
) -> None:
    """Import and seal a dataset. The same import again is found, not repeated."""
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
    }
    spec = parse(ImportSpec, options, reason="BAD_OPTION")
    with client() as server:
        dataset = import_spec(server, name, spec)
    show(dataset, output, lambda: _dataset_table(dataset))


def import_spec(server: Client, name: str, spec: ImportSpec) -> dataset_pb2.Dataset:
    """Import a source, with progress on stderr. The files are read by this process."""
    source = open_source(spec)
    with _progress("reading") as on_progress:
        try:
            result = server.import_dataset(
                name, source.images, spec=spec, passed_over=source.report.passed_over, on_progress=on_progress
            )
        except GenaugError as error:
            _show_pairs(source.images, error.metadata.get("pairs", ""))
            raise
    for note in source.report.notes:
        stderr.print(f"note: {note}", highlight=False)
    return result.dataset


def _show_pairs(images: Sequence[SourceImage], pairs: str) -> None:
    """Show the files of pairs of rows such as "3:17,5:40": the server knows, and may name, rows alone."""
    for pair in filter(None, pairs.split(",")):
        first, second = (f"{images[row].name} (row {row}, {images[row].split})" for row in map(int, pair.split(":")))
        stderr.print(f"conflict: {first} and {second}", highlight=False, markup=False)


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
    name: NameArgument,
    page: Annotated[Path | None, typer.Option(help="HTML file to write.")] = None,
    output: FormatOption = "table",
) -> None:
    """Show classes, subjects, photographs, and the leakage of a split by image."""
    check_format(output)
    with client() as server, _progress("reading") as on_progress:
        description, html = server.describe_dataset(resource(name, "datasets"), on_progress=on_progress)
    if page is not None:
        write_file(page, html)
        stderr.print(f"{page}: {len(html)} bytes")
    show(description, output, lambda: _description_table(description))


def _description_table(description: dataset_pb2.DatasetDescription) -> RenderableType:
    columns = ("class", "training", "validation", "test", "subjects")
    rows = [(c.class_name, *map(str, (c.training, c.validation, c.test, c.subjects))) for c in description.classes]
    leakage = description.leakage_estimate
    several = sum(entry.count for entry in description.multi_disease)
    below = (
        f"a split by image would show {leakage.leaked:.0%} of test images a subject that was trained on "
        f"({leakage.leaked_lowest:.0%} to {leakage.leaked_highest:.0%}); {leakage.subjects_on_two_sides:.0f} of "
        f"{sum(description.images_per_subject)} subjects on two sides\n"
        f"{several} images name several diseases; {description.duplicates} duplicates left out, "
        f"{description.near_duplicates} near-identical pairs of different subjects"
    )
    return titled(description.dataset, make_table(columns, rows), below=below)


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
def versions(name: NameArgument, output: FormatOption = "table") -> None:
    """List a dataset's versions."""
    with client() as server:
        show_list(
            server.list_dataset_versions(resource(name, "datasets")),
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
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write.")],
    include_sealed: Annotated[
        bool, typer.Option(help="Add the sealed rows; logged as an opening of the seal.")
    ] = False,
) -> None:
    """Write a manifest as a Parquet file."""
    dataset, _, version = name.partition("@")
    full = resource(dataset, "datasets") + (f"/versions/{version}" if version else "")
    with client() as server:
        data = server.export_manifest(full, include_sealed=include_sealed)
    write_file(output, data)
    stderr.print(f"{output}: {len(data)} bytes")


@command(app, "export")
def export(
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder: empty, or with the same export.")],
    layout: Annotated[str, typer.Option(help="folders (ImageFolder) or csv (filename,labels)")] = "folders",
) -> None:
    """Write a version's training and validation images as files."""
    dataset, _, version = name.partition("@")
    full = f"{resource(dataset, 'datasets')}/versions/{version or 'real'}"
    with client() as server, _progress("exporting") as on_progress:
        files = server.export_images(full, output, layout=layout, on_progress=on_progress)
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
    below = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
    return titled(title, make_table(("class", *sides), rows), below=f"dropped: {below}" if below else "")
