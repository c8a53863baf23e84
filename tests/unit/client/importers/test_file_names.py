"""File names in tables that are not as in the folder."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from genaug.client.importers import SourceReport
from genaug.client.importers.file_names import match_files
from genaug.client.importers.table import Line
from genaug.shared.errors import InvalidArgument


def match(folder: Path, files: list[str], names: list[str]) -> tuple[list[str], list[str]]:
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    report = SourceReport()
    lines = [Line(number, {"file": name}) for number, name in enumerate(names, 2)]
    paths = match_files(folder, lines, "file", report)
    return [path.relative_to(folder.resolve()).as_posix() for path in paths], report.notes


def refusal(folder: Path, files: list[str], names: list[str]) -> str:
    with pytest.raises(InvalidArgument) as caught:
        match(folder, files, names)
    return caught.value.message


NFD = unicodedata.normalize("NFD", "früh")


@pytest.mark.parametrize(
    ("files", "names", "rule"),
    [
        (["a/1.png", "2.png"], ["./a//1.png", "x/../2.png"], ""),
        (["1.png", "2.png"], ["1.png", "2.PNG"], "other case"),
        (["1.png", f"{NFD}.png"], ["1.png", "früh.png"], "other Unicode form"),
        (["a/1.png", "a/2.png"], ["a\\1.png", "a\\2.png"], "backslashes"),
        (["1.2.3.png", "1.2.4.jpg", "1.2.4.txt"], ["1.2.3", "1.2.4"], "no suffix"),
        (["1.png", "2.png"], ["1.tif", "2.jpeg"], "other suffix"),
        (["a/1.png", "b/1.png"], ["/kaggle/in/a/1.png", "/kaggle/in/b/1.png"], "other folder"),
        (["a/1.png", "b/1.png"], ["D:\\data\\a\\1.png", "D:\\data\\b\\1.png"], "other folder"),
        (["x/1.png", "y/2.png"], ["../input/1.png", "../input/2.png"], "other folder"),
        (["part_1/I1.jpg", "part_2/I2.jpg"], ["I1", "I2"], "no suffix and other folder"),
        (["a/I1.jpg", "a/I2.jpg"], ["C:\\a\\i1", "C:\\a\\i2"], "other case and no suffix and other folder"),
    ],
)
def test_one_rule_finds_all_and_is_noted(tmp_path, files: list[str], names: list[str], rule: str) -> None:
    paths, notes = match(tmp_path, files, names)
    assert paths == files[:2]
    if rule:
        assert f"by rule ({rule})" in notes[0]
    else:
        assert not notes


def test_the_note_counts_the_rows_and_gives_an_example(tmp_path) -> None:
    _, (note,) = match(tmp_path, ["1.png", "2.png"], ["1.png", "2.PNG", "1.PNG"])
    assert "2 of 3 names" in note
    assert "'2.PNG' with '2.png'" in note


def test_an_absolute_path_into_the_folder_is_as_written(tmp_path) -> None:
    assert match(tmp_path, ["a/1.png"], [str(tmp_path / "a/1.png")]) == (["a/1.png"], [])


@pytest.mark.parametrize(
    ("files", "names", "said"),
    [
        # No rule alone finds all: how many each finds, and what none does.
        (
            ["a.png", "b.png", "c.png"],
            ["A.png", "b", "x.png", "y.png"],
            "of 4 names, a rule would find: other case 1, no suffix 1, other suffix 1; no rule finds all; no rule "
            "(case, suffix, folder, backslashes, Unicode form) finds these 2: 'x.png', 'y.png'",
        ),
        # The image of another class, or a second image of the name, is never taken.
        (["a/1.png", "b/2.png"], ["/x/a/1.png", "/x/a/2.png"], "finds these 1"),
        (["a/1.png", "b/1.png"], ["1"], "several files fit 1 of them, such as '1' ('a/1.png', 'b/1.png')"),
        (["1.png", "1.jpg"], ["1"], "several files fit"),
        (["1.png"], ["1.png", "2.png\0"], "finds these 1"),
        (["1.png"], ["1.png", "x" * 5000], "finds these 1"),
    ],
)
def test_what_no_rule_decides_is_refused(tmp_path, files: list[str], names: list[str], said: str) -> None:
    assert said in refusal(tmp_path, files, names)


def test_links_out_of_the_folder_are_no_files_of_it(tmp_path) -> None:
    (tmp_path / "secret.png").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "2.png").touch()
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "1.png").symlink_to(tmp_path / "secret.png")
    (folder / "away").symlink_to(tmp_path / "elsewhere")
    assert "in 2 rows" in refusal(folder, ["3.png"], ["3.png", "1.png", "away/2.png"])


def test_links_inside_the_folder_are_followed(tmp_path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert match(tmp_path, ["real/1.png"], ["link/1.png"]) == (["link/1.png"], [])
