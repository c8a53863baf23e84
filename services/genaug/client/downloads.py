"""Writing of exports: atomic files below one folder, verified against their digests."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import groupby
from pathlib import Path, PurePosixPath

from genaug.shared.errors import FailedPrecondition, Internal, ResourceExhausted

_HEAD = "export.json"
_SUMS = "SHA256SUMS"


def write_export(pieces: Iterable[tuple[str, bytes]], folder: Path) -> int:
    """Write an export below `folder`, which is empty or holds a part of the same export; its files are kept.

    Args:
        pieces: Pairs (path, next bytes), grouped by path: export.json first, SHA256SUMS last.
        folder: Created if it does not exist.

    Returns:
        The number of files of the export.

    Raises:
        FailedPrecondition: reason FOLDER_NOT_EMPTY or NOT_WRITABLE.
        ResourceExhausted: reason DISK_FULL.
        Internal: reason BAD_EXPORT; a path outside the folder or sent twice, or content that differs from its digest.
    """
    digests: dict[str, str] = {}
    expected: dict[str, str] = {}
    for path, data in _files(pieces):
        target = _target(folder, path)
        if path in digests or (path == _HEAD) != (not digests) or _SUMS in digests:
            raise _broken("files in a wrong order")
        if path == _HEAD:
            _check_folder(folder, target, data)
        if path == _SUMS:
            expected = _parse(data)
        digests[path] = sha256(data).hexdigest()
        _write(target, data)
    if digests.pop(_SUMS, "") == "" or digests != expected:
        raise _broken("files with other digests than it says, or not all of them")
    return len(digests) + 1


def _files(pieces: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    for path, group in groupby(pieces, key=lambda piece: piece[0]):
        yield path, b"".join(data for _, data in group)


def _target(folder: Path, path: str) -> Path:
    """Return the file for `path`, which is not trusted to stay within `folder`."""
    parts = PurePosixPath(path).parts
    plain = path == "/".join(parts) and not any(part in ("..", "/") or set(part) & set("\\:\0") for part in parts)
    target = folder.joinpath(*parts) if parts and plain else folder
    # A symbolic link in the folder may point out of it.
    if not plain or not parts or not target.resolve().is_relative_to(folder.resolve()):
        raise _broken("a path that leads out of the folder")
    return target


def _check_folder(folder: Path, head: Path, data: bytes) -> None:
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        same = taken and head.is_file() and head.read_bytes() == data
    except OSError as error:
        raise FailedPrecondition(f"{folder}: cannot be read ({error.strerror})", reason="NOT_WRITABLE") from None
    if taken and not same:
        name = json.loads(data)["name"]
        raise FailedPrecondition(
            f"{folder}: not empty, and not an export of {name} in this layout; name an empty folder",
            reason="FOLDER_NOT_EMPTY",
        )


def _write(target: Path, data: bytes) -> None:
    """Write a file atomically, unless it exists with this content."""
    part = target.with_name(f".{target.name}.part")
    try:
        if target.is_file() and target.stat().st_size == len(data) and target.read_bytes() == data:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        os.replace(part, target)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ResourceExhausted(
                "the disk is full; free space and export into the same folder again", reason="DISK_FULL"
            ) from None
        raise FailedPrecondition(
            f"{target.parent}: cannot be written ({error.strerror}); choose a folder you may write",
            reason="NOT_WRITABLE",
        ) from None


def _parse(data: bytes) -> dict[str, str]:
    lines = [line.split("  ", 1) for line in data.decode(errors="replace").splitlines()]
    if any(len(line) != 2 for line in lines):
        raise _broken("digests that are none")
    return {path: digest for digest, path in lines}


def _broken(what: str) -> Internal:
    return Internal(f"the server sent {what}; nothing more was written", reason="BAD_EXPORT")
