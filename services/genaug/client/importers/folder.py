"""Importer "folder": one folder per class, with images at any depth below it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from genaug.client.importers import SourceImage, SourceReport
from genaug.client.importers.table import check_folder
from genaug.schema.run import ImportSpec
from genaug.shared.errors import InvalidArgument

# More than can be decoded: the server lists an unreadable image as dropped, while other files are passed over silently.
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".jp2", ".heic", ".avif"}
)


def read(spec: ImportSpec, report: SourceReport) -> Iterator[SourceImage]:
    """Yield the images below each class's folder, in the order of their paths.

    Hidden files and folders, and files with a suffix that is not in `SUFFIXES`, are passed over.

    Raises:
        InvalidArgument: the folder is missing or holds no images, images lie beside the class folders, or the regular
            expression is wrong, has no group, or does not match every file's name.
    """
    root = check_folder(spec.images)
    pattern = _compile(spec.subject_regex)
    images = [path for path in sorted(root.rglob("*")) if _is_image(path, root)]
    if not images:
        raise InvalidArgument(f"images: no images below {root}; it needs a folder per class", reason="NO_IMAGES")
    misplaced = sum(path.parent == root for path in images)
    if misplaced:
        raise InvalidArgument(
            f"images: {misplaced} images lie in {root} itself; each belongs into its class's folder", reason="NO_CLASS"
        )
    subjects = _subjects(images, pattern)
    for path, subject in zip(images, subjects, strict=True):
        relative = path.relative_to(root)
        yield SourceImage(relative.as_posix(), relative.parts[0], subject, "", {}, partial(Path.read_bytes, path))


def _is_image(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return not hidden and path.suffix.lower() in SUFFIXES and path.is_file()


def _compile(regex: str) -> re.Pattern[str] | None:
    if not regex:
        return None
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise InvalidArgument(f"subject_regex: {error}", reason="BAD_REGEX") from None
    if not pattern.groups:
        raise InvalidArgument("subject_regex: put the subject's part in (parentheses)", reason="BAD_REGEX")
    return pattern


def _subjects(paths: list[Path], pattern: re.Pattern[str] | None) -> list[str]:
    if pattern is None:
        return [""] * len(paths)
    matches = [pattern.search(path.name) for path in paths]
    subjects = [match.group(1) or "" if match else "" for match in matches]
    missing = subjects.count("")
    if missing:
        raise InvalidArgument(
            f"subject_regex: finds no subject in {missing} of {len(paths)} file names", reason="NO_SUBJECT"
        )
    return subjects
