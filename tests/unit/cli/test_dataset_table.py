"""Tables of datasets on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from genaug.cli.dataset_tables import dataset_table, description_table
from genaug.v1.dataset_pb2 import Dataset, DatasetDescription, Window


def printed(table: object) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_the_window_and_the_notes_are_shown() -> None:
    dataset = Dataset(
        name="datasets/d", window=Window(low=-1000, high=3000.5, rule="given"), notes=["2 images are kept as they are"]
    )
    for table in (dataset_table(dataset), description_table(DatasetDescription(dataset="datasets/d"), dataset)):
        assert "window: -1000 is black, 3000.5 white (given)" in printed(table)
        assert "note: 2 images are kept as they are" in printed(table)
    assert "window" not in printed(dataset_table(Dataset(name="datasets/d")))
