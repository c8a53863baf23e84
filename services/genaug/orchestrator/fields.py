"""Fields of a run file: their ranges, their defaults, and the error that names one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genaug.shared.errors import InvalidArgument

Spec = dict[str, Any]
"""A RunSpec, or a part of it, as plain JSON (`genaug.shared.protojson`)."""
Numbers = dict[str, tuple[float, float, float]]
"""Path -> default, lowest, highest."""


def bad(path: str, problem: str) -> InvalidArgument:
    """The error for what is wrong at a path."""
    return InvalidArgument(f"{path}: {problem}", reason="BAD_RUN_FILE", path=path)


def fill(spec: Spec, numbers: Mapping[str, tuple[float, float, float]], *, prefix: str) -> None:
    """Write the defaults of numbers that are left out, in place.

    Args:
        spec: What holds them.
        numbers: See `Numbers`.
        prefix: What stands before their paths in an error, such as "generator.".

    Raises:
        InvalidArgument: one is out of its range.
    """
    for path, (default, lowest, highest) in numbers.items():
        place, key = place_of(spec, path)
        value = place.setdefault(key, default)
        if not within(value, lowest, highest):
            raise bad(f"{prefix}{path}", f"{value} is not within {lowest:g} and {highest:g}")


def within(value: Any, lowest: float, highest: float) -> bool:
    """Whether a value lies in a range; ProtoJSON writes NaN and the infinities as words."""
    return isinstance(value, (int, float)) and lowest <= value <= highest


def place_of(spec: Spec, path: str) -> tuple[Spec, str]:
    """The part of a spec that holds the last key of a path, made where it is not there; and that key."""
    *parents, key = path.split(".")
    place = spec
    for parent in parents:
        place[parent] = dict(place.get(parent, {}))
        place = place[parent]
    return place, key
