from __future__ import annotations

import io

import pytest
from rich.console import Console

from genaug.cli import output
from genaug.cli.output import RunProgress, evaluation_table
from genaug.v1 import common_pb2, evaluation_pb2, run_pb2


@pytest.mark.parametrize(
    ("far", "said"),
    [
        (
            {"done": 5, "total": 40, "unit": "updates", "seconds_left": 200, "aside": "reading images, 512 of 1274"},
            "5/40 updates, about 3 min 20 s left (reading images, 512 of 1274)",
        ),
        ({"aside": "waiting for a node: 0/1 nodes are available"}, "waiting for a node: 0/1 nodes are available"),
        ({}, "at work"),
    ],
)
def test_a_line_of_progress_says_how_much_how_long_and_what_meanwhile(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], far: dict, said: str
) -> None:
    monkeypatch.setattr(output, "stderr", Console(stderr=True, width=200))
    progress = common_pb2.Progress(**far)
    step = run_pb2.Step(name="train", state=run_pb2.Run.STATE_RUNNING, progress=progress)
    shown = RunProgress()
    shown.update(run_pb2.Run(name="runs/r", steps=[step]))
    shown._last = -100.0
    shown.update(run_pb2.Run(name="runs/r", steps=[step]))
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["runs/r: train running", f"runs/r: train {said}"]


@pytest.mark.parametrize(("missing", "said"), [(0, False), (60, True)])
def test_a_dose_that_was_not_met_is_said_under_the_table(missing: int, said: bool) -> None:
    evaluation = evaluation_pb2.Evaluation(
        scores=[
            evaluation_pb2.ScenarioScore(scenario="real"),
            evaluation_pb2.ScenarioScore(scenario="synthetic-x1", made_images=40, missing_images=missing),
        ]
    )
    console = Console(width=200, file=io.StringIO())
    console.print(evaluation_table(evaluation))
    assert ("short of their dose: synthetic-x1 has 40 of 100 made images" in console.file.getvalue()) is said
