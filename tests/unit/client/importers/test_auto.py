"""Format "auto": what a source looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.client.importers.made_files import encoded, put, put_dicom, put_tar
from tests.unit.client.importers.test_importers import ODIR_HEADER
from tests.unit.client.importers.test_parquet import column, write

from genaug.client.importers import open_source
from genaug.schema.run import ImportSpec
from genaug.shared.errors import InvalidArgument


def refused(**options: Any) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        open_source(ImportSpec(format="auto", **options))
    return caught.value


def make(root: Path, kind: str) -> dict[str, str]:
    """Make a source; return the options that name it."""
    if kind == "folder":
        put(root / "a/1.png", encoded(1))
        put(root / "b/2.png", encoded(2))
        put(root / "notes.txt", b"text")
    elif kind == "dicom":
        put_dicom(root / "a/IM0001", np.eye(8, dtype="u1"))
        put_dicom(root / "b/IM0001", np.ones((8, 8), "u1"))
    elif kind == "csv":
        put(root / "img/1.png", encoded(1))
        put(root / "table.csv", b"filename,label\n1.png,a\n")
        return {"csv": str(root / "table.csv"), "images": str(root / "img")}
    elif kind == "flat":
        put(root / "1.png", encoded(1))
        put(root / "table.csv", b"filename,label\n1.png,a\n")
    elif kind == "odir":
        put(root / "1_left.png", encoded(1))
        row = "1,57,Male,normal fundus,normal fundus,1,0,0,0,0,0,0,0,x,['N'],1_left.png"
        put(root / "full_df.csv", f"{ODIR_HEADER}\n{row}\n".encode())
        return {"csv": str(root / "full_df.csv"), "images": str(root)}
    elif kind == "imagefolder":
        put(root / "a/1.png", encoded(1))
        put(root / "metadata.csv", b"file_name,label\na/1.png,a\n")
    elif kind == "parquet":
        write(root / "data/x.parquet", {"image": column(1), "label": ["a"]})
    elif kind == "webdataset":
        put_tar(root / "x.tar", {"1.png": encoded(1), "1.cls": b"0"})
    elif kind == "npz":
        np.savez(root / "x.npz", images=np.ones((1, 8, 8), "u1"), labels=[0])
    elif kind == "npy":
        np.save(root / "images.npy", np.ones((1, 8, 8), "u1"))
        np.save(root / "labels.npy", [0])
    return {"images": str(root)}


@pytest.mark.parametrize(
    ("kind", "format"),
    [
        *((kind, kind) for kind in ("folder", "csv", "odir", "imagefolder", "parquet", "webdataset", "npz")),
        ("dicom", "folder"),
        ("flat", "csv"),
        ("npy", "npz"),
    ],
)
def test_each_source_is_known_by_its_files(tmp_path, kind: str, format: str) -> None:
    source = open_source(ImportSpec(format="auto", **make(tmp_path, kind)))
    assert source.spec.format == format
    assert source.report.notes[0].startswith(f"format {format}: ")
    assert len(source.images) == (2 if format == "folder" else 1)


@pytest.mark.parametrize("name", ["x.npz", "x.tar", "data/x.parquet"])
def test_a_single_file_is_known_by_its_suffix(tmp_path, name: str) -> None:
    formats = {"x.npz": "npz", "x.tar": "webdataset", "data/x.parquet": "parquet"}
    make(tmp_path, formats[name])
    assert open_source(ImportSpec(format="auto", images=str(tmp_path / name))).spec.format == formats[name]


def test_several_formats_are_refused_with_the_candidates(tmp_path) -> None:
    make(tmp_path, "folder")
    make(tmp_path, "npz")
    error = refused(images=str(tmp_path))
    assert error.reason == "AMBIGUOUS_FORMAT"
    assert "choose --format npz (1 .npz files), or --format folder (2 images in 2 folders)" in error.message


def test_a_table_beside_class_folders_is_ambiguous(tmp_path) -> None:
    make(tmp_path, "folder")
    put(tmp_path / "labels.csv", b"x")
    error = refused(images=str(tmp_path))
    assert "--format folder (2 images in 2 folders), or --format csv --csv labels.csv" in error.message


def test_several_tables_beside_images_are_ambiguous(tmp_path) -> None:
    make(tmp_path, "flat")
    put(tmp_path / "more.csv", b"filename,label\n1.png,b\n")
    error = refused(images=str(tmp_path))
    assert "--csv more.csv (1 images and the table more.csv), or --format csv --csv table.csv" in error.message


def test_images_in_no_folder_need_a_table(tmp_path) -> None:
    put(tmp_path / "1.png", encoded(1))
    assert "it holds 1 .png; images need a folder per class, or a table" in refused(images=str(tmp_path)).message
    put(tmp_path / "x/data/a/1.png", encoded(1))
    put(tmp_path / "x/data/b/2.png", encoded(2))
    assert f"such as those of {tmp_path / 'x/data'}, or a table" in refused(images=str(tmp_path / "x")).message


def test_sources_of_no_format_are_refused(tmp_path) -> None:
    assert refused().reason == "NO_FOLDER"
    assert refused(images=str(tmp_path / "none")).reason == "NO_SUCH_FILE"
    assert "no files" in refused(images=str(tmp_path)).message
    put(tmp_path / "x.zip", b"PK")
    assert "1 .zip" in refused(images=str(tmp_path)).message
    assert "unpack it" in refused(images=str(tmp_path / "x.zip")).message
    put(tmp_path / "t.csv", b"filename,label\n")
    assert "--csv" in refused(images=str(tmp_path / "t.csv")).message
