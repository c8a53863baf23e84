"""A version as files: folders by class, or the published study's table beside its images; never sealed rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from genaug.assembly.datasets import get_version, read_image, rows_key
from genaug.assembly.source import Progress
from genaug.shared.digests import canonical_json, sha256
from genaug.shared.errors import Internal, InvalidArgument
from genaug.shared.manifest import Row, read_rows
from genaug.shared.store import Store

Layout = Literal["FOLDERS", "CSV"]

HEAD = "export.json"
"""The first file: what is exported."""
SUMS = "SHA256SUMS"
"""The last file: the digest of every other, as `sha256sum --check` reads it."""

_READERS = 8
_STEP = 64
_LONGEST = 200
_ENDINGS = (
    (b"\xff\xd8", "jpg"),
    (b"\x89PNG", "png"),
    (b"BM", "bmp"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
    (b"RIFF", "webp"),
)


@dataclass(frozen=True)
class File:
    """A whole file of the export."""

    path: str
    """Below the export's folder, with forward slashes."""
    data: bytes


def export_images(store: Store, dataset: str, version: str, layout: Layout) -> Iterator[Progress | File]:
    """Yield the files of a version, with progress: `HEAD`, the images, the tables, `SUMS`.

    FOLDERS: <split>/<class>/<image id>.<ending>, as torchvision's ImageFolder reads each split. CSV:
    images/<image id>.<ending>, train.csv and validation.csv with the columns filename,labels.

    Raises:
        NotFound: there is no such version.
        InvalidArgument: a class cannot be a folder's name.
        FailedPrecondition: an image is lost or has other bytes than its row says.
    """
    record = get_version(store, dataset, version)
    rows = sorted(read_rows(store, rows_key(dataset, version)), key=lambda row: (row.split, row.image_id))
    if any(row.split == "test" for row in rows):
        raise Internal(f"{record['name']} holds sealed rows")
    folders = (
        {name: folder_of(name) for name in sorted({row.class_name for row in rows})} if layout == "FOLDERS" else {}
    )
    head = File(HEAD, canonical_json({"name": record["name"], "digest": record["digest"], "layout": layout}) + b"\n")
    sums = [_sum(head)]
    yield head
    names: list[str] = []
    with ThreadPoolExecutor(_READERS, thread_name_prefix="export") as pool:
        for start in range(0, len(rows), _STEP):
            part = rows[start : start + _STEP]
            for row, data in zip(part, pool.map(lambda row: read_image(store, row), part), strict=True):
                names.append(f"{row.image_id}.{_ending(data)}")
                folder = f"{row.split}/{folders[row.class_name]}" if layout == "FOLDERS" else "images"
                file = File(f"{folder}/{names[-1]}", data)
                sums.append(_sum(file))
                yield file
            yield Progress("exporting", len(names), len(rows))
    if layout == "CSV":
        for split in ("train", "validation"):
            file = File(f"{split}.csv", _table([(n, r) for n, r in zip(names, rows, strict=True) if r.split == split]))
            sums.append(_sum(file))
            yield file
    yield File(SUMS, "".join(sums).encode())


def folder_of(class_name: str) -> str:
    """A folder's name for a class; `urllib.parse.unquote` gives the class back.

    Letters, digits, blanks and "_.-~" stay, all else is percent-encoded, and so are dots at either end.

    Raises:
        InvalidArgument: it would be longer than file systems allow.
    """
    name = quote(class_name, safe=" ")
    for strip in (str.lstrip, str.rstrip):
        inner = strip(name, ".")
        dots = "%2E" * (len(name) - len(inner))
        name = dots + inner if strip is str.lstrip else inner + dots
    if len(name) > _LONGEST:
        raise InvalidArgument(
            f"class {class_name[:40]!r}…: too long for a folder's name; export with the layout CSV",
            reason="CLASS_NOT_A_FOLDER",
        )
    return name


def _ending(data: bytes) -> str:
    return next((ending for magic, ending in _ENDINGS if data.startswith(magic)), "img")


def _sum(file: File) -> str:
    return f"{sha256(file.data)}  {file.path}\n"


def _table(rows: Sequence[tuple[str, Row]]) -> bytes:
    """The table of one split; labels are written as a Python list of one text: ['C']."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(("filename", "labels"))
    writer.writerows((name, repr([row.class_name])) for name, row in rows)
    return sink.getvalue().encode()
