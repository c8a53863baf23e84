"""Small sources of every kind, made for tests."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset

from genaug.client.importers import Source, SourceImage, open_source
from genaug.schema.run import ImportSpec

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def pixels(seed: int, *, side: int = 16, top: int = 256, dtype: str = "u1", channels: int = 1) -> NDArray[Any]:
    """Random values below `top`."""
    shape = (side, side, channels) if channels > 1 else (side, side)
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


def encoded(seed: int, format: str = "PNG", **options: Any) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels(seed, **options)).save(sink, format)
    return sink.getvalue()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def put_dicom(path: Path, values: NDArray[Any], *, bits: int = 0, patient: str = "P7", **tags: Any) -> Path:
    """Write an uncompressed DICOM file; `tags` replace those that follow from the values."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SECONDARY_CAPTURE
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = SECONDARY_CAPTURE, "1.2.3"
    data.PatientID, data.PatientName, data.PatientBirthDate = patient, "Doe^Jane", "19010203"
    data.Rows, data.Columns = values.shape[:2]
    data.SamplesPerPixel = 3 if values.ndim == 3 else 1
    data.PhotometricInterpretation = "RGB" if values.ndim == 3 else "MONOCHROME2"
    if values.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = values.dtype.itemsize * 8
    data.BitsStored = bits or data.BitsAllocated
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    data.PixelData = values.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def put_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def opened(format: str, images: Path | str, **options: Any) -> Source:
    return open_source(ImportSpec(format=format, images=str(images), **options))


def values_of(image: SourceImage) -> NDArray[Any]:
    """Decode what the server is sent."""
    with Image.open(io.BytesIO(image.read())) as decoded:
        return np.asarray(decoded)
