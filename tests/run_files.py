"""A dataset's record, and run files checked against it as CreateRun does."""

from __future__ import annotations

from typing import Any

from genaug.schema.common import class_counts
from genaug.schema.completion import complete
from genaug.schema.datasets import Dataset
from genaug.schema.model import parse
from genaug.schema.run import RunSpec


def dataset_of(classes: str, *, count: int = 60, **fields: Any) -> Dataset:
    counts = class_counts(dict.fromkeys(classes, count))
    record = {"name": "datasets/odir", "digest": "d", "median_side": 256, "channels": 3, "folds": 5}
    return Dataset(**{**record, "training": counts, "validation": counts, "test": counts, **fields})


def completed(change: dict[str, Any] | None = None, *, of: Dataset | None = None) -> RunSpec:
    """Complete a run file, given as JSON, as CreateRun does."""
    return complete(parse(RunSpec, {"name": "x", "dataset": "odir", **(change or {})}), of or dataset_of("ADN"))
