"""Importers of source formats; they run where the files are.

Their errors may show names of files to whoever runs the import. A server is sent each image's own name alone, which is
kept apart from manifests: names hold patient ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from genaug.client.importers.names import check_names
from genaug.schema.registry import Registry, load
from genaug.schema.run import ImportSpec
from genaug.shared.errors import InvalidArgument


@dataclass(frozen=True)
class SourceImage:
    """One image as its source describes it."""

    name: str
    """Original name; it is kept apart from manifests."""
    class_name: str
    subject: str
    """Subject (patient) as the source names it; empty when each image is its own."""
    split: str
    """The user's own split: "train", "validation", "test", or empty."""
    attributes: dict[str, str]
    read: Callable[[], bytes]
    """Read the encoded image."""


@dataclass
class SourceReport:
    """Remarks of an importer on its source."""

    passed_over: Counter[str] = field(default_factory=Counter)
    """Files that are not read, by reason, such as ".txt: no image"."""
    notes: list[str] = field(default_factory=list)
    """Decisions and oddities that the user should know, each a sentence."""


@dataclass(frozen=True)
class Source:
    """The images of a source, in its order, and the importer's remarks."""

    images: tuple[SourceImage, ...]
    report: SourceReport


@dataclass(frozen=True)
class Importer:
    """An entry of the registry of source formats."""

    reader: str
    """ "module:attribute" of a function of an `ImportSpec` and a `SourceReport` that yields the `SourceImage`s in the
    source's order and adds its remarks to the report. It raises InvalidArgument if a folder, table, column or image is
    missing."""
    options: frozenset[str]
    """Fields of `ImportSpec` that it reads."""


# Fields that say which images belong together, in a table.
_GROUPING = {"subject_column", "subject_regex", "no_subject", "split_column"}

IMPORTERS: Registry[Importer] = Registry(
    "genaug.importers",
    "format",
    {
        "digits": Importer("genaug.client.importers.digits:read", frozenset({"keep"})),
        "folder": Importer("genaug.client.importers.folder:read", frozenset({"images", "subject_regex"})),
        "csv": Importer(
            "genaug.client.importers.csv:read",
            frozenset({"images", "csv", "filename_column", "class_column", "class_columns", "multi_label"} | _GROUPING),
        ),
        "odir": Importer(
            "genaug.client.importers.odir:read", frozenset({"images", "csv"} | _GROUPING - {"subject_column"})
        ),
    },
)

# Fields that every format has.
_COMMON = {"format", "split", "folds", "seed", "bits", "window", "on_conflict", "near_duplicates"}


def open_source(spec: ImportSpec) -> Source:
    """Read the list of a source's images; the images themselves are read later, by `SourceImage.read`.

    Raises:
        InvalidArgument: the format is unknown, an option means nothing to it, or the source is incomplete: a folder,
            table or column is missing, rows have no image, there are no images, or names are ambiguous.
    """
    importer = IMPORTERS.get(spec.format, path="format")
    for name, declared in ImportSpec.model_fields.items():
        if getattr(spec, name) != declared.default and name not in importer.options | _COMMON:
            raise InvalidArgument(f"{name}: means nothing to format {spec.format}; leave it out", reason="BAD_OPTION")
    report = SourceReport()
    read: Callable[[ImportSpec, SourceReport], Iterator[SourceImage]] = load(importer.reader)
    images = tuple(read(spec, report))
    check_names(images, report, options=importer.options)
    return Source(images, report)
