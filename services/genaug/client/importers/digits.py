"""Importer "digits": scikit-learn's 1,797 handwritten digits (8×8), read from its data file without importing it."""

from __future__ import annotations

import difflib
import gzip
import importlib.util
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from genaug.client.importers import SourceImage, SourceReport
from genaug.schema.run import ImportSpec
from genaug.shared.errors import FailedPrecondition, InvalidArgument

_SIDE = 8
_BRIGHTEST = 16


def read(spec: ImportSpec, report: SourceReport) -> Iterator[SourceImage]:
    """Yield the digits as 8×8 grey PNGs, values 0 to 16 stretched to 0 to 255; each image is its own subject.

    `spec.keep` limits classes to a number of images, the first ones in the file's order; other classes are kept whole.

    Raises:
        FailedPrecondition: scikit-learn is not installed.
        InvalidArgument: `keep` names an unknown class, or more images than it has.
    """
    table = _load()
    names = [str(int(digit)) for digit in table[:, -1]]
    _check_keep(spec.keep, Counter(names))
    taken: Counter[str] = Counter()
    for row, (name, values) in enumerate(zip(names, table[:, :-1], strict=True)):
        if taken[name] >= spec.keep.get(name, len(names)):
            continue
        taken[name] += 1
        grey = (values.reshape(_SIDE, _SIDE) * (255.0 / _BRIGHTEST)).round().astype(np.uint8)
        yield SourceImage(f"digits-{row:04d}.png", name, "", "", {}, partial(_encode, grey))


def _encode(grey: NDArray[np.uint8]) -> bytes:
    """Encode uint8 [8, 8]. Image ids are digests of these bytes: another compression level would be another dataset."""
    sink = io.BytesIO()
    Image.fromarray(grey).save(sink, "PNG", compress_level=1)
    return sink.getvalue()


def _load() -> NDArray[np.float64]:
    """Return float64 [1797, 65]: 64 values from 0 to 16, row by row, then the digit."""
    package = importlib.util.find_spec("sklearn")
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz" if package and package.origin else None
    if path is None or not path.is_file():
        raise FailedPrecondition(
            "digits: scikit-learn, whose data these are, is not installed here; pip install scikit-learn",
            reason="NO_SCIKIT_LEARN",
        )
    with gzip.open(path, "rt", encoding="ascii") as file:
        return np.loadtxt(file, delimiter=",")


def _check_keep(keep: Mapping[str, int], available: Mapping[str, int]) -> None:
    for name, count in keep.items():
        if name not in available:
            near = difflib.get_close_matches(name, available, n=1, cutoff=0.3)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvalidArgument(f"keep: the digits have no class {name!r}, only 0 to 9{hint}", reason="UNKNOWN_CLASS")
        if not 0 <= count <= available[name]:
            raise InvalidArgument(
                f"keep: {count} images of class {name} are not possible; there are {available[name]}",
                reason="BAD_KEEP",
            )
