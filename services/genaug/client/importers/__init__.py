"""Importers of source formats; they run where the files are.

Their errors may show names of files to whoever runs the import. A server is sent each image's own name alone, which is
kept apart from manifests: names hold patient ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from genaug.client.importers.escape import readable
from genaug.client.importers.names import check_names
from genaug.schema.registry import Registry, load
from genaug.schema.run import ImportSpec, OnConflict
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

    def passed_over_text(self) -> str:
        """Return the line on files that are not read, "2 files passed over: 2 .txt: no image"; empty without any."""
        total = self.passed_over.total()
        counts = ", ".join(f"{count} {reason}" for reason, count in self.passed_over.most_common())
        return f"{total} {'file' if total == 1 else 'files'} passed over: {counts}" if total else ""


@dataclass(frozen=True)
class Source:
    """The images of a source, in its order, and the importer's remarks."""

    images: tuple[SourceImage, ...]
    report: SourceReport
    spec: ImportSpec
    """The import, with the format that was found where "auto" was asked for."""


@dataclass(frozen=True)
class Importer:
    """An entry of the registry of source formats."""

    reader: str
    """ "module:attribute" of a function of an `ImportSpec` and a `SourceReport` that yields the `SourceImage`s in the
    source's order and adds its remarks to the report. It raises InvalidArgument if a folder, table, column or image is
    missing."""
    options: frozenset[str]
    """Fields of `ImportSpec` that it reads."""


# Fields that say which images belong together, and on which side; of a table, and of files.
_GROUPING = {"subject_column", "subject_regex", "no_subject", "split_column"}
_FILES = {"images", "subject_regex", "no_subject", "ignore_split"}
_LABELS = {"class_column", "multi_label"}

IMPORTERS: Registry[Importer] = Registry(
    "genaug.importers",
    "format",
    {
        "digits": Importer("genaug.client.importers.digits:read", frozenset({"keep"})),
        "folder": Importer("genaug.client.importers.folder:read", frozenset(_FILES)),
        "csv": Importer(
            "genaug.client.importers.csv:read",
            frozenset({"images", "csv", "filename_column", "class_columns"} | _LABELS | _GROUPING),
        ),
        "odir": Importer(
            "genaug.client.importers.odir:read", frozenset({"images", "csv"} | _GROUPING - {"subject_column"})
        ),
        "imagefolder": Importer(
            "genaug.client.importers.imagefolder:read", frozenset(_FILES | _LABELS | _GROUPING | {"class_columns"})
        ),
        "parquet": Importer(
            "genaug.client.importers.parquet:read",
            frozenset({"images", "filename_column", "subject_column", "no_subject", "ignore_split"} | _LABELS),
        ),
        "webdataset": Importer(
            "genaug.client.importers.webdataset:read", frozenset(_FILES | _LABELS | {"subject_column"})
        ),
        "npz": Importer("genaug.client.importers.npz:read", frozenset({"images", "multi_label", "ignore_split"})),
    },
)

_AUTO = "auto"

# Fields that every format has.
_COMMON = {"format", "split", "folds", "seed", "bits", "window", "on_conflict", "near_duplicates"}


def open_source(spec: ImportSpec) -> Source:
    """Read the list of a source's images; the images themselves are read later, by `SourceImage.read`.

    Format "auto" is the one that the source looks like; the report says which, and why.

    Raises:
        InvalidArgument: the format is unknown, an option means nothing to it, or the source is incomplete: a folder,
            table or column is missing, rows have no image, there are no images, or names are ambiguous.
    """
    report = SourceReport()
    if spec.format == _AUTO:
        spec = load("genaug.client.importers.auto:guess")(spec, report)
    importer = IMPORTERS.get(spec.format, path="format")
    for name, declared in ImportSpec.model_fields.items():
        if getattr(spec, name) != declared.default and name not in importer.options | _COMMON:
            raise InvalidArgument(f"{name}: means nothing to format {spec.format}; leave it out", reason="BAD_OPTION")
    read: Callable[[ImportSpec, SourceReport], Iterator[SourceImage]] = load(importer.reader)
    images = tuple(map(_encodable, read(spec, report)))
    if spec.on_conflict != OnConflict.REFUSE and not any(image.split for image in images):
        raise InvalidArgument(
            "on_conflict: the source has no split of its own, so nothing can conflict; leave it out",
            reason="BAD_OPTION",
        )
    check_names(images, report, options=importer.options)
    return Source(images, report, spec)


def _encodable(image: SourceImage) -> SourceImage:
    """Return the image with texts that protobuf takes: names of files are any bytes."""
    return replace(
        image,
        name=readable(image.name),
        class_name=readable(image.class_name),
        subject=readable(image.subject),
        attributes={readable(name): readable(value) for name, value in image.attributes.items()},
    )
