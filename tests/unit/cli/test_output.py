from __future__ import annotations

import io

import pytest
from rich.console import Console

from genaug.cli import output
from genaug.cli.output import DrawProgress, RunProgress, evaluation_table
from genaug.v1 import common_pb2, evaluation_pb2, run_pb2


@pytest.mark.parametrize(
    ("far", "said"),
    [
        (
            {"done": 5, "total": 40, "unit": "updates", "seconds_left": 200, "note": "reading images, 512 of 1274"},
            "5/40 updates, about 3 min 20 s left (reading images, 512 of 1274)",
        ),
        ({"note": "waiting for a node: 0/1 nodes are available"}, "waiting for a node: 0/1 nodes are available"),
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


@pytest.mark.parametrize(
    ("far", "said"),
    [
        ({"queue_position": 1, "total": 16}, "waiting: 1 request before it"),
        ({"queue_position": 3, "total": 16}, "waiting: 3 requests before it"),
        (
            {"done": 3, "total": 16, "steps": 60, "steps_total": 320},
            "drawing: 3/16 images, 60/320 steps",
        ),
        ({"done": 3, "total": 16}, "drawing: 3/16 images"),
    ],
)
def test_a_line_of_drawing_says_how_many_images_and_steps_or_who_is_before_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], far: dict, said: str
) -> None:
    monkeypatch.setattr(output, "stderr", Console(stderr=True, width=200))
    shown = DrawProgress()
    for _ in range(2):
        shown.update(common_pb2.Progress(total=16, unit="images"))
    shown._last = -100.0
    shown.update(common_pb2.Progress(**far))
    shown.update(common_pb2.Progress(**far))
    assert capsys.readouterr().err.splitlines() == [said]


@pytest.mark.parametrize("coloured", [True, False])
def test_a_terminal_sees_a_bar_without_colours_where_none_are_wanted(
    monkeypatch: pytest.MonkeyPatch, coloured: bool
) -> None:
    sink = io.StringIO()
    environment = {"TERM": "xterm-256color"} | ({} if coloured else {"NO_COLOR": "1"})
    console = Console(file=sink, width=100, force_terminal=True, _environ=environment)
    monkeypatch.setattr(output, "stderr", console)
    with DrawProgress() as shown:
        shown.update(common_pb2.Progress(queue_position=2, total=16))
        shown._bar.refresh()
        shown.update(common_pb2.Progress(done=3, total=16, steps=60, steps_total=320))
    found = sink.getvalue()
    assert "2 requests before it" in found
    assert "3/16 images, 60/320 steps" in found
    assert ("\x1b[38;5" in found or "\x1b[3" in found) is coloured
