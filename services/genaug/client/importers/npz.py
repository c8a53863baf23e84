"""Importer "npz": arrays of images and labels in one .npz file, as MedMNIST and Keras have them, or in .npy files.

Images are read one after the other from the archive, so that they need not fit into memory.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from genaug.client.importers import SourceImage, SourceReport
from genaug.client.importers.arrays import layout, read_npy_header, to_tiff
from genaug.client.importers.labeled import check_labels, label_attributes
from genaug.client.importers.sides import SIDES
from genaug.client.importers.splits import check_sides
from genaug.client.importers.stream import Streams
from genaug.schema.run import ImportSpec
from genaug.shared.errors import InvalidArgument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Open = Callable[[], AbstractContextManager[IO[bytes]]]

_IMAGES = frozenset({"images", "image", "imgs", "img", "x", "data"})
_LABELS = frozenset({"labels", "label", "y", "targets", "target"})
_MAX_LABEL_BYTES = 1_000_000_000
_NAMES = "train_images and train_labels, x_train and y_train, or images and labels"


@dataclass(frozen=True)
class _Part:
    """The images of one side and their labels."""

    side: str
    name: str
    """Name of the array of images."""
    open: Open
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    labels: list[tuple[str, ...]]


def read(spec: ImportSpec, report: SourceReport) -> Iterator[SourceImage]:
    """Yield the images of the arrays, side by side, in their order; each image is its own subject.

    Labels are whole numbers or words, [n] or [n, 1]; with `spec.multi_label`, 0 and 1 in [n, classes], the class is the
    first with 1.

    Raises:
        InvalidArgument: there is no such file, arrays are missing, do not fit each other, or hold no images; or the
            split has a side too few.
    """
    arrays = _open_arrays(spec.images)
    names = _pair(arrays, report)
    parts = [_part(side, images, labels, arrays, spec) for side, (images, labels) in sorted(names.items())]
    sides = iter(check_sides([part.side for part in parts for _ in part.labels], spec, report))
    for part in parts:
        streams = Streams(partial(_rows, part))
        for number, labels in enumerate(part.labels):
            yield SourceImage(
                name=f"{part.name}[{number}]",
                class_name=labels[0],
                subject="",
                split=next(sides),
                attributes=label_attributes(labels) if spec.multi_label else {},
                read=partial(_encode, part, streams, number),
            )


def _open_arrays(location: str) -> dict[str, Open]:
    """Return functions that open the arrays, by name."""
    if not location:
        raise InvalidArgument("images: say which .npz file (--images)", reason="NO_FOLDER")
    path = Path(location).expanduser()
    if path.is_dir():
        archives = sorted(path.glob("*.npz"))
        if len(archives) > 1:
            names = ", ".join(archive.name for archive in archives[:3])
            raise InvalidArgument(
                f"images: {len(archives)} .npz files in {path} ({names}); give one of them", reason="SEVERAL_ARCHIVES"
            )
        if not archives:
            return {file.stem: partial(_open, file) for file in sorted(path.glob("*.npy"))}
        path = archives[0]
    if not path.is_file():
        raise InvalidArgument(f"images: there is no file {path}", reason="NO_SUCH_FILE")
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".npy")]
    except (zipfile.BadZipFile, OSError) as error:
        raise InvalidArgument(f"images: {path} is no .npz archive ({error})", reason="BAD_ARCHIVE") from None
    return {name.removesuffix(".npy"): partial(_open_member, path, name) for name in members}


@contextmanager
def _open_member(path: Path, name: str) -> Iterator[IO[bytes]]:
    # The archive is open no longer than its member: a refused source must not leave it open.
    with zipfile.ZipFile(path) as archive, archive.open(name) as file:
        yield file


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")


def _pair(arrays: dict[str, Open], report: SourceReport) -> dict[str, tuple[str, str]]:
    """Return the names of the arrays of images and labels by side."""
    images: dict[str, str] = {}
    labels: dict[str, str] = {}
    others = []
    for name in sorted(arrays):
        words = [word for word in re.split(r"[\W_]+", name.lower()) if word]
        sides = {SIDES[word] for word in words if word in SIDES}
        rest = [word for word in words if word not in SIDES]
        kind = images if rest and rest[-1] in _IMAGES else labels if rest and rest[-1] in _LABELS else None
        side = next(iter(sides), "")
        if kind is None or len(rest) != 1 or len(sides) > 1:
            others.append(name)
        elif side in kind:
            raise InvalidArgument(
                f"images: the arrays {kind[side]} and {name} are the same thing; leave one out", reason="BAD_ARCHIVE"
            )
        else:
            kind[side] = name
    if others:
        report.notes.append(f"arrays that are not read: {', '.join(others)}")
    if not images or images.keys() != labels.keys():
        raise InvalidArgument(
            f"images: arrays in pairs are needed, such as {_NAMES}; there are {', '.join(sorted(arrays)) or 'none'}",
            reason="NO_ARRAYS",
        )
    return {side: (name, labels[side]) for side, name in images.items()}


def _part(side: str, images: str, labels: str, arrays: dict[str, Open], spec: ImportSpec) -> _Part:
    try:
        with arrays[images]() as file:
            shape, fortran, dtype = read_npy_header(file)
    except Exception as error:
        # Headers and archives that are damaged raise almost anything.
        raise _damaged(images, error) from None
    if fortran and len(shape) > 1:
        raise InvalidArgument(
            f"images: the array {images} is stored by columns; save numpy.ascontiguousarray of it", reason="BAD_ARRAY"
        )
    problem = layout(shape[1:], dtype).problem if len(shape) > 1 else "no image"
    if problem:
        raise InvalidArgument(
            f"images: the array {images} of {dtype} {list(shape)} holds no images that are read: {problem}; "
            "[n, height, width], or uint8 [n, height, width, 3], is needed",
            reason="BAD_ARRAY",
        )
    values = _read_labels(labels, arrays[labels])
    if len(values) != shape[0]:
        raise InvalidArgument(
            f"images: the array {images} has {shape[0]} images, {labels} has {len(values)} labels", reason="BAD_ARRAY"
        )
    named = _to_labels(labels, values)
    check_labels(
        [f"{labels}[{number}]" for number in range(len(named))],
        named,
        multi_label=spec.multi_label,
        hint="leave them out, or add a column for them: numpy.c_[labels, ~labels.any(1)]",
    )
    return _Part(side, images, arrays[images], shape, dtype, named)


def _read_labels(name: str, open_array: Open) -> NDArray[Any]:
    import numpy as np

    try:
        with open_array() as file:
            shape, fortran, dtype = read_npy_header(file)
            size = int(np.prod(shape, dtype=object)) * dtype.itemsize
            if dtype.hasobject or size > _MAX_LABEL_BYTES:
                raise ValueError("objects, which are not unpickled" if dtype.hasobject else f"{size} bytes")
            values = np.frombuffer(file.read(size), dtype).reshape(shape, order="F" if fortran else "C")
    except Exception as error:
        raise _damaged(name, error) from None
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def _to_labels(name: str, values: NDArray[Any]) -> list[tuple[str, ...]]:
    """Return the labels of each image: the number or word itself, or the numbers of the columns with 1."""
    import numpy as np

    if values.ndim == 1 and values.dtype.kind in "US":
        try:
            words = values.tolist()
        except Exception as error:
            # Code points beyond Unicode, in a damaged array.
            raise _damaged(name, error) from None
        return [(word.decode("utf-8", "backslashreplace") if isinstance(word, bytes) else word,) for word in words]
    whole = values.dtype.kind in "iub" or (
        values.dtype.kind == "f" and bool((np.isfinite(values) & (values == np.round(values))).all())
    )
    if values.ndim == 1 and whole:
        return [(str(int(value)),) for value in values.tolist()]
    if values.ndim == 2 and whole and bool(np.isin(values, (0, 1)).all()):
        return [tuple(str(column) for column in np.flatnonzero(row)) for row in values]
    raise InvalidArgument(
        f"images: the array {name} of {values.dtype} {list(values.shape)} holds no labels; whole numbers or words [n] "
        "or [n, 1], or 0 and 1 in [n, classes], are needed",
        reason="BAD_ARRAY",
    )


def _rows(part: _Part, side: str) -> Iterator[bytes]:
    """Yield the values of one image after the other."""
    size = part.dtype.itemsize
    for length in part.shape[1:]:
        size *= length
    with part.open() as file:
        read_npy_header(file)
        while len(data := file.read(size)) == size:
            yield data


def _encode(part: _Part, streams: Streams[str], number: int) -> bytes:
    import numpy as np

    try:
        values = np.frombuffer(streams.item(part.side, number), part.dtype)
    except (IndexError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise _damaged(part.name, error) from None
    try:
        return to_tiff(values.reshape(part.shape[1:]))
    except ValueError:
        # Whole numbers beyond 32 bits: no image, which the server counts.
        return b""


def _damaged(name: str, error: Exception) -> InvalidArgument:
    return InvalidArgument(
        f"images: the array {name} cannot be read ({type(error).__name__}: {error})", reason="BAD_ARRAY"
    )
