"""`genaug dataset import`: notes and files that are passed over are said before the import begins, alarms after it."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from genaug.cli.datasets import app
from genaug.cli.imports import import_spec
from genaug.client import ImportResult
from genaug.schema.run import ImportSpec
from genaug.shared.errors import FailedPrecondition
from genaug.v1 import dataset_pb2

MADE = ImportResult(dataset_pb2.Dataset(name="datasets/x"), None)


def describe_dataset(name: str, *, page: bool, on_progress) -> tuple[dataset_pb2.DatasetDescription, bytes]:
    assert (name, page) == ("datasets/x", False)
    alarm = dataset_pb2.DatasetDescription.Alarm(reason="SHORTCUT", sentence="width alone tells [the class]")
    return dataset_pb2.DatasetDescription(alarms=[alarm]), b""


def test_notes_and_files_that_are_passed_over_are_said_first(tmp_path, capsys) -> None:
    for name in ("a/1.png", "a/2.psd", "a/3.psd", "a/4.txt", "b/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    sent = {}

    def import_dataset(name, images, **options):
        assert "3 files passed over: 2 .psd: no image, 1 .txt: no image\n" in capsys.readouterr().err
        sent.update(options, images=[image.name for image in images])
        return MADE

    server = SimpleNamespace(import_dataset=import_dataset, describe_dataset=describe_dataset)
    assert import_spec(server, "x", ImportSpec(format="auto", images=str(tmp_path))) == MADE
    assert capsys.readouterr().err == "alarm: width alone tells [the class]\n"
    # The server records the format that was found.
    assert (sent["spec"].format, sent["images"]) == ("folder", ["a/1.png", "b/1.png"])
    assert sent["passed_over"] == {".psd: no image": 2, ".txt: no image": 1}


@pytest.mark.parametrize("format", ["folder", "auto"])
def test_a_guess_is_noted(tmp_path, capsys, format: str) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"x")
    server = SimpleNamespace(import_dataset=lambda *_, **__: MADE, describe_dataset=describe_dataset)
    import_spec(server, "x", ImportSpec(format=format, images=str(tmp_path)))
    noted = "note: format folder: 2 images in 2 folders" in capsys.readouterr().err
    assert noted == (format == "auto")


def test_dropped_files_are_shown_by_name(tmp_path, capsys) -> None:
    for number in range(8):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / f"a/{number}.png").write_bytes(b"%d" % number)
    ids = [hashlib.sha256(b"%d" % number).hexdigest()[:32] for number in range(8)]
    # Row 0 was another file when the dataset was made.
    ids[0] = "0" * 32
    dropped = [
        dataset_pb2.DroppedImage(image_id=ids[row], reason="CONSTANT", detail="one color", row=row, class_name="a")
        for row in range(8)
    ]
    made = ImportResult(dataset_pb2.Dataset(name="datasets/x", dropped=dropped), None)
    server = SimpleNamespace(import_dataset=lambda *_, **__: made, describe_dataset=describe_dataset)
    import_spec(server, "x", ImportSpec(format="folder", images=str(tmp_path)))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dropped")]
    assert [line.split()[1] for line in lines] == ["a/1.png", "a/2.png", "a/3.png", "a/4.png", "3"]
    assert lines[0] == "dropped: a/1.png (row 1): CONSTANT, one color"


def test_the_options_of_an_import_are_in_sections() -> None:
    text = CliRunner().invoke(app, ["import", "--help"]).output
    sections = ["\nArguments:", "\nOptions:", "--format", "--dry-run", "\nColumns (csv", "\nSubjects and split:"]
    places = [text.index(section) for section in sections]
    assert places == sorted(places)


def test_an_import_has_succeeded_though_its_description_fails(tmp_path, capsys) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").write_bytes(b"x")

    def failing(name: str, **_: object) -> None:
        raise FailedPrecondition("an image is lost")

    server = SimpleNamespace(import_dataset=lambda *_, **__: MADE, describe_dataset=failing)
    assert import_spec(server, "x", ImportSpec(format="folder", images=str(tmp_path))) == MADE
    assert "note: datasets/x is imported, and could not be described: an image is lost" in capsys.readouterr().err
