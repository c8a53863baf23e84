"""Format "folder": classes, sides of a split, subjects."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.client.importers.made_files import encoded, opened, put

from genaug.schema.run import NoSubject
from genaug.shared.errors import InvalidArgument


def fill(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        put(root / name, encoded(number))
    return root


def refused(root: Path, **options) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        opened("folder", root, **options)
    return caught.value


@pytest.mark.parametrize(
    "sides", [("train", "val", "test"), ("Training", "validation", "TESTING"), ("train", "dev", "test")]
)
def test_folders_of_sides_are_a_split(tmp_path, sides: tuple[str, str, str]) -> None:
    fill(tmp_path, *(f"{side}/{name}/deep/1.png" for side in sides for name in ("a", "b")))
    source = opened("folder", tmp_path)
    assert [(image.class_name, image.split) for image in source.images] == sorted(
        [(name, side) for side in ("train", "validation", "test") for name in ("a", "b")],
        key=lambda pair: (sides[("train", "validation", "test").index(pair[1])], pair[0]),
    )
    assert "the source's own split is kept: train 2, validation 2, test 2" in source.report.notes


def test_a_split_without_validation_is_refused_or_left_out(tmp_path) -> None:
    fill(tmp_path, "train/a/1.png", "train/b/2.png", "test/a/3.png")
    error = refused(tmp_path)
    assert error.reason == "EMPTY_SIDE"
    assert "(train 2, test 1) has no validation" in error.message
    assert "--ignore-split" in error.message
    source = opened("folder", tmp_path, ignore_split=True)
    assert [(image.class_name, image.split) for image in source.images] == [("a", ""), ("a", ""), ("b", "")]
    assert any("left out" in note for note in source.report.notes)


def test_sides_beside_other_folders_are_refused(tmp_path) -> None:
    fill(tmp_path, "train/a/1.png", "test/a/2.png", "extra/a/3.png")
    error = refused(tmp_path)
    assert error.reason == "MIXED_FOLDERS"
    assert "test, train" in error.message
    assert "extra" in error.message


def test_images_in_a_side_without_a_class_are_refused(tmp_path) -> None:
    fill(tmp_path, "train/a/1.png", "val/a/2.png", "test/3.png")
    error = refused(tmp_path)
    assert error.reason == "NO_CLASS"
    assert "1 images lie in test, in no class's folder (such as 3.png)" in error.message


def test_sides_below_other_folders_are_no_classes(tmp_path) -> None:
    fill(tmp_path, "chest_xray/train/a/1.png", "chest_xray/test/a/2.png")
    error = refused(tmp_path)
    assert error.reason == "SPLIT_BELOW_CLASSES"
    assert f"give the folder {tmp_path / 'chest_xray'}" in error.message
    fill(tmp_path, "other/train/1.png")
    assert "put the sides first (test/chest_xray)" in refused(tmp_path).message


def test_sides_may_have_more_in_their_names(tmp_path) -> None:
    fill(tmp_path, "train2017/a/1.png", "val2017/a/2.png", "test_images/a/3.png")
    assert [image.split for image in opened("folder", tmp_path).images] == ["test", "train", "validation"]
    # Without others, the word is part of a class's name.
    fill(tmp_path / "x", "stress test/1.png", "test strip/2.png")
    assert {image.split for image in opened("folder", tmp_path / "x").images} == {""}
    fill(tmp_path / "y", "train2017/1.png", "val2017/2.png")
    assert refused(tmp_path / "y").reason == "NO_CLASS"


def test_images_that_nobody_labelled_are_no_class(tmp_path) -> None:
    fill(tmp_path, "a/1.png", "_unlabeled/2.png")
    assert "those in _unlabeled have no class" in refused(tmp_path).message


def test_a_single_class_is_noted(tmp_path) -> None:
    fill(tmp_path, "data/a/1.png", "data/b/2.png")
    assert (
        "there is one class, data; if its folders are the classes, give it as images"
        in opened("folder", tmp_path).report.notes
    )


def test_a_class_may_have_a_folder_of_a_side_s_name(tmp_path) -> None:
    fill(tmp_path, "a/test/1.png", "b/2.png")
    assert [image.class_name for image in opened("folder", tmp_path).images] == ["a", "b"]


def test_a_regular_expression_that_fails_names_files_and_the_way_out(tmp_path) -> None:
    fill(tmp_path, *(f"a/x{number}.png" for number in range(4)), "a/7_right.png")
    error = refused(tmp_path, subject_regex=r"^(\d+)_")
    assert "in 4 of 5 file names ('x0.png', 'x1.png', 'x2.png', …)" in error.message
    assert "--no-subject own" in error.message
    source = opened("folder", tmp_path, subject_regex=r"^(\d+)_", no_subject=NoSubject.OWN)
    assert [image.subject for image in source.images] == ["7", "", "", "", ""]
    assert any("4 of 5 file names have no subject" in note for note in source.report.notes)
