"""Walk of a source folder: every file once, links only where they stay inside."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

from genaug.client.importers import SourceReport
from genaug.client.importers.escape import readable
from genaug.shared.errors import InvalidArgument

_SHOWN = 3
# Left behind by desktops, archivers and network drives; compared in lower case. Hidden files are passed over as well.
_LITTER = frozenset(
    {
        "__macosx",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "@eadir",
        "$recycle.bin",
        "system volume information",
        "icon\r",
    }
)


def find_files(root: Path, report: SourceReport) -> list[Path]:
    """Return all files below `root`, in the order of their paths.

    Links to files and folders inside `root` are followed, a folder once: no loop, and no folder under two names. Hidden
    files and litter such as Thumbs.db are left out; broken links and special files are counted in the report.

    Raises:
        InvalidArgument: links leave the folder, or a folder cannot be read.
    """
    inside = Path(os.path.realpath(root))
    files: list[Path] = []
    leaving: list[Path] = []
    seen: set[str] = set()
    folders, links = deque([root]), deque[Path]()
    # Links come last, so that a folder is known by its own name, not by that of a link to it.
    while folders or links:
        if not folders:
            link = links.popleft()
            if not stays_inside(link, inside):
                leaving.append(link)
            elif link.is_dir():
                folders.append(link)
            elif link.is_file():
                files.append(link)
            else:
                report.passed_over["broken link"] += 1
            continue
        folder = folders.popleft()
        real = os.path.realpath(folder)
        if real in seen:
            report.notes.append(
                f"link {readable(str(folder.relative_to(root)))}: its folder is read under its own name"
            )
            continue
        seen.add(real)
        for entry in _entries(folder):
            path = folder / entry.name
            if entry.is_symlink():
                links.append(path)
            elif entry.is_dir():
                folders.append(path)
            elif entry.is_file():
                files.append(path)
            else:
                report.passed_over["special file"] += 1
    _refuse(leaving, root)
    return sorted(files)


def stays_inside(path: Path, folder: Path) -> bool:
    """Return whether `path`, with all links resolved, lies in `folder`, which is resolved already."""
    return Path(os.path.realpath(path)).is_relative_to(folder)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not _is_litter(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise InvalidArgument(
            f"images: the folder {readable(str(folder))} cannot be read ({error.strerror})", reason="UNREADABLE_SOURCE"
        ) from None


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER


def _refuse(leaving: list[Path], root: Path) -> None:
    if not leaving:
        return
    shown = ", ".join(readable(str(link.relative_to(root))) for link in sorted(leaving)[:_SHOWN])
    more = ", …" if len(leaving) > _SHOWN else ""
    noun = "link leaves" if len(leaving) == 1 else "links leave"
    raise InvalidArgument(
        f"images: {len(leaving)} {noun} the folder {root} ({shown}{more}); copy the files (cp -rL), or give the folder "
        "that holds them too",
        reason="LINK_LEAVES_FOLDER",
    )
