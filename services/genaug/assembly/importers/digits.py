"""scikit-learn's real handwritten digits (1,797, 8×8), read from its installed data file without importing it."""

from __future__ import annotations

import difflib
import gzip
import importlib.util
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genaug.assembly.importers import ImportOptions, SourceImage
from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.vision.images.pixels import encode_png

_SIDE = 8
_TOP = 16


def read(options: ImportOptions) -> Iterator[SourceImage]:
    """Yield the digits as 8×8 grey PNGs, values 0 to 16 stretched to 0 to 255; each image is its own subject.

    `options.keep` says how many of a class to keep, the first ones in the file's order; other classes are kept whole.

    Raises:
        FailedPrecondition: scikit-learn is not installed.
        InvalidArgument: `keep` names a class that is not there, or more images than it has.
    """
    table = _load()
    names = [str(int(digit)) for digit in table[:, -1]]
    _check_keep(options.keep, Counter(names))
    taken: Counter[str] = Counter()
    for row, (name, values) in enumerate(zip(names, table[:, :-1], strict=True)):
        if taken[name] >= options.keep.get(name, len(names)):
            continue
        taken[name] += 1
        grey = (values.reshape(_SIDE, _SIDE, 1) * (255.0 / _TOP)).round().astype(np.uint8)
        yield SourceImage(f"digits-{row:04d}.png", name, "", "", {}, partial(encode_png, grey))


def _load() -> NDArray[np.float64]:
    """float64 [1797, 65]: 64 values from 0 to 16, row by row, then the digit."""
    found = importlib.util.find_spec("sklearn")
    path = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz" if found and found.origin else None
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
