"""Representativeness of a selection of a class, beside a random control and every other method."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from genaug.schema.selection import SelectionAlternative, SelectionMethod, SelectionQuality
from genaug.selection.choose import grid_cells
from genaug.selection.kernel import Gaussian, Indices
from genaug.selection.project import Plane


def coverage(points: Plane, chosen: Indices, *, kept: int) -> float:
    """Share of the occupied cells of `grid_cells` that hold a chosen point, 0 to 1."""
    cells = grid_cells(points, kept=kept)
    return len(np.unique(cells[chosen])) / len(np.unique(cells))


def quality(
    class_name: str,
    points: Plane,
    kernel: Gaussian,
    *,
    method: SelectionMethod,
    choices: Mapping[SelectionMethod, Indices],
    control: Indices,
) -> SelectionQuality:
    """Measure the choices of one class, all of equal size.

    Args:
        class_name: The class.
        points: [n, 2], all images of the class on the map.
        kernel: Over the features of the same images.
        method: The method that selects.
        choices: Chosen indices, by method.
        control: Indices of the random control.
    """
    kept = len(control)
    alternatives = {
        name: SelectionAlternative(
            method=name, mmd2=kernel.squared_mmd(chosen), coverage=coverage(points, chosen, kept=kept)
        )
        for name, chosen in choices.items()
    }
    return SelectionQuality(
        class_name=class_name,
        available=len(points),
        kept=kept,
        mmd2=alternatives[method].mmd2,
        random_mmd2=kernel.squared_mmd(control),
        coverage=alternatives[method].coverage,
        random_coverage=coverage(points, control, kept=kept),
        alternatives=tuple(alternatives.values()),
    )
