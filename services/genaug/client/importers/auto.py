"""Format "auto": the format that a source looks like."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePath

from genaug.client.importers import SourceReport
from genaug.client.importers.files import SUFFIXES
from genaug.client.importers.imagefolder import METADATA
from genaug.client.importers.walk import find_files
from genaug.schema.run import ImportSpec
from genaug.shared.errors import InvalidArgument

# Formats of a single file, by suffix.
_BY_SUFFIX = {".npz": "npz", ".parquet": "parquet", ".tar": "webdataset"}
_TABLES = (".csv", ".tsv", ".xlsx")
_ODIR = "Left-Diagnostic Keywords"
_HEAD_BYTES = 4096


def guess(spec: ImportSpec, report: SourceReport) -> ImportSpec:
    """Return the import with the format, and the table, that its source looks like; the report says which, and why.

    Raises:
        InvalidArgument: nothing is given, it looks like no format, or like several.
    """
    if spec.csv:
        is_odir = _ODIR in _head(Path(spec.csv).expanduser())
        reason = f"the table has the columns of ODIR-5K ({_ODIR})" if is_odir else "a table is given"
        return _choose(spec, report, "odir" if is_odir else "csv", reason)
    if not spec.images:
        raise InvalidArgument("images: auto needs a folder or a file, or a table (csv)", reason="NO_FOLDER")
    root = Path(spec.images).expanduser()
    if root.is_file():
        return _guess_file(spec, root, report)
    if not root.is_dir():
        raise InvalidArgument(f"images: there is no {root}", reason="NO_SUCH_FILE")
    # The reader reports on the files once more.
    paths = [path.relative_to(root) for path in find_files(root, SourceReport())]
    candidates = _candidates(paths)
    if len(candidates) != 1:
        listed = "; or ".join(f"--format {format}: {reason}" for format, reason in candidates.items())
        raise InvalidArgument(
            f"format: {root} looks like {f'several formats; say which: {listed}' if listed else 'no format: it holds'}"
            f"{'' if listed else ' ' + (_counts(paths) or 'no files')}",
            reason="AMBIGUOUS_FORMAT" if listed else "NO_FORMAT",
        )
    format, reason = next(iter(candidates.items()))
    if format == "csv":
        tables = [path for path in paths if path.suffix.lower() in _TABLES]
        spec = spec.replace(csv=str(root / tables[0]))
    return _choose(spec, report, format, reason)


def _guess_file(spec: ImportSpec, path: Path, report: SourceReport) -> ImportSpec:
    format = _BY_SUFFIX.get(path.suffix.lower())
    if format:
        return _choose(spec, report, format, f"{path.name} is a {path.suffix.lower()} file")
    if path.suffix.lower() in _TABLES:
        raise InvalidArgument(
            f"images: {path} is a table; give it with --csv, and the images' folder with --images", reason="NO_FORMAT"
        )
    raise InvalidArgument(
        f"format: {path.name} is of no format that is read; unpack it if it is an archive, and give the folder",
        reason="NO_FORMAT",
    )


def _choose(spec: ImportSpec, report: SourceReport, format: str, reason: str) -> ImportSpec:
    report.notes.append(f"format {format}: {reason}")
    return spec.replace(format=format)


def _candidates(paths: list[Path]) -> dict[str, str]:
    """Return the formats that a folder with these files may have, and why."""
    suffixes = Counter(path.suffix.lower() for path in paths)
    candidates = {
        format: f"{suffixes[suffix]} {suffix} files" for suffix, format in _BY_SUFFIX.items() if suffixes[suffix]
    }
    images = [path for path in paths if path.suffix.lower() in SUFFIXES - {".npy"}]
    arrays = [path for path in paths if path.suffix.lower() == ".npy"]
    metadata = [path for path in paths if path.name.lower() in METADATA]
    tables = [path for path in paths if path.suffix.lower() in _TABLES and path not in metadata]
    folders = {path.parts[0] for path in images or arrays if len(path.parts) > 1}
    flat = sum(len(path.parts) == 1 for path in images)
    if images and metadata:
        candidates["imagefolder"] = f"{len(images)} images and {metadata[0].as_posix()}"
    elif images and tables and (flat or len(folders) == 1):
        # Images that no folder sorts into classes.
        if len(tables) == 1:
            candidates["csv"] = f"{len(images)} images and the table {tables[0].as_posix()}"
        else:
            names = ", ".join(table.as_posix() for table in tables[:3])
            candidates["csv"] = f"{len(images)} images and {len(tables)} tables ({names}); name one with --csv"
            candidates["folder"] = f"{len(images)} images"
    elif folders:
        candidates["folder"] = f"{len(images or arrays)} images in {len(folders)} folders"
        if tables:
            candidates["csv"] = f"the table {tables[0].as_posix()}, with --csv"
    elif arrays:
        candidates["npz"] = f"{len(arrays)} .npy files"
    return candidates


def _counts(paths: list[Path]) -> str:
    counts = Counter(path.suffix.lower() or "without suffix" for path in paths)
    return ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(5))


def _head(path: PurePath) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(_HEAD_BYTES).decode("utf-8", "replace")
    except OSError:
        # The reader says what is wrong with it.
        return ""
