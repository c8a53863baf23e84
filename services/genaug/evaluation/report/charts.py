"""The curves of a report, from its facts: dose, ROC, reliability, losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from genaug.shared.pages.curves import Axis, Series, around, legend, plot

Json = Mapping[str, Any]

# Intervals of a whole fine-tuning whose losses are kept: `genaug.generation.training.loop.INTERVALS`.
_INTERVALS = 20
_SHARE = {"low": 0.0, "high": 100.0}
# Share of all images below which a bin of probability is not shown.
_FEWEST_SHARE = 0.01


def dose_chart(evaluation: Json) -> Markup | None:
    """Macro recall against dose; None where there is no curve."""
    curve = evaluation.get("saturation")
    if not curve:
        return None
    doses, recalls = curve["doses"], curve["macro_recalls"]
    values = [one["value"] for one in recalls]
    points = tuple((dose, 100 * value) for dose, value in zip(doses, values, strict=True))
    whiskers = tuple((100 * one["lower"], 100 * one["upper"]) for one in recalls)
    series = Series("macro recall", points, "synthetic", whiskers, mark=values.index(max(values)))
    said = "; ".join(f"×{dose:g}: {value:.1f}" for dose, value in points)
    return plot(
        [series],
        x=around(doses, label="dose: generated images per real one"),
        y=around([end for pair in whiskers for end in pair], label="macro recall, %"),
        title=f"Macro recall in percent by dose, with 95 % intervals. {said}.",
    )


def shown_scenarios(evaluation: Json, kinds: Mapping[str, str], *, reference: str) -> list[str]:
    """The scenarios whose curves are shown: the reference, and the best of each kind that makes images."""
    scores = {one["scenario"]: one["macro_recall"]["value"] for one in evaluation["scores"]}
    best = [
        max(those, key=lambda name: scores[name])
        for kind in ("synthetic", "transformed")
        if (those := [name for name in scores if kinds.get(name) == kind])
    ]
    return [reference, *best]


def roc_charts(evaluation: Json, kinds: Mapping[str, str], shown: Sequence[str]) -> list[dict[str, Any]]:
    """One plot per class: sensitivity against false positive rate of each shown scenario."""
    scores = [one for one in evaluation["scores"] if one["scenario"] in shown and one.get("classes")]
    if not scores:
        return []
    charts = []
    for index, kind in enumerate(scores[0]["classes"]):
        series = [
            Series(one["scenario"], _even(one["classes"][index]["roc"]), kinds.get(one["scenario"], "real"))
            for one in scores
        ]
        areas = ", ".join(f"{one['scenario']} {one['classes'][index]['auc']:.3f}" for one in scores)
        name = kind["class_name"]
        drawn = plot(
            series,
            x=Axis("false positives, %", **_SHARE),
            y=Axis("sensitivity, %", **_SHARE),
            title=f"ROC curve of class {name} against the rest. Areas: {areas}.",
            diagonal=True,
        )
        charts.append({"class": name, "plot": drawn, "areas": areas, "legend": legend(series)})
    return charts


def reliability_charts(evaluation: Json, kinds: Mapping[str, str], shown: Sequence[str]) -> list[dict[str, Any]]:
    """One plot per shown scenario: how often it is right against how sure it is."""
    charts = []
    for one in evaluation["scores"]:
        # A handful of images would draw a peak that means nothing.
        bins = [b for b in one.get("reliability", []) if b.get("share", 0.0) >= _FEWEST_SHARE]
        if one["scenario"] not in shown or not bins:
            continue
        points = tuple((100 * b["confidence"], 100 * b.get("accuracy", 0.0)) for b in bins)
        drawn = plot(
            [Series(one["scenario"], points, kinds.get(one["scenario"], "real"), tuple((p[1], p[1]) for p in points))],
            x=Axis("probability given, %", **_SHARE),
            y=Axis("labelled right, %", **_SHARE),
            title=f"Reliability of {one['scenario']}: "
            + "; ".join(f"{x:.0f} % sure, {y:.0f} % right" for x, y in points)
            + ".",
            diagonal=True,
        )
        charts.append({"scenario": one["scenario"], "plot": drawn, "error": one.get("calibration_error", 0.0)})
    return charts


def loss_chart(generator: Json) -> dict[str, Any] | None:
    """Training and held-out loss over the updates; None for a generator that does not learn."""
    losses = generator.get("losses", [])
    if not losses:
        return None
    updates = int(generator["spec"].get("train_steps", len(losses)))
    # Of a training that stopped early the first of its intervals are there.
    intervals = min(_INTERVALS, updates) if generator.get("stopped_at") else len(losses)
    series = [
        Series(label, tuple((updates * (i + 1) / intervals, value) for i, value in enumerate(values)), kind)
        for label, kind, values in (
            ("training", "real", losses),
            ("held out", "synthetic", generator.get("held_out_losses", [])),
        )
        if values
    ]
    drawn = plot(
        series,
        x=Axis("updates", 0.0, float(updates)),
        y=around([value for one in series for _, value in one.points], label="denoising loss"),
        title="Denoising loss over the updates: "
        + "; ".join(f"{one.label} from {one.points[0][1]:.4f} to {one.points[-1][1]:.4f}" for one in series)
        + ".",
    )
    return {"plot": drawn, "legend": legend(series)}


def _even(values: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Values at even places from 0 to 1, both in percent."""
    return tuple((100 * i / (len(values) - 1), 100 * value) for i, value in enumerate(values))
