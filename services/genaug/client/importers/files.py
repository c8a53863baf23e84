"""Files of images: which are read, and the bytes that the server is sent for each.

JPEG, PNG, TIFF and other formats that the server decodes are sent as they are. DICOM, NumPy's arrays and HEIC become
TIFF or PNG here. A file is recognised by its suffix, or, where that tells nothing, by its first bytes.
"""

from __future__ import annotations

import io
import mimetypes
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import IO

from genaug.client.importers import SourceReport
from genaug.client.importers.arrays import npy_problem, npy_to_tiff
from genaug.client.importers.dicom import DicomHeader, dicom_to_tiff, read_header, remark
from genaug.client.importers.walk import find_files
from genaug.client.uploads import LARGEST_BYTES
from genaug.schema.run import ImportSpec
from genaug.shared.errors import FailedPrecondition, InvalidArgument

Open = Callable[[], IO[bytes]]
"""Function that opens a file for reading."""

# By the formats that the server decodes. Pillow's own list would need Pillow here, and grows with its plugins.
_SENT_LIST = """
.jpg .jpeg .jpe .jfif .jif .mpo .png .apng .bmp .dib .tif .tiff .webp .gif .pbm .pgm .ppm .pnm
.jp2 .j2k .jpc .jpf .jpx .j2c .tga .icb .vda .vst .pcx .sgi .rgb .rgba .bw .avif .avifs
"""
_SENT = frozenset(_SENT_LIST.split())
_CONVERTED = {".dcm": "dicom", ".dicom": "dicom", ".npy": "npy", ".heic": "heif", ".heif": "heif", ".hif": "heif"}
SUFFIXES = _SENT | _CONVERTED.keys()
"""Suffixes of files that are read."""

# First bytes by format; ISO media files (AVIF, HEIC) say theirs at byte 4. Formats whose beginning proves little (TGA,
# PCX, BMP, PPM) must have a suffix.
_MAGIC = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"II*\0",
    b"MM\0*",
    b"GIF87a",
    b"GIF89a",
    b"\0\0\0\x0cjP  \r\n\x87\n",
    b"\xff\x4f\xff\x51",
)
_BRANDS = {
    b"avif": "image",
    b"avis": "image",
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), "heif"),
}
_HEAD = 132
# Suffixes that may be named to the server, beside those of MIME types: others may be a part of a name ("scan.Smith").
_NAMED_LIST = """
.npz .psd .xcf .raw .dng .cr2 .nef .arw .nii .mha .mhd .nrrd .mat .svs .ndpi .exr .hdr .ico .svg .db .log .md .yaml
.yml .gz .bz2 .xz .zip .7z .rar .tar .json .jsonl .csv .tsv .xml .txt .parquet .arrow .pkl .pt .pth .h5 .hdf5 .xlsx
.tmp .bak .lnk .mp4 .mov .avi
"""
_NAMED = frozenset(_NAMED_LIST.split())
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
# A converted file is read whole.
_MAX_CONVERTED = 1_000_000_000


@dataclass(frozen=True)
class ImageFile:
    """One file of a source: an image, or the reason why it is not read."""

    open: Open
    kind: str
    """ "image" (sent as it is), "dicom", "npy" or "heif"; empty if it is none of them."""
    problem: str = ""
    """Why it is not read, such as "no image" or "several frames"; empty if it is read."""
    recognised: bool = False
    """Whether its first bytes, not its suffix, tell the kind."""
    header: DicomHeader | None = None

    @property
    def subject(self) -> str:
        """Subject that the file itself names: the PatientID of a DICOM file; else empty."""
        return self.header.subject if self.header else ""

    def read(self) -> bytes:
        """Return the encoded image; empty, which the server counts as unreadable, if it cannot be converted.

        Raises:
            OSError: the file cannot be read.
        """
        with self.open() as file:
            if self.kind == "image":
                data = file.read(LARGEST_BYTES + 1)
                if len(data) > LARGEST_BYTES:
                    # An import refuses it, however long it is: the rest need not be read.
                    return data
            else:
                data = file.read()
        return _encode(data, self.kind)


def encoded(data: bytes) -> bytes:
    """Return the bytes that the server is sent for the content of a file without a name, as `ImageFile.read`."""
    return _encode(data, _sniff(data[:_HEAD]) or "image")


def _encode(data: bytes, kind: str) -> bytes:
    # A DICOM file under another suffix, or one that is a TIFF as well: its header must not leave this machine.
    if data[128:132] == b"DICM":
        kind = "dicom"
    if kind == "image":
        return data
    try:
        return _CONVERTERS[kind](io.BytesIO(data))
    except FailedPrecondition:
        raise
    except Exception:
        # Decoders of damaged files raise almost any exception, and each means the same.
        return b""


def identify(name: str, open: Open, *, size: int = 0) -> ImageFile:
    """Return the kind of the file `name`, by its suffix or its first bytes.

    DICOM and .npy files are opened for their headers.

    Args:
        name: Its name; the suffix counts.
        open: Opens it.
        size: Its bytes, if they are known.

    Raises:
        FailedPrecondition: it is a DICOM file, and pydicom is not installed.
        OSError: it cannot be read.
    """
    suffix = PurePath(name).suffix.lower()
    if suffix in _SENT:
        return ImageFile(open, "image")
    kind = _CONVERTED.get(suffix, "")
    recognised = not kind
    with open() as file:
        if recognised:
            kind = _sniff(file.read(_HEAD))
            file.seek(0)
        problem, header = "", None
        if size > _MAX_CONVERTED and kind not in ("", "image"):
            return ImageFile(open, kind, f"more than {_MAX_CONVERTED} bytes")
        if kind == "dicom":
            header = read_header(file)
            problem = header.problem
        elif kind == "npy":
            problem = npy_problem(file)
        elif kind == "heif" and find_spec("pillow_heif") is None:
            problem = "needs genaug[heic]"
        elif not kind:
            problem = "no image"
    return ImageFile(open, kind, problem, recognised, header)


def identify_path(path: Path) -> ImageFile:
    """Return the kind of the file at `path`, see `identify`. A file that cannot be opened has a problem."""
    try:
        return identify(path.name, partial(_open, path), size=path.stat().st_size)
    except OSError as error:
        return ImageFile(partial(_open, path), "", f"cannot be read ({error.strerror})")


def find_images(root: Path, spec: ImportSpec, report: SourceReport) -> list[tuple[Path, ImageFile]]:
    """Return the images below `root`, in the order of their paths. All other files are counted in the report.

    Raises:
        InvalidArgument: links leave the folder, or a folder cannot be read.
        FailedPrecondition: there are DICOM files, and pydicom is not installed.
    """
    images = []
    for path in find_files(root, report):
        file = identify_path(path)
        if file.problem:
            pass_over(path.name, file.problem, report)
        else:
            images.append((path, file))
    describe(((path.name, file) for path, file in images), spec, report)
    return images


def note_patient_ids(files: Sequence[ImageFile], report: SourceReport) -> None:
    """Add to the report that subjects are PatientIDs, if some of the files have one."""
    subjects = [file.subject for file in files if file.subject]
    if subjects:
        report.notes.append(
            f"subjects are the PatientID of {len(subjects)} DICOM files, {len(set(subjects))} different; "
            "--subject-regex takes them from the files' names instead"
        )


def find_archives(location: str, suffix: str, report: SourceReport) -> list[Path]:
    """Return the files with `suffix` at `location`, a file or a folder, in their order; others are counted.

    Raises:
        InvalidArgument: there are none, or compressed archives.
    """
    if not location:
        raise InvalidArgument(f"images: say which {suffix} file, or folder of them (--images)", reason="NO_FOLDER")
    root = Path(location).expanduser()
    if not root.exists():
        raise InvalidArgument(f"images: there is no {root}", reason="NO_SUCH_FILE")
    if not root.is_dir() and not root.is_file():
        # A pipe would be waited for.
        raise InvalidArgument(f"images: {root} is no file, but a pipe or a device", reason="NO_SUCH_FILE")
    files = find_files(root, report) if root.is_dir() else [root]
    compressed = [file.name for file in files if file.name.lower().endswith(_COMPRESSED)]
    if compressed and suffix == ".tar":
        raise InvalidArgument(
            f"images: {len(compressed)} archives are compressed ({', '.join(compressed[:3])}), so that images in them "
            "cannot be read singly; decompress them (gunzip), and leave them as .tar",
            reason="COMPRESSED_ARCHIVE",
        )
    if not root.is_dir():
        return files
    archives = [file for file in files if file.suffix.lower() == suffix]
    for file in files:
        if file.suffix.lower() != suffix:
            pass_over(file.name, f"no {suffix} file", report)
    if not archives:
        raise InvalidArgument(f"images: no {suffix} files below {root}", reason="NO_IMAGES")
    return archives


def pass_over(name: str, problem: str, report: SourceReport) -> None:
    """Count a file that is not read, by suffix and reason."""
    report.passed_over[f"{_shown_suffix(name)}: {problem}"] += 1


def describe(files: Iterable[tuple[str, ImageFile]], spec: ImportSpec, report: SourceReport) -> None:
    """Add to the report how the files that are read, given by name, were recognised, and what DICOM files say."""
    recognised: Counter[str] = Counter()
    headers = []
    for name, file in files:
        if file.recognised:
            recognised[_shown_suffix(name)] += 1
        if file.header:
            headers.append(file.header)
    if recognised:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(recognised.items()))
        report.notes.append(f"{recognised.total()} files are images by their first bytes: {counts}")
    remark(headers, spec, report)


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")


def has_image(path: Path) -> bool:
    """Whether the first bytes of a file are those of an image that is read."""
    try:
        with path.open("rb") as file:
            return bool(_sniff(file.read(_HEAD)))
    except OSError:
        return False


def _shown_suffix(name: str) -> str:
    suffixes = [suffix.lower() for suffix in PurePath(name).suffixes[-2:]]
    if not suffixes:
        return "without suffix"
    if not _may_be_named(suffixes[-1]):
        return "other suffix"
    return "".join(suffixes) if suffixes[-1] == ".gz" and _may_be_named(suffixes[0]) else suffixes[-1]


def _may_be_named(suffix: str) -> bool:
    return suffix in _NAMED or suffix in SUFFIXES or suffix in mimetypes.types_map


def _sniff(head: bytes) -> str:
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "")
    is_webp = head.startswith(b"RIFF") and head[8:12] == b"WEBP"
    return "image" if is_webp or head.startswith(_MAGIC) else ""


def _heif_to_png(file: IO[bytes]) -> bytes:
    import pillow_heif

    sink = io.BytesIO()
    image = pillow_heif.open_heif(file).to_pillow()
    # EXIF and XMP stay behind; the orientation is applied already.
    image.info.clear()
    image.save(sink, "PNG", compress_level=1)
    return sink.getvalue()


_CONVERTERS: dict[str, Callable[[IO[bytes]], bytes]] = {
    "dicom": dicom_to_tiff,
    "npy": npy_to_tiff,
    "heif": _heif_to_png,
}
