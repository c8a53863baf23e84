"""How well a choice of images stands for its class, beside a random one and beside every other method's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from genaug.selection.choose import Method, grid_cells
from genaug.selection.kernel import Gaussian, Indices
from genaug.selection.project import Plane


@dataclass(frozen=True)
class Alternative:
    """How well a method would have chosen."""

    method: Method
    mmd2: float
    coverage: float


@dataclass(frozen=True)
class Quality:
    """How well a choice stands for its class, beside the control."""

    available: int
    kept: int
    mmd2: float
    random_mmd2: float
    coverage: float
    random_coverage: float
    alternatives: tuple[Alternative, ...]
    """Every method at the same size, the one that chose among them."""


def coverage(points: Plane, chosen: Indices, *, kept: int) -> float:
    """Share of the occupied cells of `grid_cells` that hold a chosen point, 0 to 1."""
    cells = grid_cells(points, kept=kept)
    return len(np.unique(cells[chosen])) / len(np.unique(cells))


def quality(
    points: Plane, kernel: Gaussian, *, method: Method, choices: Mapping[Method, Indices], control: Indices
) -> Quality:
    """How well the choices of one class, all of equal size, stand for it.

    Args:
        points: [n, 2], all images of the class on the map.
        kernel: Over the features of the same images.
        method: The one that chose.
        choices: What each method chose.
        control: The random control.
    """
    kept = len(control)
    found = {
        name: Alternative(name, kernel.squared_mmd(chosen), coverage(points, chosen, kept=kept))
        for name, chosen in choices.items()
    }
    return Quality(
        available=len(points),
        kept=kept,
        mmd2=found[method].mmd2,
        random_mmd2=kernel.squared_mmd(control),
        coverage=found[method].coverage,
        random_coverage=coverage(points, control, kept=kept),
        alternatives=tuple(found.values()),
    )
