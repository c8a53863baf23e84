"""Format "imagefolder": images with metadata beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.client.importers.made_files import encoded, opened, put

from genaug.shared.errors import InvalidArgument


def refused(path: Path, **options: Any) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        opened("imagefolder", path, **options)
    return caught.value


def lines(*records: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def test_metadata_csv_of_each_side(tmp_path) -> None:
    for number, side in enumerate(("train", "validation", "test")):
        put(tmp_path / side / "img/1.png", encoded(number))
        put(tmp_path / side / "metadata.csv", f"file_name,label,who,age\nimg/1.png,cat,p{number},7\n".encode())
    put(tmp_path / "test/img/surplus.png", encoded(9))
    put(tmp_path / "README.md", b"text")
    source = opened("imagefolder", tmp_path, subject_column="who")
    assert [(i.name, i.class_name, i.subject, i.split, i.attributes) for i in source.images] == [
        ("test/img/1.png", "cat", "p2", "test", {"age": "7"}),
        ("train/img/1.png", "cat", "p0", "train", {"age": "7"}),
        ("validation/img/1.png", "cat", "p1", "validation", {"age": "7"}),
    ]
    assert source.images[1].read() == encoded(0)
    assert source.report.passed_over == {".md: no image": 1, "images without a row of metadata": 1}


def test_metadata_jsonl_with_lists_and_gaps(tmp_path) -> None:
    put(tmp_path / "1.png", encoded(1))
    put(tmp_path / "2.png", encoded(2))
    put(
        tmp_path / "metadata.jsonl",
        lines({"file_name": "1.png", "findings": ["a", "b"], "age": 7.0}, {"file_name": "2.png", "findings": ["b"]}),
    )
    first, second = opened("imagefolder", tmp_path, class_column="findings", multi_label=True).images
    assert (first.class_name, first.attributes["labels"], first.attributes["age"]) == ("a", "a; b", "7")
    assert (second.class_name, "age" in second.attributes) == ("b", False)
    assert "--multi-label" in refused(tmp_path, class_column="findings").message


def test_a_column_may_be_the_split(tmp_path) -> None:
    for number in range(3):
        put(tmp_path / f"{number}.png", encoded(number))
    put(tmp_path / "metadata.csv", b"file_name,label,part\n0.png,a,train\n1.png,a,val\n2.png,a,test\n")
    images = opened("imagefolder", tmp_path, split_column="part").images
    assert [image.split for image in images] == ["train", "validation", "test"]


def test_without_a_class_column_the_folder_is_the_class(tmp_path) -> None:
    put(tmp_path / "cat/1.png", encoded(1))
    put(tmp_path / "dog/2.png", encoded(2))
    put(tmp_path / "metadata.csv", b"file_name,age\ncat/1.png,7\ndog/2.png,8\n")
    images = opened("imagefolder", tmp_path).images
    assert [(image.class_name, image.attributes) for image in images] == [("cat", {"age": "7"}), ("dog", {"age": "8"})]
    assert "no column 'kind'; there are 'file_name', 'age'" in refused(tmp_path, class_column="kind").message


def test_without_metadata_it_is_a_folder_per_class(tmp_path) -> None:
    put(tmp_path / "cat/1.png", encoded(1))
    assert [image.class_name for image in opened("imagefolder", tmp_path).images] == ["cat"]


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (lines({"name": "1.png"}), "line 1 is no JSON object with file_name"),
        (b"{", "line 1 is no JSON object"),
        (b"\n", "has no rows"),
        (lines({"file_name": "../2.png", "label": "a"}), "outside the folder"),
        (lines({"file_name": "2.png", "label": "a"}), "names no file"),
        (lines({"file_name": "1.png"}), "no column 'label'"),
        (lines({"file_name": "1.png", "label": "a"}), "no column 'who'"),
    ],
)
def test_metadata_that_is_none_is_refused(tmp_path, metadata: bytes, said: str) -> None:
    put(tmp_path / "1.png", encoded(1))
    put(tmp_path / "metadata.jsonl", metadata)
    assert said in refused(tmp_path, subject_column="who" if "who" in said else "").message


def test_two_metadata_files_are_refused(tmp_path) -> None:
    put(tmp_path / "metadata.jsonl", b"{}")
    put(tmp_path / "metadata.csv", b"file_name\n")
    assert refused(tmp_path).reason == "SEVERAL_TABLES"
