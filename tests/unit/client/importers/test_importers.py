"""Readers of source formats: what they read, and what they say when they cannot."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from genaug.client.importers import open_source
from genaug.schema.run import ImportSpec, OnConflict
from genaug.shared.errors import FailedPrecondition, GenaugError, InvalidArgument
from genaug.vision.images.pixels import decode

ODIR_HEADER = (
    "ID,Patient Age,Patient Sex,Left-Diagnostic Keywords,Right-Diagnostic Keywords,N,D,G,C,A,H,M,O,"
    "filepath,labels,filename"
)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def refused(options: ImportSpec) -> GenaugError:
    with pytest.raises(InvalidArgument) as caught:
        list(open_source(options).images)
    return caught.value


def test_the_digits_are_real_and_need_no_scikit_learn_import() -> None:
    loaded = "sklearn" in sys.modules
    images = list(open_source(ImportSpec(format="digits", keep={"0": 40, "7": 3})).images)
    counts = Counter(image.class_name for image in images)
    assert (counts["0"], counts["7"], counts["1"], len(counts)) == (40, 3, 182, 10)
    pixels = decode(images[0].read())
    assert pixels.shape == (8, 8, 1)
    # The first zero of the data set, row 1: 0 0 5 13 9 1 0 0, of 16.
    assert pixels[0, :, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]
    assert {image.subject for image in images} == {""}
    assert ("sklearn" in sys.modules) == loaded


def test_the_digits_say_when_they_are_not_there(monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FailedPrecondition, match="scikit-learn"):
        list(open_source(ImportSpec(format="digits")))


@pytest.mark.parametrize("keep", [{"ten": 3}, {"0": -1}, {"0": 179}])
def test_impossible_counts_of_digits_are_refused(keep: dict[str, int]) -> None:
    assert refused(ImportSpec(format="digits", keep=keep)).message.startswith("keep:")


def test_an_unknown_format_names_the_nearest() -> None:
    assert "did you mean odir" in refused(ImportSpec(format="odri")).message


def test_options_of_other_formats_are_refused() -> None:
    assert refused(ImportSpec(format="folder", images=".", keep={"0": 1})).message.startswith("keep:")


def test_a_folder_per_class(tmp_path) -> None:
    touch(tmp_path, "b/2_x.png", "b/deep/er/1_y.JPG", "a/3_z.gif", "a/.hidden.png", ".git/4_a.png", "a/notes.txt")
    images = list(open_source(ImportSpec(format="folder", images=str(tmp_path), subject_regex=r"^(\d+)_")).images)
    assert [(i.name, i.class_name, i.subject) for i in images] == [
        ("a/3_z.gif", "a", "3"),
        ("b/2_x.png", "b", "2"),
        ("b/deep/er/1_y.JPG", "b", "1"),
    ]
    assert images[2].read() == b"b/deep/er/1_y.JPG"


def test_what_is_wrong_with_a_folder_is_said(tmp_path) -> None:
    options = ImportSpec(format="folder", images=str(tmp_path))
    assert refused(ImportSpec(format="folder", images=str(tmp_path / "none"))).reason == "NO_SUCH_FOLDER"
    assert refused(ImportSpec(format="folder")).reason == "NO_FOLDER"
    assert refused(options).reason == "NO_IMAGES"
    touch(tmp_path, "a/patient7.png", "patient8.png")
    assert refused(options).reason == "NO_CLASS"
    (tmp_path / "patient8.png").unlink()
    for regex in ("(", "patient", "(x)"):
        error = refused(ImportSpec(format="folder", images=str(tmp_path), subject_regex=regex))
        assert error.message.startswith("subject_regex")
        # Only a file that has no subject is named.
        assert ("patient7" in error.message) == (error.reason == "NO_SUBJECT")


def csv_options(tmp_path: Path, text: str, **options: object) -> ImportSpec:
    (tmp_path / "table.csv").write_text(text, encoding="utf-8-sig")
    return ImportSpec(format="csv", csv=str(tmp_path / "table.csv"), **options)


def test_a_table_of_any_make(tmp_path) -> None:
    touch(tmp_path, "img/1.png", "img/2.png")
    options = csv_options(
        tmp_path,
        "file;kind;who;side;age\nimg/1.png;cat;anna;TRAIN;3\nimg/2.png;dog;ben;val;\n",
        filename_column="file",
        class_column="kind",
        subject_column="who",
        split_column="side",
    )
    one, two = open_source(options).images
    assert (one.name, one.class_name, one.subject, one.split, one.attributes) == (
        "img/1.png",
        "cat",
        "anna",
        "train",
        {"age": "3"},
    )
    assert (two.split, two.attributes, two.read()) == ("validation", {}, b"img/2.png")


def test_a_missing_column_names_the_nearest(tmp_path) -> None:
    error = refused(csv_options(tmp_path, "filename,labels\nx,y\n"))
    assert "no column 'label'; the nearest is 'labels'" in error.message
    # All that is missing at once, and the options that name other columns.
    message = refused(csv_options(tmp_path, "q\nx\n")).message
    assert "no column 'filename' and no column 'label'; there are 'q'; choose with --filename-column and" in message
    # Not "Age", whose letters are partly those of "label".
    message = refused(csv_options(tmp_path, "filename,Age,Diagnosis\nx,1,y\n")).message
    assert "there are 'filename', 'Age', 'Diagnosis'; choose with --class-column (or --class-columns)" in message


def test_rows_without_their_image_are_counted_and_given_by_line(tmp_path) -> None:
    rows = "".join(f"patient{n}.png,a\n" for n in range(8))
    touch(tmp_path, "patient3.png")
    error = refused(csv_options(tmp_path, f"filename,label\n{rows}"))
    assert "in 7 rows (lines 2, 3, 4, 6, 7, …)" in error.message
    assert "'patient0.png', 'patient1.png', 'patient2.png', …" in error.message


def test_paths_out_of_the_folder_are_refused(tmp_path) -> None:
    touch(tmp_path, "secret.png", "in/1.png")
    for name in ("../secret.png", "x/../../secret.png", str(tmp_path / "secret.png")):
        error = refused(csv_options(tmp_path, f"filename,label\n1.png,a\n{name},a\n", images=str(tmp_path / "in")))
        assert "1 of these names lead outside the folder" in error.message
        assert "(line 3)" in error.message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "filename,label\n",
        "filename,label\n1.png,\n",
        "filename,label\n1.png\n",
        "filename,label\n\0,\0\n",
        f"filename,label\n{'x' * 5000},a\n",
    ],
)
def test_tables_that_are_none_are_refused(tmp_path, text: str) -> None:
    touch(tmp_path, "1.png")
    refused(csv_options(tmp_path, text))


def odir_options(tmp_path: Path, *rows: str) -> ImportSpec:
    (tmp_path / "full_df.csv").write_text("\n".join([ODIR_HEADER, *rows]), encoding="utf-8-sig")
    return ImportSpec(format="odir", csv=str(tmp_path / "full_df.csv"), images=str(tmp_path / "photos"))


def test_an_odir_eye_has_its_own_label_and_keywords(tmp_path) -> None:
    touch(tmp_path / "photos", "7_right.jpg", "7_left.jpg")
    # The patient's columns say D and C: true of the patient, false of either eye alone.
    keywords = "cataract，lens dust,glaucoma，moderate non proliferative retinopathy"
    row = f"7,57,Female,{keywords},0,1,0,1,0,0,0,0,../input/x.jpg"
    right, left = open_source(odir_options(tmp_path, f"{row},['G'],7_right.jpg", f"{row},['C'],7_left.jpg")).images
    assert (right.class_name, right.subject, left.class_name, left.subject) == ("G", "7", "C", "7")
    assert right.attributes == {
        "laterality": "right",
        "age": "57",
        "sex": "female",
        "keywords": "glaucoma; moderate non proliferative retinopathy",
        "multi_disease": "true",
        "primary_class": "G",
    }
    assert left.attributes["keywords"] == "cataract; lens dust"
    assert (left.attributes["multi_disease"], left.attributes["primary_class"]) == ("false", "C")
    assert left.read() == b"7_left.jpg"


def test_odir_takes_a_split_and_a_regex_for_its_ids(tmp_path) -> None:
    touch(tmp_path / "photos", "7_right.jpg")
    options = odir_options(tmp_path, "A/7,57,Male,a,b,0,0,0,0,0,0,0,0,p,['G'],7_right.jpg,Val")
    table = tmp_path / "full_df.csv"
    table.write_text(table.read_text("utf-8-sig").replace("filename\n", "filename,fold\n"))
    (image,) = open_source(options.model_copy(update={"split_column": "fold", "subject_regex": r"/(\d+)"})).images
    assert (image.split, image.subject) == ("validation", "7")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (",57,Male,a,b,0,0,0,0,0,0,0,0,p,['G'],7_right.jpg", "ID is empty"),
        ("7,57,Male,a,b,0,0,0,0,0,0,0,0,p,\"['G', 'C']\",7_right.jpg", "labels is not one letter"),
        ("7,57,Male,a,b,0,0,0,0,0,0,0,0,p,['X'],7_right.jpg", "labels is not one letter"),
        ("7,57,Male,a,b,0,0,0,0,0,0,0,0,p,['G'],7.jpg", "left or right"),
        ("7,57,Male,a,b,0,0,0,0,0,0,0,0,p,['G'],8_right.jpg", "names no file"),
    ],
)
def test_odd_rows_of_odir_are_refused(tmp_path, row: str, said: str) -> None:
    touch(tmp_path / "photos", "7_right.jpg", "7.jpg")
    assert said in refused(odir_options(tmp_path, row)).message


def test_a_policy_for_conflicts_needs_a_split() -> None:
    with pytest.raises(InvalidArgument, match="on_conflict: the source has no split of its own"):
        open_source(ImportSpec(format="digits", on_conflict=OnConflict.DROP_TRAINING))
