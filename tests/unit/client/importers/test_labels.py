"""Labels of tables: one-hot columns, several in a cell, several rows of one file."""

from __future__ import annotations

from pathlib import Path

import pytest

from genaug.client.importers import Source, open_source
from genaug.schema.run import ImportSpec
from genaug.shared.errors import InvalidArgument
from genaug.shared.manifest import Row, view_rows


def source(folder: Path, text: str, **options: object) -> Source:
    (folder / "t.csv").write_text(text, "utf-8")
    for number in range(1, 9):
        (folder / f"{number}.png").touch()
    return open_source(ImportSpec(format="csv", csv=str(folder / "t.csv"), **options))


def refusal(folder: Path, text: str, **options: object) -> str:
    with pytest.raises(InvalidArgument) as caught:
        source(folder, text, **options)
    return caught.value.message


ONE_HOT = "filename,A,B,normal\n1.png,1,0,no\n2.png,TRUE,yes,0\n3.png,0.0,false,1.0\n"


def test_one_hot_columns(tmp_path) -> None:
    columns = ("A", "B", "normal")
    said = refusal(tmp_path, ONE_HOT, class_columns=columns)
    assert "several class columns are 1 in 1 row (line 3)" in said
    assert "--multi-label" in said
    images = source(tmp_path, ONE_HOT, class_columns=columns, multi_label=True).images
    assert [image.class_name for image in images] == ["A", "A", "normal"]
    assert images[1].attributes == {"multi_disease": "true", "primary_class": "A", "labels": "A; B"}
    assert images[2].attributes == {"multi_disease": "false", "primary_class": "normal", "labels": "normal"}


def test_one_hot_rows_without_a_class_or_with_odd_cells(tmp_path) -> None:
    columns = ("A", "B")
    assert "add a column" in refusal(tmp_path, ONE_HOT.replace("TRUE,yes", "1,0"), class_columns=columns)
    assert "A is neither 1, true, yes nor 0, false, no ('', '-1')" in refusal(
        tmp_path, "filename,A,B\n1.png,-1,1\n2.png,,1\n", class_columns=columns
    )
    assert "class_column" in refusal(tmp_path, ONE_HOT, class_columns=columns, class_column="B")
    assert "single column" in refusal(tmp_path, ONE_HOT, class_columns=("A",))


LISTS = "filename,label\n1.png,A|B\n2.png,B\n3.png,C; A\n4.png,C\n"


def test_several_labels_in_a_cell(tmp_path) -> None:
    said = refusal(tmp_path, LISTS)
    assert "lists several labels ('A|B', 'C; A') in 2 rows (lines 2, 4)" in said
    assert "--multi-label" in said
    images = source(tmp_path, LISTS, multi_label=True).images
    assert [(image.class_name, image.attributes["labels"]) for image in images] == [
        ("A", "A; B"),
        ("B", "B"),
        ("C", "C; A"),
        ("C", "C"),
    ]


def test_cells_are_lists_if_their_parts_occur_again(tmp_path) -> None:
    assert "'A|B', 'B|C'" in refusal(tmp_path, "filename,label\n1.png,A|B\n2.png,B|C\n")
    kept = source(tmp_path, "filename,label\n1.png,grade 1|2\n2.png,high; low\n3.png,other\n")
    assert [image.class_name for image in kept.images] == ["grade 1|2", "high; low", "other"]
    # A comma is a part of many names; a list is said, and never read as one.
    kept = source(tmp_path, 'filename,label\n1.png,"melanoma, in situ"\n2.png,melanoma\n')
    assert kept.images[0].class_name == "melanoma, in situ"
    for multi_label in (False, True):
        text = 'filename,label\n1.png,"A,B"\n2.png,B\n3.png,A\n'
        assert "put | between" in refusal(tmp_path, text, multi_label=multi_label)


def test_printed_lists_are_read_and_noted(tmp_path) -> None:
    text = 'filename,label\n1.png,[\'G\']\n2.png,"[\'C\', ""B""]"\n'
    assert "lists several labels" in refusal(tmp_path, text)
    assert "names no class ('[]')" in refusal(tmp_path, "filename,label\n1.png,[]\n2.png,['G']\n")
    result = source(tmp_path, text, multi_label=True)
    assert [image.attributes["labels"] for image in result.images] == ["G", "C; B"]
    assert "label holds lists, such as ['G']" in result.report.notes[0]
    single = source(tmp_path, 'filename,label\n1.png,[\'G\']\n2.png,"[""a, b""]"\n')
    assert [image.class_name for image in single.images] == ["G", "a, b"]


def test_policies_of_several_diseases_hold_for_a_table(tmp_path) -> None:
    rows = [
        Row(image.name, "", "", "", image.class_name, "train", attributes=image.attributes)
        for image in source(tmp_path, LISTS, multi_label=True).images
    ]
    assert [row.image_id for row in view_rows(rows, classes=(), multi_disease="EXCLUDE")] == ["2.png", "4.png"]
    assert [row.class_name for row in view_rows(rows, classes=(), multi_disease="PRIMARY")] == ["A", "B", "C", "C"]


@pytest.mark.parametrize("word", ["", "nan", "None", "NULL", "N/A", "#N/A", "na", "?", "-"])
def test_cells_that_name_no_class_are_refused(tmp_path, word: str) -> None:
    said = refusal(tmp_path, f"filename,label\n1.png,a\n2.png,{word}\n")
    assert f"label names no class ({word!r}) in 1 row (line 3); name the class, or delete the rows" in said
    assert "line 3" in refusal(tmp_path, f"filename,label\n1.png,a\n2.png,{word}|{word}\n", multi_label=True)


OBJECTS = (
    "filename,label,who,xmin,xmax\n"
    "1.png,rbc,p,1,2\n1.png,rbc,p,3,4\n2.png,rbc,p,5,6\n2.png,rbc,p,7,6\n3.png,rbc,q,1,1\n3.png,rbc,q,2,2\n4.png,wbc,q,,\n"
)


def test_rows_of_objects_are_joined_and_counted(tmp_path) -> None:
    result = source(tmp_path, OBJECTS, subject_column="who")
    assert [(image.name, image.subject, image.attributes) for image in result.images] == [
        ("1.png", "p", {}),
        ("2.png", "p", {}),
        ("3.png", "q", {}),
        ("4.png", "q", {}),
    ]
    assert "7 rows name 4 files; rows of one file are joined" in result.report.notes
    assert "columns that differ between the rows of a file are left out: xmax, xmin" in result.report.notes


def test_rows_of_one_file_with_several_labels(tmp_path) -> None:
    text = "filename,label\n1.png,a\n2.png,b\n1.png,b\n1.png,a\n"
    said = refusal(tmp_path, text)
    assert "the label of one file differs in 3 rows (lines 2, 4, 5)" in said
    assert "--multi-label" in said
    first, second = source(tmp_path, text, multi_label=True).images
    assert (first.name, first.attributes["labels"], second.attributes["labels"]) == ("1.png", "a; b", "b")


@pytest.mark.parametrize(
    ("column", "options"), [("who", {"subject_column": "who"}), ("side", {"split_column": "side"}), ("age", {})]
)
def test_rows_of_one_file_must_agree(tmp_path, column: str, options: dict[str, object]) -> None:
    values = {"who": ("p", "q"), "side": ("train", "test"), "age": ("57", "75")}[column]
    rows = "".join(f"{n},1.png,a,{value}\n" for n, value in enumerate(values))
    said = refusal(tmp_path, f",filename,label,{column}\n{rows}", **options)
    assert "of one file differs in 2 rows (lines 2, 3)" in said
    same = f",filename,label,{column}\n" + "".join(f"{n},1.png,a,{values[0]}\n" for n in range(2))
    assert len(source(tmp_path, same, **options).images) == 1


def test_a_column_with_the_name_of_an_attribute_of_ours(tmp_path) -> None:
    assert "rename" in refusal(tmp_path, "filename,label,labels\n1.png,a,b\n", multi_label=True)
