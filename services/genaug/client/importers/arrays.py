"""Numpy arrays as images: which arrays are, and a lossless encoding that keeps their values."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_PIXELS = 64_000_000
"""Pixels of the largest image that the server decodes."""

# Type of the stored values by that of the array, by kind and bytes. The server reads no wider ones.
_STORED = {
    "b1": "u1",
    "u1": "u1",
    "u2": "u2",
    "i1": "i2",
    "i2": "i2",
    **dict.fromkeys(("u4", "i4", "u8", "i8"), "i4"),
    **dict.fromkeys(("f2", "f4", "f8"), "f4"),
}


@dataclass(frozen=True)
class ArrayLayout:
    """Axes of one image in an array."""

    transposed: bool
    """Whether the channels come first."""
    problem: str = ""
    """Why the array is no image; empty if it is one."""


def layout(shape: tuple[int, ...], dtype: np.dtype[Any]) -> ArrayLayout:
    """Return how an array of this shape and type is an image: grey [height, width], or 8-bit RGB in either order."""
    if f"{dtype.kind}{dtype.itemsize}" not in _STORED:
        return ArrayLayout(False, "no numbers")
    channels, transposed = 1, False
    if len(shape) == 3:
        transposed = shape[0] in (1, 3) and shape[2] not in (1, 3)
        channels = shape[0] if transposed else shape[2]
        shape = shape[1:] if transposed else shape[:2]
    if len(shape) != 2:
        return ArrayLayout(False, "no image")
    if channels not in (1, 3):
        return ArrayLayout(False, "several frames or channels")
    if channels == 3 and (dtype.kind, dtype.itemsize) != ("u", 1):
        # No window applies to colour: to scale it here would be a guess.
        return ArrayLayout(False, "color of more than 8 bits; save uint8")
    if not 0 < shape[0] * shape[1] <= MAX_PIXELS:
        return ArrayLayout(False, "empty" if not shape[0] * shape[1] else f"more than {MAX_PIXELS} pixels")
    return ArrayLayout(transposed)


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an array in NumPy's format: shape, whether the first axis varies fastest, type.

    Raises:
        ValueError: it is none.
    """
    import numpy as np

    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version} of the format")
    shape, fortran, dtype = read(file)
    return shape, fortran, dtype


def npy_problem(file: IO[bytes]) -> str:
    """Return why a .npy file is not read as an image; empty if it is."""
    try:
        shape, _, dtype = read_npy_header(file)
    except Exception:
        # Headers of damaged files raise almost anything.
        return "damaged"
    return layout(shape, dtype).problem


def npy_to_tiff(file: IO[bytes]) -> bytes:
    """Encode the array in a .npy file as TIFF.

    Raises:
        ValueError: it is no image, or damaged. It is never unpickled.
    """
    import numpy as np

    shape, fortran, dtype = read_npy_header(file)
    if problem := layout(shape, dtype).problem:
        raise ValueError(problem)
    values = np.frombuffer(file.read(int(np.prod(shape)) * dtype.itemsize), dtype)
    return to_tiff(values.reshape(shape, order="F" if fortran else "C"))


def to_tiff(values: NDArray[Any]) -> bytes:
    """Encode an image that `layout` takes as TIFF: its values alone, exact in 8, 16 or 32 bits.

    Raises:
        ValueError: it is no image, or has whole numbers beyond 32 bits.
    """
    import numpy as np

    form = layout(values.shape, values.dtype)
    if form.problem:
        raise ValueError(form.problem)
    if form.transposed:
        values = values.transpose(1, 2, 0)
    stored = np.dtype("<" + _STORED[f"{values.dtype.kind}{values.dtype.itemsize}"])
    if stored.kind == "i" and not (np.iinfo(stored).min <= values.min() and values.max() <= np.iinfo(stored).max):
        raise ValueError("whole numbers beyond 32 bits")
    scale = 255 if values.dtype.kind == "b" else 1
    pixels = values.astype(stored) * stored.type(scale)
    channels = 3 if pixels.ndim == 3 and pixels.shape[2] == 3 else 1
    return _tiff(np.ascontiguousarray(pixels).tobytes(), pixels.shape[1], pixels.shape[0], channels, stored)


def _tiff(data: bytes, width: int, height: int, channels: int, stored: np.dtype[Any]) -> bytes:
    """Return an uncompressed TIFF of one strip.

    Written here, since image ids are digests of these bytes (an encoder's next release would be another dataset), and
    since Pillow writes no signed 16-bit values.
    """
    short, long = 3, 4
    entries = [
        (256, long, width),
        (257, long, height),
        (258, short, stored.itemsize * 8),
        (259, short, 1),  # no compression
        (262, short, 2 if channels == 3 else 1),  # RGB, or black is zero
        (273, long, 0),  # offset of the strip
        (277, short, channels),
        (278, long, height),
        (279, long, len(data)),
        (339, short, {"u": 1, "i": 2, "f": 3}[stored.kind]),
    ]
    start = 8 + 2 + 12 * len(entries) + 4
    # Values of more than four bytes stand behind the directory: bits and sample format of three channels.
    extra = b""
    packed = []
    for tag, kind, value in entries:
        if tag == 273:
            value = start + (12 if channels == 3 else 0)
        if channels == 3 and tag in (258, 339):
            packed.append(struct.pack("<HHII", tag, kind, 3, start + len(extra)))
            extra += struct.pack("<3H", value, value, value)
        else:
            # A short value is left-justified in its four bytes, which little-endian order gives by itself.
            packed.append(struct.pack("<HHII", tag, kind, 1, value))
    return b"".join((b"II*\0", struct.pack("<IH", 8, len(entries)), *packed, struct.pack("<I", 0), extra, data))
