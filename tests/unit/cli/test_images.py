"""`genaug images …` over a server that draws without a model."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.rooms import DrawingRoom, serving
from typer.testing import CliRunner, Result

from genaug.cli import command, images
from genaug.cli.app import app
from genaug.client import Client, DrawnImage
from genaug.shared.errors import FailedPrecondition, InvalidArgument


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_flags", {})


@pytest.fixture
def endpoint() -> Iterator[str]:
    with serving(DrawingRoom()) as address:
        yield address


def generate(endpoint: str, folder: Path, *arguments: str) -> Result:
    line = ["images", "generate", "--endpoint", endpoint, "--generator", "g", "-o", str(folder), *arguments]
    return CliRunner().invoke(app, line)


def test_images_of_several_classes_are_written_with_receipts_and_rejected_draws_counted(
    endpoint: str, tmp_path: Path
) -> None:
    found = generate(endpoint, tmp_path, "--class", "lies", "--class", "on its side", "--count", "3", "--seed", "4")
    assert found.exit_code == 0
    stems = ["lies-4-000000", "lies-4-000001", "on_its_side-4-000000", "on_its_side-4-000001"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{s}.{e}" for s in stems for e in ("png", "json")
    )
    assert json.loads((tmp_path / f"{stems[3]}.json").read_text())["class_name"] == "on its side"
    assert found.stderr.splitlines() == [
        "waiting: 2 requests before it",
        f"{tmp_path}: 4 images with receipts; 2 draws rejected (2 duplicate)",
    ]


def test_classes_whose_files_would_have_one_name_are_refused(endpoint: str, tmp_path: Path) -> None:
    found = generate(endpoint, tmp_path, "--class", "a b", "--class", "a_b")
    assert isinstance(found.exception, InvalidArgument)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flags", [("--profile", "FAST"), ("--precision", "INT8"), ("--format", "GIF")])
def test_words_that_are_none_are_named(endpoint: str, tmp_path: Path, flags: tuple[str, str]) -> None:
    found = generate(endpoint, tmp_path, "--class", "lies", *flags)
    assert isinstance(found.exception, InvalidArgument)
    assert f"{flags[0].removeprefix('--')}: {flags[1]!r} is none of" in found.exception.message


def test_ctrl_c_keeps_what_came_and_says_so(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = images._write_drawn

    def interrupted(folder: Path, image: DrawnImage) -> None:
        if image.receipt.index == 1:
            raise KeyboardInterrupt
        written(folder, image)

    monkeypatch.setattr(images, "_write_drawn", interrupted)
    found = generate(endpoint, tmp_path, "--class", "endless", "--count", "2")
    assert found.exit_code == 130
    assert found.stderr.splitlines()[-1] == f"{tmp_path}: stopped; 1 images with receipts"


@pytest.mark.parametrize("suffix", ["json", "png", "jpg"])
def test_an_image_is_drawn_again_from_its_receipt_or_itself(endpoint: str, tmp_path: Path, suffix: str) -> None:
    generate(endpoint, tmp_path, "--class", "lies", "--format", "JPEG" if suffix == "jpg" else "PNG")
    again = tmp_path / "again.png"
    line = ["images", "regenerate", "--endpoint", endpoint, str(tmp_path / f"lies-0-000000.{suffix}"), "-o", str(again)]
    found = CliRunner().invoke(app, line)
    assert (found.exit_code, found.stderr) == (0, f"{again}: the same pixels\n")
    with Client(endpoint) as client:
        (image,) = client.generate("generators/g", "lies")
    assert again.read_bytes() == image.data


def test_a_file_without_a_receipt_is_named_before_a_server_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENAUG_HOME", str(tmp_path / "home"))
    for name, data in (("a.json", b"{"), ("b.png", b"\x89PNG"), ("c.txt", b"words")):
        path = tmp_path / name
        path.write_bytes(data)
        found = CliRunner().invoke(app, ["images", "regenerate", str(path), "-o", str(tmp_path / "out.png")])
        assert isinstance(found.exception, InvalidArgument)
        assert name in found.exception.message
    assert not (tmp_path / "home").exists()


def test_without_pillow_an_images_receipt_is_asked_for_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "genaug.vision.images.provenance_metadata", None)
    found = CliRunner().invoke(app, ["images", "regenerate", str(path), "-o", str(tmp_path / "out.png")])
    assert isinstance(found.exception, FailedPrecondition)
    assert "pip install genaug[images]" in found.exception.message
