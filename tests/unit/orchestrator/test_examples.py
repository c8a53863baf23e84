"""Every run file that is handed out is read and completed as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from genaug.orchestrator.spec import complete, complete_evaluation
from genaug.schema.runfile import load_yaml, parse_spec
from genaug.shared.protojson import to_dict
from genaug.v1 import evaluation_pb2, run_pb2

EXAMPLES = Path(__file__).parents[3] / "examples"
ODIR = {
    "name": "datasets/odir",
    "digest": "d",
    "median_side": 256,
    "channels": 3,
    "folds": 5,
    "training": [{"class_name": name, "count": 60} for name in "ACDGHMNO"],
}
DIGITS = ODIR | {"median_side": 8, "training": [{"class_name": name, "count": 60} for name in "0123456789"]}


RUN_FILES = sorted(set(EXAMPLES.glob("*.yaml")) - {EXAMPLES / "evaluation.yaml"})


@pytest.mark.parametrize("file", RUN_FILES, ids=lambda path: path.name)
def test_examples_are_complete(file: Path) -> None:
    spec = to_dict(parse_spec(load_yaml(file.read_text()), run_pb2.RunSpec))
    source = spec.pop("import")
    assert complete(spec, DIGITS if source["format"] == "digits" else ODIR)["name"] == file.stem


def test_the_evaluation_file_is_complete() -> None:
    spec = parse_spec(load_yaml((EXAMPLES / "evaluation.yaml").read_text()), evaluation_pb2.EvaluationSpec)
    assert complete_evaluation(to_dict(spec)["evaluation"], DIGITS)["seeds"] == 3


@pytest.mark.parametrize("classes", ["5", "7"])
def test_the_published_scenarios_are_there(classes: str) -> None:
    spec = load_yaml((EXAMPLES / f"odir-{classes}class.yaml").read_text())
    doses = {one.get("synthetic", 0) for one in spec["scenarios"]}
    assert doses >= ({0, 0.5, 1, 1.5, 2, 4} if classes == "5" else {0, 1, 2})
    assert {one.get("transformed", 0) for one in spec["scenarios"]} >= ({1, 2} if classes == "5" else {2})
    assert spec["evaluation"]["classifier"] == {"backbone": "VGG19", "tuning": "FINE_TUNED", "head": "PUBLISHED"}
