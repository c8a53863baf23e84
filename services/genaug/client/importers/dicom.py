"""DICOM files as images: facts of their headers, and their pixels without anything else.

A file's header names the patient. Only pixel values leave this module, a digest of the PatientID as the subject, and
the window of values that the file proposes.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, TYPE_CHECKING, Any

from genaug.client.importers import SourceReport
from genaug.client.importers.arrays import MAX_PIXELS, to_tiff
from genaug.schema.run import ImportSpec
from genaug.shared.errors import FailedPrecondition

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HEADER = [
    "SOPClassUID",
    "PatientID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "WindowCenter",
    "WindowWidth",
    "BurnedInAnnotation",
]
# Its content is compressed as a whole: a small file could take any amount of memory.
_DEFLATED = b"1.2.840.10008.1.2.1.99"


@dataclass(frozen=True)
class DicomHeader:
    """Facts of a DICOM file that decide how it is imported."""

    problem: str = ""
    """Why it is not read; empty if it is."""
    subject: str = ""
    """Digest of the PatientID; empty if there is none."""
    window: tuple[float, float] | None = None
    """Values that map to black and white, as the file proposes them, in the values that `dicom_to_tiff` writes."""
    burned_in: bool = False
    """Whether the file declares annotations in its pixels, such as the patient's name."""


def read_header(file: IO[bytes]) -> DicomHeader:
    """Read the header of a DICOM file.

    Raises:
        FailedPrecondition: pydicom is not installed.
    """
    _pydicom()
    try:
        return _header(*_parse(file, stop_before_pixels=True, specific_tags=_HEADER))
    except Exception as error:
        # Damaged files raise almost anything.
        return DicomHeader(str(error) if isinstance(error, _Deflated) else "damaged")


def dicom_to_tiff(file: IO[bytes]) -> bytes:
    """Encode the pixels of a DICOM file as TIFF, and nothing else of it.

    Grey values are those of the modality (Hounsfield units of a CT), larger is brighter: MONOCHROME1 is inverted.
    Palettes and YBR become 8-bit RGB. The file's own window is not applied.

    Raises:
        ValueError: it is no single image. Damaged files raise almost anything.
        FailedPrecondition: pydicom is not installed.
    """
    pydicom = _pydicom()
    dataset, syntax = _parse(file)
    if problem := _header(dataset, syntax).problem:
        raise ValueError(problem)
    with warnings.catch_warnings():
        # Warnings about damaged pixels: the import counts images that cannot be decoded.
        warnings.simplefilter("ignore")
        values = pydicom.pixels.pixel_array(dataset)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        values = pydicom.pixels.apply_color_lut(values, dataset)[:, :, :3]
        # Palettes of 16 bits span all of them.
        return to_tiff((values >> 8 if values.dtype.itemsize == 2 else values).astype("uint8"))
    return to_tiff(values if values.ndim == 3 else _grey(values, dataset))


def remark(headers: Iterable[DicomHeader], spec: ImportSpec, report: SourceReport) -> None:
    """Add notes on a source's DICOM files to the report: windows that they propose, burned-in text.

    Args:
        headers: Of the files that are imported.
        spec: The import; a window or bits given in it need no remark.
        report: Receives the remarks.
    """
    headers = list(headers)
    windows = Counter(header.window for header in headers)
    if windows and not spec.window and not spec.bits:
        if len(windows) > 1:
            report.notes.append(
                f"the {len(headers)} DICOM files propose {len(windows)} different windows; none is applied"
            )
        elif window := next(iter(windows)):
            low, high = window
            report.notes.append(
                f"all {len(headers)} DICOM files propose one window (WindowCenter, WindowWidth), which is not applied; "
                f"--window={low:g},{high:g} applies it"
            )
    burned = sum(header.burned_in for header in headers)
    if burned:
        report.notes.append(
            f"{burned} DICOM files declare annotations in their pixels (BurnedInAnnotation), which may show names"
        )


class _Deflated(ValueError):
    """The file's transfer syntax compresses it as a whole."""


def _parse(file: IO[bytes], **options: Any) -> tuple[Any, str]:
    """Read a file with options of `pydicom.dcmread`; return the data set and the UID of its transfer syntax."""
    pydicom = _pydicom()
    with warnings.catch_warnings():
        # Values that break the standard's rules are common, and matter to none of the tags that are used.
        warnings.simplefilter("ignore")
        if _is_deflated(file):
            raise _Deflated("deflated transfer syntax; write it uncompressed")
        file.seek(0)
        dataset = pydicom.dcmread(file, force=True, **options)
    if "TransferSyntaxUID" not in dataset.file_meta:
        # Files of before the standard's file format, without a preamble.
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    return dataset, str(dataset.file_meta.TransferSyntaxUID)


def _is_deflated(file: Any) -> bool:
    """Whether the file meta information, however long, names the deflated syntax: `dcmread` would inflate all of it."""
    from pydicom import filereader

    # Implicit value representations break the standard, and pydicom reads them all the same.
    for implicit in (False, True):
        file.seek(0)
        filereader.read_preamble(file, force=True)
        meta = filereader.read_dataset(file, implicit, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
        element = meta.get_item("TransferSyntaxUID")
        if element is not None:
            return _DEFLATED in (element.value or b"")
    return False


def _header(dataset: Any, syntax: str) -> DicomHeader:
    return DicomHeader(
        _problem(dataset, syntax),
        _subject(str(dataset.get("PatientID") or "").strip()),
        _window(dataset),
        dataset.get("BurnedInAnnotation") == "YES",
    )


def _subject(patient_id: str) -> str:
    # Original subjects are kept below `restricted/`. A PatientID must not be, since nobody chose to import it.
    return sha256(f"genaug/patient-id/{patient_id}".encode()).hexdigest()[:32] if patient_id else ""


def _problem(dataset: Any, syntax: str) -> str:
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if not rows * columns or not dataset.get("BitsAllocated") or not dataset.get("PhotometricInterpretation"):
        return "no pixels"
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        return "several frames"
    if rows * columns > MAX_PIXELS:
        return f"more than {MAX_PIXELS} pixels"
    if int(dataset.get("SamplesPerPixel") or 1) > 1 and int(dataset.BitsAllocated) > 8:
        return "color of more than 8 bits"
    return _undecodable(syntax)


def _undecodable(syntax: str) -> str:
    """Return why pixels of a transfer syntax cannot be decoded here; empty if they can."""
    pydicom = _pydicom()
    uid = pydicom.uid.UID(syntax)
    try:
        decodable = pydicom.pixels.get_decoder(uid).is_available
    # Raised by pydicom for a transfer syntax that it has no decoder class for.
    except NotImplementedError:
        return f"transfer syntax {uid.name}"
    return "" if decodable else f"{uid.name.split(',')[0]} needs a decoder (pip install python-gdcm)"


def _window(dataset: Any) -> tuple[float, float] | None:
    centers, widths = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centers is None or widths is None or widths <= 1:
        return None
    # The standard's LINEAR function, PS3.3 C.11.2.1.2.
    low, high = centers - widths / 2, centers + widths / 2 - 1
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        darkest, brightest = _range(dataset)
        low, high = darkest + brightest - high, darkest + brightest - low
    return low, high


def _first(value: Any) -> float | None:
    try:
        return None if value is None or value == "" else float(value if isinstance(value, (int, float)) else value[0])
    except (TypeError, ValueError, IndexError):
        return None


def _stored_range(dataset: Any) -> tuple[int, int]:
    bits = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    signed = int(dataset.get("PixelRepresentation") or 0)
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def _rescale(dataset: Any) -> tuple[float, float]:
    """Return slope and intercept of the modality's values; enhanced files have them in their functional groups."""
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for groups in dataset.get(name) or ():
            for entry in groups.get("PixelValueTransformationSequence") or ():
                dataset = entry
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    return 1.0 if slope is None else float(slope), float(intercept or 0)


def _range(dataset: Any) -> tuple[float, float]:
    """Return the lowest and highest value that the modality's values can have."""
    if dataset.get("ModalityLUTSequence"):
        return 0, (1 << int(dataset.ModalityLUTSequence[0].LUTDescriptor[2])) - 1
    slope, intercept = _rescale(dataset)
    low, high = sorted(slope * value + intercept for value in _stored_range(dataset))
    return low, high


def _grey(stored: NDArray[Any], dataset: Any) -> NDArray[Any]:
    import numpy as np

    if stored.dtype.kind == "f":
        return stored
    slope, intercept = _rescale(dataset)
    low, high = _range(dataset)
    if dataset.get("ModalityLUTSequence"):
        values: NDArray[Any] = _pydicom().pixels.apply_modality_lut(stored, dataset)
    elif slope.is_integer() and intercept.is_integer():
        values = stored.astype(np.int64) * int(slope) + int(intercept)
    else:
        values = stored * slope + intercept
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = (int(low + high) if values.dtype.kind != "f" else low + high) - values
    return values.astype(_smallest(low, high, whole=values.dtype.kind != "f"))


def _smallest(low: float, high: float, *, whole: bool) -> str:
    """Return the type for values from `low` to `high`; it depends on the header alone, not on an image's own values."""
    if not whole:
        return "float32"
    if (low, high) == (0, 255):
        return "uint8"
    if low >= 0 and high < 1 << 16:
        return "uint16"
    return "int16" if low >= -(1 << 15) and high < 1 << 15 else "int64"


def _pydicom() -> Any:
    try:
        import pydicom
        import pydicom.pixels
    except ImportError:
        raise FailedPrecondition(
            "images: there are DICOM files, and reading them needs pydicom: pip install 'genaug[dicom]'",
            reason="NO_PYDICOM",
        ) from None
    return pydicom
