"""The report of a run: one HTML file that opens offline, and the same numbers as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import yaml
from markupsafe import Markup

import genaug
from genaug.evaluation.report import charts, pictures
from genaug.evaluation.report.figures import Line, Points, forest, scatter
from genaug.evaluation.report.filters import FILTERS, percent, points_interval
from genaug.evaluation.report.generator_text import (
    caption_text,
    early_stop_text,
    listed_captions,
    match_text,
    rejected_text,
    training_text,
)
from genaug.evaluation.report.report_data import ReportData, collect
from genaug.evaluation.report.report_text import (
    MEANINGS,
    METHODS,
    MODES,
    agreement_text,
    control_text,
    limits,
    metric_text,
    network_text,
    probe_size_text,
    probe_text,
    run_table,
    scenario_text,
)
from genaug.evaluation.verdict import points
from genaug.schema.evaluation import Comparison, Evaluation, ScenarioScore
from genaug.schema.generators import Generator
from genaug.schema.jobs import ReportInputs
from genaug.schema.selection import SelectionQuality
from genaug.shared.manifest import Row, read_rows, read_table
from genaug.shared.pages import environment
from genaug.shared.progress import ProgressCallback
from genaug.shared.store import Store

_PARTS = 4

Context = dict[str, object]
"""Variables of the templates."""


def write_report(inputs: ReportInputs, store: Store, report: ProgressCallback, *, device: str) -> str:
    """Write runs/<id>/report.html and report.json, replacing existing ones.

    Args:
        inputs: Inputs of a `report` Job.
        store: As the identity "report", which cannot read sealed images.
        report: Called with parts.
        device: Not used: nothing is computed here that needs one.

    Returns:
        The run's name, "runs/{run}".

    Raises:
        NotFound: a named result is not in the store.
    """
    del device
    name = inputs.run.name
    report(0, _PARTS, "parts")
    real = read_rows(store, f"{inputs.view}/rows.parquet")
    labelled, labelled_again = (
        [row for batch in batches for row in read_rows(store, f"{batch}/manifest.parquet")]
        for batches in (inputs.labels, inputs.second_labels)
    )
    data = collect(inputs, store, real=real, labelled=labelled, labelled_again=labelled_again)
    report(1, _PARTS, "parts")
    images = {**_images(store, data, real=real, labelled=labelled), "maps": _maps(store, data)}
    report(2, _PARTS, "parts")
    page = render(data, images)
    report(3, _PARTS, "parts")
    store.put_json(f"{name}/report.json", data.json_value())
    store.put(f"{name}/report.html", page.encode())
    report(_PARTS, _PARTS, "parts")
    return name


def render(data: ReportData, images: Mapping[str, object]) -> str:
    """Render the page. Everything that comes from outside is escaped."""
    templates = environment("genaug.evaluation", "report")
    templates.filters.update(FILTERS)
    context = {**_result(data), **_run(data), **images}
    return templates.get_template("report.html.j2").render(data=data, version=genaug.__version__, **context)


@dataclass(frozen=True)
class Probe:
    """The reference probe beside the reference."""

    score: ScenarioScore
    reference: ScenarioScore
    text: str


@dataclass(frozen=True)
class EvaluationPart:
    """One evaluator's evaluation with its figures."""

    evaluation: Evaluation
    network: str
    reference: ScenarioScore
    reference_comparisons: tuple[Comparison, ...]
    probe: Probe | None
    recall_plot: Markup
    difference_plot: Markup | None
    dose: Markup | None


def _part(evaluation: Evaluation, kinds: Mapping[str, str], *, marked: bool) -> EvaluationPart:
    """Compute the figures of an evaluation; `marked` draws a line at the reference's recall."""
    scores, comparisons = evaluation.scores, evaluation.comparisons
    name = comparisons[0].reference if comparisons else scores[0].scenario
    reference = next(score for score in scores if score.scenario == name)
    against = tuple(c for c in comparisons if c.reference == name)
    probe = evaluation.reference_probe
    return EvaluationPart(
        evaluation=evaluation,
        network=network_text(evaluation.spec.evaluation.classifier),
        reference=reference,
        reference_comparisons=against,
        probe=Probe(probe, reference, probe_text(name, reference, probe)) if probe else None,
        recall_plot=forest(
            [_recall_line(score, kinds.get(score.scenario, "real")) for score in scores],
            title="Macro recall in percent with 95 % intervals.",
            mark=100 * reference.macro_recall.value if marked else None,
        ),
        difference_plot=forest(
            [_difference_line(c, kinds.get(c.scenario, "real")) for c in against],
            title=f"Difference of macro recall to {name} in percentage points, adjusted 95 % intervals.",
            mark=0.0,
            signed=True,
        )
        if against
        else None,
        dose=charts.dose_chart(evaluation),
    )


def _result(data: ReportData) -> Context:
    """Variables from the evaluations."""
    evaluation, kinds, size = data.evaluation, data.kinds, len(data.classes)
    first = _part(evaluation, kinds, marked=True)
    reference = first.reference.scenario
    shown = charts.shown_scenarios(evaluation, kinds, reference=reference)
    matrices = {
        score.scenario: [score.confusion[i * size : (i + 1) * size] for i in range(size)] for score in evaluation.scores
    }
    return {
        "result": first,
        "reference": reference,
        "scores": evaluation.scores,
        "baseline_comparisons": [c for c in evaluation.comparisons if c.reference != reference],
        "further": [_part(other, kinds, marked=False) for other in data.further_evaluations],
        "matrices": matrices,
        # The sealed rows of the run's view, as the evaluation counted them.
        "sealed": {
            name: sum(row) // first.reference.seeds for name, row in zip(data.classes, matrices[reference], strict=True)
        },
        "metrics": {name: metric_text(name) for name in first.reference.metrics},
        "probe_size": probe_size_text(data.spec),
        "per_class": [score for score in evaluation.scores if score.classes],
        "rocs": charts.roc_charts(evaluation, kinds, shown),
        "reliabilities": charts.reliability_charts(evaluation, kinds, shown),
    }


@dataclass(frozen=True)
class Training:
    """Training of one generator."""

    title: str
    record: Generator
    chart: charts.LossChart | None
    grids: tuple[pictures.Picture, ...]
    held_out: int
    text: str
    early_stop: str


def _trainings(store: Store, data: ReportData) -> list[Training]:
    """Training of each generator that learns."""
    trainings = []
    for record in (*data.generators, *(data.captions.generators[1:] if data.captions else ())):
        chart = charts.loss_chart(record)
        if chart is not None or record.stopped_at:
            trainings.append(
                Training(
                    title=f"With the captions {record.prompts}" if data.captions and record.prompts else "",
                    record=record,
                    chart=chart,
                    grids=pictures.grids(store, record),
                    held_out=sum(entry.count for entry in record.held_out),
                    text=training_text(record),
                    early_stop=early_stop_text(record),
                )
            )
    return trainings


def _recall_line(score: ScenarioScore, kind: str) -> Line:
    recall = score.macro_recall
    text = f"{percent(recall.value)} ({percent(recall.lower)} to {percent(recall.upper)})"
    dots = tuple(100 * value for value in score.seed_macro_recalls)
    return Line(score.scenario, 100 * recall.value, 100 * recall.lower, 100 * recall.upper, text, kind, dots)


def _difference_line(comparison: Comparison, kind: str) -> Line:
    e = comparison.difference
    text = f"{points(e.value)} ({points_interval(e)})"
    return Line(comparison.scenario, 100 * e.value, 100 * e.lower, 100 * e.upper, text, kind)


def _run(data: ReportData) -> Context:
    """Variables from the run's records."""
    seconds = [step.seconds for step in data.steps]
    made = [scenario for scenario in data.scenarios if scenario.kind != "real"]
    libraries = {name: version for entry in data.provenance for name, version in entry.libraries.items()}
    return {
        "drawn": sum(row.drawn for row in data.acceptance),
        "accepted": sum(row.accepted for row in data.acceptance),
        "requested": [row.class_name for row in data.acceptance],
        "scenario_texts": {scenario.name: scenario_text(scenario) for scenario in data.scenarios},
        "run_table": run_table(data),
        "made": made,
        "short": [scenario for scenario in data.scenarios if any(scenario.shortfall_counts.values())],
        "totals": {scenario.name: sum(row.made[scenario.name] for row in data.counts) for scenario in made},
        "slowest": max([*seconds, 1e-9]),
        "seconds": sum(seconds),
        "mode": MODES[data.spec.labeling.mode],
        "method": METHODS[data.selection.spec.method] if data.selection else "",
        "folds": data.spec.evaluation.folds,
        "methods": METHODS,
        "control_text": control_text(data),
        "agreement_text": agreement_text(data),
        "match_text": match_text(data.match, left_out=not data.copies.kept) if data.match else "",
        "rejected_text": rejected_text(data.rejected),
        "caption_text": caption_text(data.captions) if data.captions else "",
        "listed_captions": listed_captions,
        "limits": limits(data),
        "libraries": [f"{name} {version}" for name, version in sorted(libraries.items())],
        "yaml": yaml.safe_dump(data.spec.json_value(), sort_keys=False, allow_unicode=True),
    }


def _images(store: Store, data: ReportData, *, real: Sequence[Row], labelled: Sequence[Row]) -> Context:
    rejected = [(verdict, text, pictures.rejected(store, labelled, verdict)) for verdict, text in MEANINGS.items()]
    return {
        "tiny": pictures.is_tiny(store, [row for row in real if row.split == "train"]),
        "strips": pictures.strips(store, data.classes, real=real, labelled=labelled),
        "rejected": [entry for entry in rejected if entry[2]],
        "trainings": _trainings(store, data),
        "pairs": pictures.nearest(store, data.match, real=real, labelled=labelled),
    }


@dataclass(frozen=True)
class SelectionMap:
    """The t-SNE map of a dominant class, by selection and by chance."""

    quality: SelectionQuality
    chosen: Markup
    random: Markup


def _maps(store: Store, data: ReportData) -> list[SelectionMap]:
    if not data.selection:
        return []
    table = read_table(store, data.selection.manifest)
    return [
        SelectionMap(quality, _scatter(table, quality, "chosen"), _scatter(table, quality, "random"))
        for quality in data.selection.qualities
    ]


def _scatter(table: pa.Table, quality: SelectionQuality, column: str) -> Markup:
    """Map of a class, by kept and left out images."""
    sides: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    columns = (table[name].to_pylist() for name in ("class", "x", "y", column))
    for name, x, y, kept in zip(*columns, strict=True):
        if name == quality.class_name:
            sides[0 if kept else 1].append((x, y))
    kept_points, left_out = (tuple(side) for side in sides)
    title = f"Map of class {quality.class_name}, {column}: {len(kept_points)} kept, {len(left_out)} left out"
    return scatter(Points(kept_points, left_out), title=title)
