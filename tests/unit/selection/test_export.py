from __future__ import annotations

import csv
import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from genaug.selection.export import selected_csv
from genaug.selection.select import SCHEMA

FORMULAS = ('=HYPERLINK("http://x","y")', "+1", "-1+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "\r=1", "\n=1", "＝1")


def manifest(labels: list[str], chosen: list[bool]) -> pa.Table:
    count = len(labels)
    places = np.random.default_rng(count).normal(scale=40, size=(2, count)).astype(np.float32)
    ids = [f"{number:032x}" for number in range(count)]
    return pa.table([ids, labels, *places, chosen, [False] * count], schema=SCHEMA)


def read(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.booleans()), max_size=8))
@example([("'", True), ("''", True), ("'=", True)])
def test_the_table_reads_back(images: list[tuple[str, bool]]) -> None:
    table = manifest([label for label, _ in images], [chosen for _, chosen in images])
    rows = read(selected_csv(table))
    chosen = [row for row in table.to_pylist() if row["chosen"]]
    assert [row["image_id"] for row in rows] == [row["image_id"] for row in chosen]
    assert [row["label"].removeprefix("'") for row in rows] == [row["class"] for row in chosen]
    for column in ("x", "y"):
        assert [np.float32(row[column]) for row in rows] == [row[column] for row in chosen]


@pytest.mark.parametrize("name", FORMULAS)
def test_no_class_name_is_computed(name: str) -> None:
    (row,) = read(selected_csv(manifest([name], [True])))
    assert row["label"] == f"'{name}"
    # Even where another separator is the spreadsheet's own.
    line = selected_csv(manifest([f"a;{name}"], [True])).split(b"\r\n", 1)[1]
    assert line.startswith(b'"00000000000000000000000000000000","a;')


def test_ordinary_names_stay_as_they_are() -> None:
    (row,) = read(selected_csv(manifest(["Glaukom, früh"], [True])))
    assert row["label"] == "Glaukom, früh"
    assert row["image_id"] == "0" * 32
