"""Readers of source formats; they run where the files are.

Each is a generator of `SourceImage`. Their errors count and give line numbers, never file names or subjects: names hold
patient ids, and errors end up in logs.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import cast

from genaug.shared.errors import InvalidArgument

FORMATS = ("digits", "folder", "csv", "odir")

# Which options mean something to which format; any other that is set is a mistake.
_USED = {
    "digits": {"keep"},
    "folder": {"images", "subject_regex"},
    "csv": {"images", "csv", "filename_column", "class_column", "subject_column", "split_column"},
    "odir": {"images", "csv"},
}


@dataclass(frozen=True)
class SourceImage:
    """One image as its source describes it."""

    name: str
    """The original name; it is kept apart from manifests."""
    class_name: str
    subject: str
    """The subject (patient) as the source names it; empty when each image is its own."""
    split: str
    """The user's own split: "train", "validation", "test", or empty."""
    attributes: dict[str, str]
    read: Callable[[], bytes]
    """Read the encoded image."""


@dataclass(frozen=True)
class ImportOptions:
    """What to read; the fields are those of `ImportSpec` in run.proto."""

    format: str
    """digits, folder, csv or odir."""
    images: str = ""
    """Folder of the images."""
    csv: str = ""
    """Table of the images."""
    keep: Mapping[str, int] = field(default_factory=dict)
    """digits: images to keep per class."""
    subject_regex: str = ""
    """folder: a regular expression whose first group is the subject, searched in the file's name."""
    filename_column: str = "filename"
    class_column: str = "label"
    subject_column: str = ""
    split_column: str = ""


def open_source(options: ImportOptions) -> Iterator[SourceImage]:
    """Read the images that `options` describe, in the source's order.

    Raises:
        InvalidArgument: the format or an option is unknown to it, or the source is not as it should be: a folder, table
            or column is missing, rows have no image, there are no images.
    """
    if options.format not in FORMATS:
        near = difflib.get_close_matches(options.format, FORMATS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InvalidArgument(
            f"format: {options.format!r} is not one of {', '.join(FORMATS)}{hint}", reason="UNKNOWN_FORMAT"
        )
    _check_used(options)
    module = import_module(f"{__name__}.{options.format}")
    return cast("Iterator[SourceImage]", module.read(options))


def _check_used(options: ImportOptions) -> None:
    defaults = ImportOptions(options.format)
    for name, value in vars(options).items():
        if name != "format" and value != getattr(defaults, name) and name not in _USED[options.format]:
            raise InvalidArgument(
                f"{name}: means nothing to format {options.format}; leave it out", reason="BAD_OPTION"
            )
