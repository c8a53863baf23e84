"""Curves of a report: dose, ROC, reliability, losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from genaug.evaluation.report.curves import Axis, Series, around, legend, plot
from genaug.evaluation.report.generator_text import train_steps
from genaug.schema.evaluation import Evaluation
from genaug.schema.generators import Generator

# Intervals of a fine-tuning, with one stored loss each: `genaug.generation.training.loop.INTERVALS`.
_INTERVALS = 20
_SHARE = {"low": 0.0, "high": 100.0}
# Share of all images below which a bin of probability is not shown.
_FEWEST_SHARE = 0.01


@dataclass(frozen=True)
class RocChart:
    """ROC curves of one class."""

    class_name: str
    plot: Markup
    legend: Markup


@dataclass(frozen=True)
class ReliabilityChart:
    """Reliability diagram of one scenario."""

    scenario: str
    plot: Markup
    calibration_error: float


@dataclass(frozen=True)
class LossChart:
    """Losses of one training."""

    plot: Markup
    legend: Markup


def dose_chart(evaluation: Evaluation) -> Markup | None:
    """Macro recall against dose; None without a curve."""
    curve = evaluation.saturation
    if not curve:
        return None
    values = [recall.value for recall in curve.macro_recalls]
    points = tuple((dose, 100 * value) for dose, value in zip(curve.doses, values, strict=True))
    whiskers = tuple((100 * recall.lower, 100 * recall.upper) for recall in curve.macro_recalls)
    series = Series("macro recall", points, "synthetic", whiskers, mark=values.index(max(values)))
    listed = "; ".join(f"×{dose:g}: {value:.1f}" for dose, value in points)
    return plot(
        [series],
        x=around(curve.doses, label="dose: generated images per real one"),
        y=around([end for pair in whiskers for end in pair], label="macro recall, %"),
        title=f"Macro recall in percent by dose, with 95 % intervals. {listed}.",
    )


def shown_scenarios(evaluation: Evaluation, kinds: Mapping[str, str], *, reference: str) -> list[str]:
    """Scenarios with shown curves: the reference, and the best of each kind that makes images."""
    recalls = {score.scenario: score.macro_recall.value for score in evaluation.scores}
    best = [
        max(names, key=lambda name: recalls[name])
        for kind in ("synthetic", "transformed")
        if (names := [name for name in recalls if kinds.get(name) == kind])
    ]
    return [reference, *best]


def roc_charts(evaluation: Evaluation, kinds: Mapping[str, str], shown: Sequence[str]) -> list[RocChart]:
    """One plot per class: sensitivity against false positive rate of each shown scenario."""
    scores = [score for score in evaluation.scores if score.scenario in shown and score.classes]
    charts = []
    for index, first in enumerate(scores[0].classes if scores else ()):
        series = [
            Series(score.scenario, _even(score.classes[index].roc), kinds.get(score.scenario, "real"))
            for score in scores
        ]
        areas = ", ".join(f"{score.scenario} {score.classes[index].auc:.3f}" for score in scores)
        curve = plot(
            series,
            x=Axis("false positives, %", **_SHARE),
            y=Axis("sensitivity, %", **_SHARE),
            title=f"ROC curve of class {first.class_name} against the rest. Areas: {areas}.",
            diagonal=True,
        )
        charts.append(RocChart(first.class_name, curve, legend(series)))
    return charts


def reliability_charts(
    evaluation: Evaluation, kinds: Mapping[str, str], shown: Sequence[str]
) -> list[ReliabilityChart]:
    """One plot per shown scenario: accuracy against confidence."""
    charts = []
    for score in evaluation.scores:
        # A handful of images would draw a peak that means nothing.
        bins = [each for each in score.reliability if each.share >= _FEWEST_SHARE]
        if score.scenario not in shown or not bins:
            continue
        points = tuple((100 * each.confidence, 100 * each.accuracy) for each in bins)
        kind = kinds.get(score.scenario, "real")
        curve = plot(
            [Series(score.scenario, points, kind, tuple((accuracy, accuracy) for _, accuracy in points))],
            x=Axis("probability given, %", **_SHARE),
            y=Axis("labelled right, %", **_SHARE),
            title=f"Reliability of {score.scenario}: "
            + "; ".join(f"{x:.0f} % sure, {y:.0f} % right" for x, y in points)
            + ".",
            diagonal=True,
        )
        charts.append(ReliabilityChart(score.scenario, curve, score.calibration_error))
    return charts


def loss_chart(generator: Generator) -> LossChart | None:
    """Training and held-out loss over the updates; None for a generator that does not learn."""
    losses = generator.losses
    if not losses:
        return None
    updates = train_steps(generator) or len(losses)
    # A training that stopped early has the first of its intervals.
    intervals = min(_INTERVALS, updates) if generator.stopped_at else len(losses)
    series = [
        Series(label, tuple((updates * (i + 1) / intervals, value) for i, value in enumerate(values)), kind)
        for label, kind, values in (
            ("training", "real", losses),
            ("held out", "synthetic", generator.held_out_losses),
        )
        if values
    ]
    curve = plot(
        series,
        x=Axis("updates", 0.0, float(updates)),
        y=around([value for line in series for _, value in line.points], label="denoising loss"),
        title="Denoising loss over the updates: "
        + "; ".join(f"{line.label} from {line.points[0][1]:.4f} to {line.points[-1][1]:.4f}" for line in series)
        + ".",
    )
    return LossChart(curve, legend(series))


def _even(values: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Values at even places from 0 to 1, both in percent."""
    return tuple((100 * i / (len(values) - 1), 100 * value) for i, value in enumerate(values))
