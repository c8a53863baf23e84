"""Importers of source formats; they run where the files are.

Their errors count and give line numbers, never file names or subjects: names hold patient ids, and errors end up in
logs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Importer:
    """An entry of the registry of source formats."""

    reader: str
    """ "module:attribute" of a function that yields the `SourceImage`s of an `ImportSpec` in the source's order. It
    raises InvalidArgument if a folder, table, column or image is missing."""
    options: frozenset[str]
    """Fields of `ImportSpec` that it reads."""


IMPORTERS: Registry[Importer] = Registry(
    "genaug.importers",
    "format",
    {
        "digits": Importer("genaug.client.importers.digits:read", frozenset({"keep"})),
        "folder": Importer("genaug.client.importers.folder:read", frozenset({"images", "subject_regex"})),
        "csv": Importer(
            "genaug.client.importers.csv:read",
            frozenset({"images", "csv", "filename_column", "class_column", "subject_column", "split_column"}),
        ),
        "odir": Importer("genaug.client.importers.odir:read", frozenset({"images", "csv"})),
    },
)

# Fields that every format has.
_COMMON = {"format", "split", "folds", "seed"}


def open_source(spec: ImportSpec) -> Iterator[SourceImage]:
    """Read the images of a source, in its order.

    Raises:
        InvalidArgument: the format is unknown, an option means nothing to it, or the source is incomplete: a folder,
            table or column is missing, rows have no image, there are no images.
    """
    importer = IMPORTERS.get(spec.format, path="format")
    for name, field in ImportSpec.model_fields.items():
        if getattr(spec, name) != field.default and name not in importer.options | _COMMON:
            raise InvalidArgument(f"{name}: means nothing to format {spec.format}; leave it out", reason="BAD_OPTION")
    images: Iterator[SourceImage] = load(importer.reader)(spec)
    return images
