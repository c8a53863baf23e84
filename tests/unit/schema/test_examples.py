"""Every run file that is handed out is read and completed as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.run_files import dataset_of

from genaug.schema.completion import complete, complete_evaluation
from genaug.schema.evaluation import EvaluationSpec
from genaug.schema.run import RunSpec
from genaug.schema.runfile import load_yaml, parse_spec
from genaug.schema.wire import from_proto
from genaug.v1 import evaluation_pb2, run_pb2

EXAMPLES = Path(__file__).parents[3] / "examples"
ODIR = dataset_of("ACDGHMNO")
DIGITS = dataset_of("0123456789", median_side=8)


RUN_FILES = sorted(set(EXAMPLES.glob("*.yaml")) - {EXAMPLES / "evaluation.yaml"})


@pytest.mark.parametrize("file", RUN_FILES, ids=lambda path: path.name)
def test_examples_are_complete(file: Path) -> None:
    message = parse_spec(load_yaml(file.read_text()), run_pb2.RunSpec)
    dataset = DIGITS if getattr(message, "import").format == "digits" else ODIR
    assert complete(from_proto(RunSpec, message), dataset).name == file.stem


def test_the_evaluation_file_is_complete() -> None:
    spec = parse_spec(load_yaml((EXAMPLES / "evaluation.yaml").read_text()), evaluation_pb2.EvaluationSpec)
    assert complete_evaluation(from_proto(EvaluationSpec, spec).evaluation, DIGITS).seeds == 3


@pytest.mark.parametrize("classes", ["5", "7"])
def test_the_published_scenarios_are_there(classes: str) -> None:
    spec = load_yaml((EXAMPLES / f"odir-{classes}class.yaml").read_text())
    doses = {one.get("synthetic", 0) for one in spec["scenarios"]}
    assert doses >= ({0, 0.5, 1, 1.5, 2, 4} if classes == "5" else {0, 1, 2})
    assert {one.get("transformed", 0) for one in spec["scenarios"]} >= ({1, 2} if classes == "5" else {2})
    assert spec["evaluation"]["classifier"] == {"backbone": "VGG19", "tuning": "FINE_TUNED", "head": "PUBLISHED"}
