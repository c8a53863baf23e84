"""Test rows: the sealed ones, or those of outer folds. They are read once every other check has passed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from genaug.evaluation.compare import TestSet
from genaug.schema.jobs import EvaluateInputs
from genaug.shared.errors import FailedPrecondition
from genaug.shared.manifest import MultiDisease, Row, read_rows, view_rows
from genaug.shared.seal_log import record_opening
from genaug.shared.store import Store


@dataclass(frozen=True)
class TestPart:
    """Rows that the classifiers of one part have not seen."""

    __test__ = False  # no test case of pytest

    fold: int
    """The outer fold, from 1; 0 for the seal."""
    rows: tuple[Row, ...]
    """Sorted by image id."""


def read_parts(store: Store, inputs: EvaluateInputs, *, folds: Sequence[int]) -> list[TestPart]:
    """Read the rows of each part: the sealed rows, after their opening is recorded, or outer folds with no opening.

    Args:
        store: As the identity "evaluate".
        inputs: The Job's inputs.
        folds: [0], or outer folds.

    Raises:
        FailedPrecondition: reason BAD_SEAL; a row is made, or of another split.
    """
    if list(folds) == [0]:
        record_opening(store, inputs.dataset, purpose="score frozen classifiers", evaluation=inputs.result)
        rows = read_rows(store, f"sealed/{inputs.dataset}/rows.parquet")
        _check(rows, splits=("test",))
        return [TestPart(0, _viewed(rows, inputs))]
    rows = read_rows(store, f"{inputs.dataset}/versions/real/rows.parquet")
    _check(rows, splits=("train", "validation"))
    viewed = _viewed(rows, inputs)
    return [TestPart(fold, tuple(row for row in viewed if row.fold == fold - 1)) for fold in folds]


def truth_of(rows: Sequence[Row], *, classes: Sequence[str]) -> TestSet:
    """Truth of rows; empty `classes` for all that occur, sorted. A row without group is a group of its own.

    Raises:
        FailedPrecondition: reason NO_SEALED_IMAGES; a class has no row.
    """
    names = tuple(classes) or tuple(sorted({row.class_name for row in rows}))
    missing = [name for name in names if not any(row.class_name == name for row in rows)]
    if missing or not names:
        raise FailedPrecondition(
            f"no sealed image of class {', '.join(missing) or '(any)'}: its recall cannot be measured; leave it out of "
            "`classes`, or import with a larger test share",
            reason="NO_SEALED_IMAGES",
        )
    truth = np.array([names.index(row.class_name) for row in rows])
    groups = np.unique([row.group_id or row.image_id for row in rows], return_inverse=True)[1]
    return TestSet(names, truth, groups)


def _viewed(rows: Sequence[Row], inputs: EvaluateInputs) -> tuple[Row, ...]:
    policy = cast(MultiDisease, inputs.multi_disease.name)
    viewed = view_rows(rows, classes=inputs.classes, multi_disease=policy)
    return tuple(sorted(viewed, key=lambda row: row.image_id))


def _check(rows: Sequence[Row], *, splits: Sequence[str]) -> None:
    wrong = sum(row.source != "real" or row.split not in splits for row in rows)
    if wrong:
        raise FailedPrecondition(
            f"{wrong} of the held-out rows are made or of another split; import the dataset again", reason="BAD_SEAL"
        )
