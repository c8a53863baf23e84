"""Alarms of an import, by the command line: a planted shortcut is told, and nothing is where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from tests.servers import Home


def made(folder: Path, *, planted: bool, per_class: int = 60) -> Path:
    """Folders of made images of four classes; planted ones differ in size and format by class."""
    rng = np.random.default_rng(3)
    for number, name in enumerate("abcd"):
        (folder / name).mkdir(parents=True)
        for n in range(per_class):
            kind = number if planted else int(rng.integers(0, 4))
            size = (48, 40) if kind % 2 else (40, 44)
            coarse = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
            image.save(folder / name / f"{name}{n}.{'jpg' if kind < 2 else 'png'}")
    return folder


def test_a_planted_shortcut_is_told_before_and_after_the_import(home: Home, tmp_path: Path) -> None:
    source = ("--format", "folder", "--images", made(tmp_path / "planted", planted=True))
    before = [dataset["name"] for dataset in home.json("dataset", "list")]
    answer = home.json("dataset", "import", "planted", *source, "--dry-run")
    (alarm,) = [alarm for alarm in answer["description"]["alarms"] if alarm["reason"] == "SHORTCUT"]
    assert alarm["sentence"].startswith("width, height and format alone tell the class in 100% (chance 25%")
    assert [dataset["name"] for dataset in home.json("dataset", "list")] == before
    assert "alarm: " in home.run("dataset", "import", "planted", *source, "--dry-run").stdout
    imported = home.run("dataset", "import", "planted", *source)
    assert f"alarm: {alarm['sentence']}" in imported.stderr
    described = home.json("dataset", "describe", "planted")
    assert described == answer["description"]
    taken = home.run("dataset", "import", "planted", *source, "--dry-run")
    assert "note: datasets/planted exists with this content" in taken.stdout


def test_no_shortcut_no_alarm(home: Home, tmp_path: Path) -> None:
    source = ("--format", "folder", "--images", made(tmp_path / "plain", planted=False))
    answer = home.json("dataset", "import", "plain", *source, "--dry-run")
    assert answer["description"].get("alarms", []) == []
    assert "alarm" not in home.run("dataset", "import", "plain", *source).stderr
    assert "no alarms" in home.run("dataset", "describe", "plain").stdout
