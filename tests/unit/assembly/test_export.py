"""Exports: every file where its layout says, with the bytes its row says."""

from __future__ import annotations

import ast
import csv
import io
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genaug.assembly.assemble import assemble
from genaug.assembly.export import HEAD, SUMS, export_images
from genaug.assembly.exports import EXPORTS
from genaug.assembly.exports.folders import class_folder
from genaug.assembly.exports.layout import File
from genaug.schema.datasets import View
from genaug.schema.requests import AssembleRequest
from genaug.shared.digests import sha256
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import read_rows

HOSTILE = "../a/b\\c:'\"%41, é"


@pytest.fixture
def store(stores, sent, run_import):
    store = stores("assembly")
    run_import(store, [sent(n, "a" if n % 2 else HOSTILE) for n in range(30)])
    return store


def files(store, layout: str, version: str = "real") -> dict[str, bytes]:
    found = [event for event in export_images(store, "d", version, layout) if isinstance(event, File)]
    assert len({file.path for file in found}) == len(found)
    assert (found[0].path, found[-1].path) == (HEAD, SUMS)
    return {file.path: file.data for file in found}


def rows_of(store, version: str = "real"):
    return read_rows(store, f"datasets/d/versions/{version}/rows.parquet")


def test_folders_hold_each_image_by_split_and_class(store) -> None:
    found = files(store, "folders")
    images = {path: data for path, data in found.items() if "/" in path}
    expected = {(row.split, row.class_name, row.image_id): row.content_sha256 for row in rows_of(store)}
    got = {}
    for path, data in images.items():
        split, folder, name = path.split("/")
        got[split, unquote(folder), name.removesuffix(".png")] = sha256(data)
    assert got == expected
    assert {path.split("/")[0] for path in images} == {"train", "validation"}


def test_tables_are_the_published_ones(store) -> None:
    found = files(store, "csv")
    for split in ("train", "validation"):
        lines = list(csv.DictReader(io.StringIO(found[f"{split}.csv"].decode())))
        assert list(lines[0]) == ["filename", "labels"]
        labels = {line["filename"].removesuffix(".png"): ast.literal_eval(line["labels"]) for line in lines}
        assert labels == {row.image_id: [row.class_name] for row in rows_of(store) if row.split == split}
        assert all(f"images/{line['filename']}" in found for line in lines)
    assert b",['a']\n" in found["train.csv"]


@pytest.mark.parametrize("layout", EXPORTS.names())
def test_the_sums_are_those_of_all_other_files(store, layout: str) -> None:
    found = files(store, layout)
    lines = [line.split("  ", 1) for line in found.pop(SUMS).decode().splitlines()]
    assert {path: digest for digest, path in lines} == {path: sha256(data) for path, data in found.items()}
    sealed = {row.image_id for row in read_rows(store, "sealed/datasets/d/rows.parquet")}
    assert sealed
    assert not any(image in path for image in sealed for path in found)


def test_a_scenarios_version_is_exported_alone(store) -> None:
    version = assemble(AssembleRequest(parent="datasets/d", view=View(classes=("a",))), store).name.rsplit("/", 1)[-1]
    found = files(store, "folders", version)
    assert {path.split("/")[1] for path in found if "/" in path} == {"a"}


def test_endings_are_those_of_the_contents(stores, sent, photograph, encode, run_import) -> None:
    formats = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
    rows = [sent(encode(photograph(n), formats[n % 5])) for n in range(25)]
    run_import(stores("assembly"), rows)
    assert {path.rsplit(".")[-1] for path in files(stores("assembly"), "csv") if path.startswith("images/")} == {
        "jpg",
        "png",
        "bmp",
        "tif",
        "webp",
    }


def test_damaged_and_lost_images_are_named(store) -> None:
    row = rows_of(store)[0]
    store.delete(row.uri)
    with pytest.raises(FailedPrecondition, match=row.image_id) as caught:
        files(store, "csv")
    assert caught.value.reason == "CONTENT_MISSING"
    store.put_new(row.uri, b"other")
    with pytest.raises(FailedPrecondition, match=row.image_id) as caught:
        files(store, "csv")
    assert caught.value.reason == "CONTENT_DAMAGED"
    with pytest.raises(NotFound):
        files(store, "csv", "0" * 32)


def test_an_unknown_layout_names_the_nearest(store) -> None:
    with pytest.raises(InvalidArgument, match="layout: 'folder' is no export layout; did you mean folders"):
        files(store, "folder")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=16))
def test_a_folders_name_is_safe_and_gives_the_class_back(name: str) -> None:
    folder = class_folder(name)
    assert unquote(folder) == name
    assert not set(folder) & set("/\\:\0\n")
    assert not folder.startswith(".")
    assert not folder.endswith(".")


def test_a_class_too_long_for_a_folder_is_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        class_folder("é" * 100)
    assert caught.value.reason == "CLASS_NOT_A_FOLDER"
    assert class_folder("e" * 100) == "e" * 100
