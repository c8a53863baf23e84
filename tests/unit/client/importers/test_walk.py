"""The walk of a source folder: links, loops, litter."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from genaug.client.importers import SourceReport
from genaug.client.importers.walk import find_files
from genaug.shared.errors import InvalidArgument


def names(root: Path, report: SourceReport | None = None) -> list[str]:
    return [path.relative_to(root).as_posix() for path in find_files(root, report or SourceReport())]


def put(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"x")


def test_links_inside_are_followed_once_and_loops_end(tmp_path) -> None:
    put(tmp_path, ".store/1.png", "a/2.png")
    (tmp_path / "b").symlink_to(".store")
    (tmp_path / "a/3.png").symlink_to("../.store/1.png")
    (tmp_path / "a/loop").symlink_to("..")
    (tmp_path / "a/self").symlink_to("self")
    (tmp_path / "again").symlink_to("a")
    report = SourceReport()
    assert names(tmp_path, report) == ["a/2.png", "a/3.png", "b/1.png"]
    assert sorted(report.notes) == [
        "link a/loop: its folder is read under its own name",
        "link again: its folder is read under its own name",
    ]
    assert report.passed_over == {"broken link": 1}


def test_links_that_leave_the_folder_are_refused_with_three_names(tmp_path) -> None:
    put(tmp_path, "secret.png", "out/5.png", "in/a/1.png")
    for number in range(4):
        (tmp_path / f"in/a/link{number}.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "in/b").symlink_to("../out")
    with pytest.raises(
        InvalidArgument, match=r"5 links leave .* \(a/link0.png, a/link1.png, a/link2.png, …\)"
    ) as caught:
        names(tmp_path / "in")
    assert caught.value.reason == "LINK_LEAVES_FOLDER"
    # Even one to a file that is not there: what it becomes later is no matter of this folder.
    for link in tmp_path.glob("in/a/link*"):
        link.unlink()
    (tmp_path / "in/b").unlink()
    (tmp_path / "in/a/gone").symlink_to("/nowhere/x")
    with pytest.raises(InvalidArgument, match="1 link leaves"):
        names(tmp_path / "in")


def test_a_folder_that_is_a_link_itself_is_walked(tmp_path) -> None:
    put(tmp_path, "real/a/1.png")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real/b").symlink_to("a")
    assert names(tmp_path / "link") == ["a/1.png"]


def test_litter_hidden_and_special_files_are_left_out(tmp_path) -> None:
    put(tmp_path, "a/1.png", "a/.DS_Store", "a/Thumbs.db", "__MACOSX/a/._1.png", ".git/x", "a/desktop.ini")
    os.mkfifo(tmp_path / "a/pipe.png")
    report = SourceReport()
    assert names(tmp_path, report) == ["a/1.png"]
    assert report.passed_over == {"special file": 1}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_refused(tmp_path) -> None:
    put(tmp_path, "a/1.png")
    (tmp_path / "a").chmod(0)
    try:
        with pytest.raises(InvalidArgument, match="cannot be read"):
            names(tmp_path)
    finally:
        (tmp_path / "a").chmod(0o700)
