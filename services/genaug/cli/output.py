"""Output of commands: tables for people, JSON and YAML for programs, progress on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import yaml
from google.protobuf.message import Message
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from genaug.cli.command import printable
from genaug.shared.errors import InvalidArgument
from genaug.shared.protojson import to_dict
from genaug.v1 import classifier_pb2, common_pb2, evaluation_pb2, run_pb2

FORMATS = ("table", "json", "yaml")

Cells = Callable[[Any], Sequence[str]]

# Lines are folded on a terminal alone: files and programs read whole lines.
stdout = Console(highlight=False, width=None if sys.stdout.isatty() else 250)
stderr = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 250)


def notice(line: str) -> None:
    """Print a line such as "note: …" or "alarm: …" on stderr."""
    stderr.print(Text(printable(line)), soft_wrap=True)


def check_format(output: str) -> None:
    """Refuse an unknown `-o` before any work is done."""
    if output not in FORMATS:
        raise InvalidArgument(f"-o {output!r}: choose {', '.join(FORMATS)}", reason="BAD_FORMAT")


def show(message: Message, output: str, table: Callable[[], RenderableType]) -> None:
    """Print one message."""
    check_format(output)
    if output == "table":
        stdout.print(table())
    else:
        show_plain(to_dict(message), output)


def show_list(messages: Iterable[Any], output: str, *, columns: Sequence[str], cells: Cells) -> None:
    """Print a list of messages: a row each, or a list of objects."""
    check_format(output)
    listed = list(messages)
    if output == "table":
        stdout.print(make_table(columns, (cells(message) for message in listed)))
    else:
        show_plain([to_dict(message) for message in listed], output)


def show_plain(value: Any, output: str) -> None:
    """Print plain JSON or YAML."""
    text = (
        json.dumps(value, indent=2) if output == "json" else yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    )
    sys.stdout.write(text.rstrip() + "\n")


def make_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table without frames, with numbers right-aligned."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    listed = [list(row) for row in rows]
    for index, column in enumerate(columns):
        numbers = bool(listed) and all(row[index][:1] in "+-0123456789" for row in listed if row[index])
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in listed:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def titled(title: str, table: Table, *, below: str = "") -> RenderableType:
    """Return a table under a title, which is not folded to the table's width."""
    return Group(Text(printable(title), style="bold"), table, *([Text(printable(below))] if below else []))


def state_word(state: int) -> str:
    """Return a run's state as text, such as "running" for STATE_RUNNING."""
    return run_pb2.Run.State.Name(state).removeprefix("STATE_").lower()


def counts_text(counts: Iterable[common_pb2.ClassCount]) -> str:
    """Return class counts as text, such as "0: 12, 1: 30"."""
    return ", ".join(f"{count.class_name}: {count.count}" for count in counts)


def estimate_text(estimate: evaluation_pb2.Estimate, *, sign: bool = False) -> str:
    """Return an estimate as text, such as "0.812 (0.790 to 0.834)"."""
    form = "+.3f" if sign else ".3f"
    return f"{estimate.value:{form}} ({estimate.lower:{form}} to {estimate.upper:{form}})"


def evaluation_table(evaluation: evaluation_pb2.Evaluation) -> RenderableType:
    """Return the table of scenarios with their intervals."""
    differences = {c.scenario: c for c in evaluation.comparisons if c.reference == evaluation.scores[0].scenario}
    rows = []
    for score in evaluation.scores:
        comparison = differences.get(score.scenario)
        rows.append(
            (
                score.scenario,
                str(score.training_images),
                estimate_text(score.macro_recall),
                estimate_text(score.accuracy),
                estimate_text(comparison.difference, sign=True) if comparison else "",
                _outcome(comparison.outcome) if comparison else "reference",
            )
        )
    columns = ("scenario", "images", "macro recall (95 %)", "accuracy (95 %)", "difference (adjusted)", "outcome")
    folds = evaluation.spec.evaluation.folds
    kind = f"images of {folds} outer folds" if folds > 1 else "sealed images"
    scored = f"{evaluation.test_images} {kind} of {evaluation.test_subjects} subjects"
    title = f"{scored}, scored by {_network(evaluation)}"
    below = "\n".join(filter(None, (_shortfall_line(evaluation), _probe_line(evaluation))))
    return titled(title, make_table(columns, rows), below=below)


def _network(evaluation: evaluation_pb2.Evaluation) -> str:
    """Return the evaluator as text, such as "EFFICIENTNET_LITE0 (frozen)"."""
    classifier = evaluation.spec.evaluation.classifier
    tuning = classifier_pb2.ClassifierSpec.Tuning.Name(classifier.tuning).removeprefix("TUNING_")
    return f"{classifier.backbone} ({tuning.lower().replace('_', '-')})"


def _shortfall_line(evaluation: evaluation_pb2.Evaluation) -> str:
    short = [
        f"{score.scenario} has {score.made_images} of {score.made_images + score.missing_images} made images"
        for score in evaluation.scores
        if score.missing_images
    ]
    return f"short of their dose: {', '.join(short)}" if short else ""


def _probe_line(evaluation: evaluation_pb2.Evaluation) -> str:
    if not evaluation.HasField("reference_probe"):
        return ""
    return f"reference probe on the same rows: {estimate_text(evaluation.reference_probe.macro_recall)}"


def _outcome(outcome: int) -> str:
    word = evaluation_pb2.Verdict.Outcome.Name(outcome)
    return word.removeprefix("OUTCOME_").replace("_", " ").lower()


def run_table(run: run_pb2.Run, *, below: str = "") -> RenderableType:
    """Return the table of a run's steps."""
    rows = []
    for step in run.steps:
        done = f"{step.progress.done}/{step.progress.total} {step.progress.unit}" if step.progress.total else ""
        seconds = f"{step.seconds:.1f}" if step.seconds else ""
        rows.append((step.name, state_word(step.state), done, seconds, str(step.reused) if step.reused else ""))
    title = f"{run.name}  {state_word(run.state)}"
    return titled(title, make_table(("step", "state", "progress", "seconds", "reused"), rows), below=below)


def duration(seconds: float) -> str:
    """Return seconds as text, such as "45 s", "3 min 20 s" or "2 h 5 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class RunProgress:
    """Display of a run in progress: a live table on a terminal, else a line per change."""

    def __init__(self) -> None:
        self._live = Live(console=stderr, refresh_per_second=8) if stderr.is_terminal else None
        self._seen: dict[str, int] = {}
        self._last = 0.0

    def __enter__(self) -> RunProgress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, run: run_pb2.Run) -> None:
        """Display the current state of a run."""
        if self._live:
            self._live.update(self._table(run))
            return
        for step in run.steps:
            if self._seen.get(step.name) != step.state and step.state != run_pb2.Run.STATE_PENDING:
                self._seen[step.name] = step.state
                seconds = f" in {step.seconds:.1f} s" if step.seconds else ""
                stderr.print(f"{run.name}: {step.name} {state_word(step.state)}{seconds}")
            elif step.state == run_pb2.Run.STATE_RUNNING and time.monotonic() - self._last > 10:
                self._last = time.monotonic()
                stderr.print(f"{run.name}: {step.name} {self._how_far(step)}")

    def _table(self, run: run_pb2.Run) -> RenderableType:
        at_work = [step for step in run.steps if step.state == run_pb2.Run.STATE_RUNNING]
        return run_table(run, below="".join(f"{step.name}: {self._how_far(step)}" for step in at_work))

    def _how_far(self, step: run_pb2.Step) -> str:
        progress = step.progress
        if not progress.total:
            # A note may come before any count, such as why a Job's pod does not start.
            return progress.note or "at work"
        left = f", about {duration(progress.seconds_left)} left" if progress.seconds_left else ""
        note = f" ({progress.note})" if progress.note else ""
        return f"{progress.done}/{progress.total} {progress.unit}{left}{note}"


class DrawProgress:
    """Display of drawing progress: a bar on a terminal, else a line every ten seconds."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=stderr, transient=True) if stderr.is_terminal else None
        self._task = self._bar.add_task("starting", total=None, status="") if self._bar else None
        self._position = 0
        self._last = time.monotonic()

    def __enter__(self) -> DrawProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, progress: common_pb2.Progress) -> None:
        """Display `progress`."""
        waiting = progress.queue_position > 0
        status = _images_drawn(progress)
        if self._bar and self._task is not None:
            # Steps advance between images too; generators of transforms have none.
            done, total = (
                (progress.steps, progress.steps_total) if progress.steps_total else (progress.done, progress.total)
            )
            self._bar.update(
                self._task,
                description="waiting" if waiting else "drawing",
                completed=done,
                total=None if waiting else total or None,
                status=status,
            )
        elif (waiting and progress.queue_position != self._position) or time.monotonic() - self._last > 10:
            self._last = time.monotonic()
            stderr.print(f"{'waiting' if waiting else 'drawing'}: {status}")
        self._position = progress.queue_position


def _images_drawn(progress: common_pb2.Progress) -> str:
    """Return progress as text: "3/16 images, 60/320 steps", or "2 requests before it" in the queue."""
    if progress.queue_position:
        return f"{progress.queue_position} request{'s' * (progress.queue_position > 1)} before it"
    steps = f", {progress.steps}/{progress.steps_total} steps" if progress.steps_total else ""
    return f"{progress.done}/{progress.total} images{steps}"
