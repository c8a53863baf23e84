"""The rows that classifiers are scored on: the sealed ones, or those of outer folds. Read when all else is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genaug.evaluation.compare import Sealed
from genaug.shared.errors import FailedPrecondition
from genaug.shared.manifest import Row, read_rows, view_rows
from genaug.shared.seal_log import record_opening
from genaug.shared.store import Store


@dataclass(frozen=True)
class HeldOut:
    """Rows that the classifiers of one part have not seen."""

    fold: int
    """The outer fold, from 1; 0 for the seal."""
    rows: tuple[Row, ...]
    """Sorted by image id."""


def hold_out(store: Store, inputs: Mapping[str, Any], *, folds: Sequence[int], who: str) -> list[HeldOut]:
    """The rows of each part: of the seal, whose opening is recorded first, or of outer folds, when the seal stays shut.

    Args:
        store: As the identity "evaluate".
        inputs: An `evaluate` Job's inputs.
        folds: [0], or outer folds.
        who: "evaluations/{digest}".

    Raises:
        FailedPrecondition: reason BAD_SEAL; a row is made, or not where it belongs.
    """
    if list(folds) == [0]:
        record_opening(store, inputs["dataset"], purpose="score frozen classifiers", evaluation=who)
        rows = read_rows(store, f"sealed/{inputs['dataset']}/rows.parquet")
        _check(rows, splits=("test",))
        return [HeldOut(0, _viewed(rows, inputs))]
    rows = read_rows(store, f"{inputs['dataset']}/versions/real/rows.parquet")
    _check(rows, splits=("train", "validation"))
    viewed = _viewed(rows, inputs)
    return [HeldOut(fold, tuple(row for row in viewed if row.fold == fold - 1)) for fold in folds]


def truth_of(rows: Sequence[Row], *, classes: Sequence[str]) -> Sealed:
    """The truth of rows; empty `classes` for all there are, sorted. A row without group stands for itself.

    Raises:
        FailedPrecondition: a class has no row.
    """
    kinds = tuple(classes) or tuple(sorted({row.class_name for row in rows}))
    missing = [kind for kind in kinds if not any(row.class_name == kind for row in rows)]
    if missing or not kinds:
        raise FailedPrecondition(
            f"no sealed image of class {', '.join(missing) or '(any)'}: its recall cannot be measured; leave it out of "
            "`classes`, or import with a larger test share",
            reason="NO_SEALED_IMAGES",
        )
    truth = np.array([kinds.index(row.class_name) for row in rows])
    groups = np.unique([row.group_id or row.image_id for row in rows], return_inverse=True)[1]
    return Sealed(kinds, truth, groups)


def _viewed(rows: Sequence[Row], inputs: Mapping[str, Any]) -> tuple[Row, ...]:
    found = view_rows(rows, classes=inputs["classes"], multi_disease=inputs["multi_disease"])
    return tuple(sorted(found, key=lambda row: row.image_id))


def _check(rows: Sequence[Row], *, splits: Sequence[str]) -> None:
    wrong = sum(row.source != "real" or row.split not in splits for row in rows)
    if wrong:
        raise FailedPrecondition(
            f"{wrong} of the held-out rows are made or of another split; import the dataset again", reason="BAD_SEAL"
        )
