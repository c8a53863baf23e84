"""Format "parquet": tables of encoded images, as `datasets` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.client.importers.made_files import encoded, opened, pixels, put, put_dicom

from genaug.shared.errors import InvalidArgument

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(path: Path, columns: dict[str, Any], *, features: dict[str, Any] | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, **options)
    return path


def column(*numbers: int) -> pa.Array:
    return pa.array([{"bytes": encoded(number), "path": f"{number}.png"} for number in numbers], IMAGE)


def refused(path: Path, **options: Any) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        opened("parquet", path, **options)
    return caught.value


def test_the_layout_of_datasets(tmp_path) -> None:
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    for place, side in enumerate(("train", "validation", "test")):
        first = 10 * place
        write(
            tmp_path / f"data/{side}-00000-of-00001-abc.parquet",
            {"image": column(first, first + 1), "label": [1, 0], "age": [7.0, None], "who": ["anna", "ben"]},
            features=features,
        )
    put(tmp_path / "README.md", b"text")
    source = opened("parquet", tmp_path, subject_column="who")
    assert [(image.name, image.class_name, image.subject, image.split) for image in source.images] == [
        ("20.png", "dog", "anna", "test"),
        ("21.png", "cat", "ben", "test"),
        ("0.png", "dog", "anna", "train"),
        ("1.png", "cat", "ben", "train"),
        ("10.png", "dog", "anna", "validation"),
        ("11.png", "cat", "ben", "validation"),
    ]
    assert [image.attributes for image in source.images[:2]] == [{"age": "7"}, {}]
    assert [image.read() for image in source.images] == [encoded(number) for number in (20, 21, 0, 1, 10, 11)]
    assert source.report.passed_over == {".md: no .parquet file": 1}


def test_images_of_many_batches_and_row_groups_are_read_in_any_order(tmp_path) -> None:
    write(
        tmp_path / "x.parquet", {"picture": [encoded(n) for n in range(200)], "label": ["a"] * 200}, row_group_size=70
    )
    images = opened("parquet", tmp_path / "x.parquet").images
    assert images[3].name == "x.parquet row 3"
    for number in (*range(200), 0, 199, 70, 69):
        assert images[number].read() == encoded(number)


def test_a_split_may_be_in_a_folder_s_name(tmp_path) -> None:
    for number, side in enumerate(("train", "valid", "test")):
        write(tmp_path / f"default/{side}/0000.parquet", {"image": column(number), "label": ["a"]})
    assert {image.split for image in opened("parquet", tmp_path).images} == {"train", "validation", "test"}


def test_a_dicom_file_in_a_cell_loses_its_header(tmp_path) -> None:
    dicom = put_dicom(tmp_path / "1.dcm", pixels(1)).read_bytes()
    write(tmp_path / "x.parquet", {"image": [dicom, None], "label": ["a", "b"]})
    first, second = opened("parquet", tmp_path / "x.parquet").images
    assert first.read()[:2] == b"II"
    assert b"Doe" not in first.read()
    assert second.read() == b""


def test_several_labels(tmp_path) -> None:
    features = {"label": [{"names": ["cat", "dog"], "_type": "ClassLabel"}]}
    write(tmp_path / "x.parquet", {"image": column(1), "label": [[1, 0]]}, features=features)
    assert "--multi-label" in refused(tmp_path).message
    (image,) = opened("parquet", tmp_path, multi_label=True).images
    assert (image.class_name, image.attributes["labels"]) == ("dog", "dog; cat")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"image": column(1), "labels": ["a"]}, "no column 'label' of words or numbers; the nearest is 'labels'"),
        ({"image": ["1.png"], "label": ["a"]}, "needs one column of encoded images"),
        (
            {"image": column(1), "mask": column(2), "label": ["a"]},
            "there are image, mask; name it with --filename-column",
        ),
        ({"image": column(1), "label": pa.array([None], pa.string())}, "1 images have no label (x.parquet row 0)"),
        ({"image": column(), "label": pa.array([], pa.string())}, "have no rows"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path, columns: dict[str, Any], said: str) -> None:
    write(tmp_path / "x.parquet", columns)
    assert said in refused(tmp_path).message


def test_a_class_number_without_a_name_is_no_label(tmp_path) -> None:
    # -1 stands for "no label" in the test data of public sets.
    features = {"label": {"names": ["cat"], "_type": "ClassLabel"}}
    write(tmp_path / "x.parquet", {"image": column(1, 2), "label": [0, -1]}, features=features)
    assert "1 images have no label (x.parquet row 1)" in refused(tmp_path).message


def test_one_of_several_images_can_be_named(tmp_path) -> None:
    write(tmp_path / "x.parquet", {"image": column(1), "mask": column(2), "label": ["a"]})
    assert opened("parquet", tmp_path, filename_column="mask").images[0].read() == encoded(2)


def test_files_that_are_none_are_refused(tmp_path) -> None:
    put(tmp_path / "x.parquet", b"no table")
    assert refused(tmp_path).reason == "BAD_ARCHIVE"
    assert refused(tmp_path / "none").reason == "NO_SUCH_FILE"
