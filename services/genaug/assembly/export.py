"""Export of a version as files, in one of several layouts; sealed rows are never exported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from genaug.assembly.datasets import get_version, read_image, rows_key
from genaug.assembly.exports import EXPORTS
from genaug.assembly.exports.layout import ExportLayout, File
from genaug.assembly.import_plan import progress
from genaug.schema.common import Progress
from genaug.shared.digests import canonical_json, sha256
from genaug.shared.errors import Internal
from genaug.shared.manifest import Row, read_rows
from genaug.shared.store import Store

HEAD = "export.json"
"""First file: name and digest of the version, and the layout."""
SUMS = "SHA256SUMS"
"""Last file: the digest of every other, as `sha256sum --check` reads it."""

_READERS = 8
_STEP = 64
_SUFFIXES = (
    (b"\xff\xd8", "jpg"),
    (b"\x89PNG", "png"),
    (b"BM", "bmp"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
    (b"RIFF", "webp"),
)


def export_images(store: Store, dataset: str, version: str, layout: str) -> Iterator[Progress | File]:
    """Yield the files of a version, with progress: `HEAD`, the images, the layout's tables, `SUMS`.

    Args:
        store: The store, as "assembly".
        dataset: Id of the dataset.
        version: Id of the version.
        layout: Name in `EXPORTS`.

    Raises:
        NotFound: there is no such version.
        InvalidArgument: there is no such layout, or a class cannot be a folder's name.
        FailedPrecondition: an image is lost, or its bytes have another digest than its row.
    """
    arrangement = EXPORTS.get(layout, path="layout")
    record = get_version(store, dataset, version)
    rows = sorted(read_rows(store, rows_key(dataset, version)), key=lambda row: (row.split, row.image_id))
    if any(row.split == "test" for row in rows):
        raise Internal(f"{record.name} holds sealed rows")
    folders = [arrangement.folder(row) for row in rows]
    # Upper case as in exports of earlier releases: the client completes an export only if this file is the same.
    head = {"name": record.name, "digest": record.digest, "layout": layout.upper()}
    sums: list[str] = []
    for event in _files(store, rows, folders, File(HEAD, canonical_json(head) + b"\n"), arrangement):
        if isinstance(event, File):
            sums.append(f"{sha256(event.data)}  {event.path}\n")
        yield event
    yield File(SUMS, "".join(sums).encode())


def _files(
    store: Store, rows: Sequence[Row], folders: Sequence[str], head: File, layout: ExportLayout
) -> Iterator[Progress | File]:
    """Yield all files but the sums; images are read ahead on threads."""
    yield head
    names: list[str] = []
    with ThreadPoolExecutor(_READERS, thread_name_prefix="export") as pool:
        for start in range(0, len(rows), _STEP):
            part = rows[start : start + _STEP]
            for row, data in zip(part, pool.map(lambda row: read_image(store, row), part), strict=True):
                name = f"{row.image_id}.{_suffix(data)}"
                yield File(f"{folders[len(names)]}/{name}", data)
                names.append(name)
            yield progress("exporting", len(names), len(rows))
    yield from layout.tables(list(zip(rows, names, strict=True)))


def _suffix(data: bytes) -> str:
    return next((suffix for magic, suffix in _SUFFIXES if data.startswith(magic)), "img")
