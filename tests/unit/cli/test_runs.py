from __future__ import annotations

import pytest

from genaug.cli.runs import _check_same
from genaug.schema.datasets import Dataset, Window
from genaug.schema.run import ImportSpec
from genaug.schema.wire import to_proto
from genaug.shared.errors import FailedPrecondition
from genaug.v1 import dataset_pb2

SEALED = to_proto(
    dataset_pb2.Dataset,
    Dataset(
        name="datasets/x", format="folder", seed=42, folds=5, split=(0.7, 0.15, 0.15),
        window=Window(low=0, high=4095, rule="12 bits"),
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    "options", [{"format": "folder"}, {"format": "auto"}, {"format": "auto", "bits": 12}, {"window": (0, 4095)}]
)
def test_a_dataset_with_the_same_options_is_taken(options) -> None:
    _check_same(SEALED, ImportSpec(**{"format": "folder"} | options))


@pytest.mark.parametrize(
    ("options", "path"),
    [({"format": "csv"}, "format"), ({"seed": 1}, "seed"), ({"bits": 16}, "bits"), ({"window": (0, 1)}, "window")],
)
def test_a_dataset_with_other_options_is_refused(options, path: str) -> None:
    with pytest.raises(FailedPrecondition, match=f"^import.{path}: datasets/x was sealed with"):
        _check_same(SEALED, ImportSpec(**{"format": "folder"} | options))
