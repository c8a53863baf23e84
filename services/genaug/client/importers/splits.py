"""The source's own split: sides by the names of folders and files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from genaug.client.importers import SourceReport
from genaug.client.importers.sides import SIDES
from genaug.schema.run import ImportSpec
from genaug.shared.errors import InvalidArgument

_WORD = re.compile(r"[^\W\d_]+")


def side_in_name(name: str) -> str:
    """Return the side that a file's name speaks of, as in "train-00000-of-00002.parquet"; empty if none, or several."""
    sides = {SIDES[word] for word in _WORD.findall(name.lower()) if word in SIDES}
    return sides.pop() if len(sides) == 1 else ""


def side_in_path(parts: Sequence[str]) -> str:
    """Return the side named by the last of a path's `parts` that names one; empty if none does."""
    return next(filter(None, map(side_in_name, reversed(parts))), "")


def check_sides(sides: Sequence[str], spec: ImportSpec, report: SourceReport) -> list[str]:
    """Return the side of each image: as in the source, or none at all with `spec.ignore_split`.

    Args:
        sides: "train", "validation", "test" or empty for each image.
        spec: The import.
        report: Receives the sizes of the sides.

    Raises:
        InvalidArgument: some images have a side and others none, or a side has no images.
    """
    counts = Counter(sides)
    without = counts.pop("", 0)
    if not counts:
        return list(sides)
    sizes = ", ".join(f"{side} {counts[side]}" for side in ("train", "validation", "test") if counts[side])
    if spec.ignore_split:
        report.notes.append(f"the source's own split ({sizes}) is left out; a split is made")
        return [""] * len(sides)
    mend = "or leave the split out (--ignore-split), so that one is made by subject"
    if without:
        raise InvalidArgument(
            f"images: {without} of {len(sides)} images belong to no side of the source's own split ({sizes}); "
            f"give each a side, {mend}",
            reason="SPLIT_INCOMPLETE",
        )
    missing = [side for side in ("train", "validation", "test") if not counts[side]]
    if missing:
        raise InvalidArgument(
            f"images: the source's own split ({sizes}) has no {' and no '.join(missing)}, and all three sides are "
            f"needed: training stops by validation images, the verdict is of test images. Move whole subjects from "
            f"train, {mend}",
            reason="EMPTY_SIDE",
        )
    report.notes.append(f"the source's own split is kept: {sizes}")
    return list(sides)
