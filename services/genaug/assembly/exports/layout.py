"""Interface of export layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from genaug.shared.manifest import Row


@dataclass(frozen=True)
class File:
    """A whole file of an export."""

    path: str
    """Path below the export's folder, with forward slashes."""
    data: bytes


@dataclass(frozen=True)
class ExportLayout:
    """Arrangement of a version's images and tables."""

    folder: Callable[[Row], str]
    """Folder of a row's image, below the export's; it is called for every row before anything is sent."""
    tables: Callable[[Sequence[tuple[Row, str]]], Iterable[File]]
    """Files that follow the images, from each row and its image's file name."""
