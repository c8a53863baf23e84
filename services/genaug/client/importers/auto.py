"""Format "auto": the format that a source looks like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genaug.client.importers import SourceReport
from genaug.client.importers.files import SUFFIXES, has_image
from genaug.client.importers.imagefolder import METADATA
from genaug.client.importers.walk import find_files
from genaug.schema.run import ImportSpec
from genaug.shared.errors import InvalidArgument

# Formats of a single file, by suffix.
_BY_SUFFIX = {".npz": "npz", ".parquet": "parquet", ".tar": "webdataset"}
_TABLES = (".csv", ".tsv", ".xlsx")
_ODIR = "Left-Diagnostic Keywords"
_HEAD_BYTES = 4096
_SHOWN = 5


@dataclass(frozen=True)
class _Candidate:
    """A format that a source may have."""

    format: str
    reason: str
    table: str = ""
    """The table to read, below the folder; only of format "csv"."""

    def __str__(self) -> str:
        return f"--format {self.format}{f' --csv {self.table}' if self.table else ''} ({self.reason})"


def guess(spec: ImportSpec, report: SourceReport) -> ImportSpec:
    """Return the import with the format, and the table, that its source looks like; the report says which, and why.

    Raises:
        InvalidArgument: nothing is given, it looks like no format, or like several.
    """
    if spec.csv:
        is_odir = _ODIR in _head(Path(spec.csv).expanduser())
        reason = f"the table has the columns of ODIR-5K ({_ODIR})" if is_odir else "a table is given"
        return _choose(spec, report, _Candidate("odir" if is_odir else "csv", reason))
    if not spec.images:
        raise InvalidArgument("images: auto needs a folder or a file, or a table (csv)", reason="NO_FOLDER")
    root = Path(spec.images).expanduser()
    if root.is_file():
        return _choose(spec, report, _of_file(root))
    if not root.is_dir():
        raise InvalidArgument(f"images: there is no {root}", reason="NO_SUCH_FILE")
    # The reader reports on the files once more.
    paths = [path.relative_to(root) for path in find_files(root, SourceReport())]
    images = [path for path in paths if path.suffix.lower() in SUFFIXES]
    # Others are opened only where there are none, as in exports from archives of radiology, without suffixes.
    images = images or [path for path in paths if path.suffix.lower() not in _BY_SUFFIX and has_image(root / path)]
    candidates = _candidates(paths, images)
    if len(candidates) > 1:
        raise InvalidArgument(
            f"format: {root} looks like several formats; choose {', or '.join(map(str, candidates[:_SHOWN]))}",
            reason="AMBIGUOUS_FORMAT",
        )
    if not candidates:
        counts = Counter(path.suffix.lower() or "without suffix" for path in paths)
        listed = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(_SHOWN)) or "no files"
        below = f", such as those of {root / images[0].parts[0]}" if images and len(images[0].parts) > 2 else ""
        hint = f"; images need a folder per class{below}, or a table (--csv)" if images else ""
        raise InvalidArgument(f"format: {root} looks like no format: it holds {listed}{hint}", reason="NO_FORMAT")
    chosen = candidates[0]
    return _choose(spec.replace(csv=str(root / chosen.table)) if chosen.table else spec, report, chosen)


def _of_file(path: Path) -> _Candidate:
    suffix = path.suffix.lower()
    if suffix in _BY_SUFFIX:
        return _Candidate(_BY_SUFFIX[suffix], f"{path.name} is a {suffix} file")
    if suffix in _TABLES:
        raise InvalidArgument(
            f"images: {path} is a table; give it with --csv, and the images' folder with --images", reason="NO_FORMAT"
        )
    raise InvalidArgument(
        f"format: {path.name} is of no format that is read; unpack it if it is an archive, and give the folder",
        reason="NO_FORMAT",
    )


def _choose(spec: ImportSpec, report: SourceReport, candidate: _Candidate) -> ImportSpec:
    report.notes.append(f"format {candidate.format}: {candidate.reason}")
    return spec.replace(format=candidate.format)


def _candidates(paths: Sequence[Path], images: Sequence[Path]) -> list[_Candidate]:
    """Return the formats that a folder with these files, some of them images, may have."""
    suffixes = Counter(path.suffix.lower() for path in paths)
    archives = [
        _Candidate(format, f"{suffixes[suffix]} {suffix} files")
        for suffix, format in _BY_SUFFIX.items()
        if suffixes[suffix]
    ]
    if not images:
        return archives
    count = f"{len(images)} images"
    flat = [path for path in images if len(path.parts) == 1]
    if flat and all(path.suffix.lower() == ".npy" for path in images):
        return [*archives, _Candidate("npz", f"{len(images)} .npy files")]
    metadata = [path for path in paths if path.name.lower() in METADATA]
    if metadata:
        return [*archives, _Candidate("imagefolder", f"{count} and {metadata[0].as_posix()}")]
    tables = [
        _Candidate("csv", f"{count} and the table {path.as_posix()}", path.as_posix())
        for path in paths
        if path.suffix.lower() in _TABLES
    ]
    folders = {path.parts[0] for path in images if len(path.parts) > 1}
    # A table tells the classes of images in one folder; beside several folders, it may be about something else.
    by_folder = [_Candidate("folder", f"{count} in {len(folders)} folders")] if len(folders) > 1 else []
    return [*archives, *by_folder, *tables]


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES).decode("utf-8", "replace")
    except OSError:
        # The reader says what is wrong with it.
        return ""
