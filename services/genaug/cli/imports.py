"""Import of a source from the command line: progress, notes, conflicts, dropped files and alarms."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from genaug.cli.output import notice, stderr
from genaug.client import Client, ImportResult
from genaug.client.importers import SourceImage, open_source
from genaug.schema.run import ImportSpec
from genaug.shared.errors import GenaugError
from genaug.v1 import common_pb2, dataset_pb2

ProgressHook = Callable[[common_pb2.Progress], None]

# Dropped images that are shown by name after an import.
_MAX_DROPPED = 5


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
    with progress_bar("reading") as on_progress:
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
        with progress_bar("reading") as on_progress:
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
def progress_bar(first: str) -> Iterator[ProgressHook]:
    """Show a bar on stderr, on a terminal; yield the hook that updates it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as bars:
        bar = bars.add_task(first, total=None)

        def on_progress(progress: common_pb2.Progress) -> None:
            bars.update(bar, description=progress.step, completed=progress.done, total=progress.total or None)

        yield on_progress
