"""Another distribution brings one of each extension, found by its entry points, and a run uses them all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.servers import ROOT, Home

RUN_FILE = """
name: extended
dataset: bars
import: {format: bars, split: [0.5, 0.2, 0.3]}
generator: {image_size: 8, plugin: {name: mixup, settings: {weight: 0.6}}}
generation: {rounds: 1}
labeling: {updates: 60, mode: TRUST_PROMPT, classifier: {backbone: GABOR}, second_seed: -1}
scenarios:
  - {name: real}
  - {name: synthetic-x1, synthetic: 1}
evaluation: {updates: 40, seeds: 2, resamples: 200, classifier: {backbone: GABOR}, metrics: [worst_recall]}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home whose processes have the example distribution installed."""
    target = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(target), str(ROOT / "tests" / "plugins")], check=True)
    return Home(tmp_path_factory.mktemp("home"), {"PYTHONPATH": str(target), "GENAUG_EMBEDDED__IDLE_S": "120"})


def test_a_run_uses_one_of_each(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(RUN_FILE)
    run = home.json("run", "create", "-f", file, "--wait")
    assert run["state"] == "STATE_SUCCEEDED"
    assert run["spec"]["generator"]["plugin"] == {"name": "mixup", "settings": {"weight": 0.6}}
    evaluation = home.json("evaluation", "get", run["evaluation"])
    for score in evaluation["scores"]:
        worst = score["metrics"]["worst_recall"]
        assert 0 <= worst["lower"] <= worst["value"] <= worst["upper"] <= 1
        assert worst["value"] <= score["macro_recall"]["value"]
    generator = next(step for step in run["steps"] if step["name"] == "finetune")["results"][0]
    request = ("--generator", generator, "--class", "lies", "--count", "3")
    home.run("images", "generate", *request, "-o", tmp_path / "images")
    assert len(list((tmp_path / "images").rglob("*.png"))) == 3
    home.run("run", "report", run["name"], "-o", tmp_path / "report.html")
    assert "worst recall" in (tmp_path / "report.html").read_text()
    home.run("dataset", "export", "bars", "-o", tmp_path / "out", "--layout", "jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert {row["class"] for row in rows} == {"lies", "stands"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("generator.plugin.settings.weight=0.2", "generator.plugin.settings.weight: 0.2 is not within 0.5 and 0.95"),
        ("generator.plugin.name=mixdown", "did you mean mixup?"),
        ("evaluation.metrics=[best_recall]", "did you mean worst_recall?"),
        (
            "evaluation.classifier.image_size=128",
            "evaluation.classifier.image_size: 128 is not within 8 and 64, the limits of GABOR",
        ),
    ],
)
def test_wrong_settings_are_refused_by_path(home: Home, tmp_path: Path, change: str, words: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(RUN_FILE)
    refused = home.run("run", "create", "-f", file, "--set", change, code=1)
    assert words in refused.stderr
