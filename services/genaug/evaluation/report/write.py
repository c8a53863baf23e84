"""The report of a run: one HTML file that opens offline, and the same numbers as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

import genaug
from genaug.evaluation.report import charts, pictures
from genaug.evaluation.report.facts import Facts, gather
from genaug.evaluation.report.formats import percent
from genaug.evaluation.report.made_words import (
    captions_listed,
    captions_said,
    learnt_said,
    match_said,
    rejected_said,
    stopped_said,
)
from genaug.evaluation.report.words import (
    FILTERS,
    MEANINGS,
    METHODS,
    MODES,
    agreement_said,
    control_said,
    described,
    limits,
    network,
    probe_said,
    what_was_run,
)
from genaug.evaluation.verdict import points
from genaug.shared.manifest import Row, read_rows, read_table
from genaug.shared.pages import environment
from genaug.shared.pages.figures import Line, Points, forest, scatter
from genaug.shared.progress import ProgressCallback
from genaug.shared.store import Store

_PARTS = 4


def write_report(inputs: dict[str, Any], store: Store, report: ProgressCallback, *, device: str) -> str:
    """Write runs/<id>/report.html and report.json, replacing those that are there.

    Args:
        inputs: A `report` Job's inputs: run, dataset, view, generators, labeler, labels, second_labels, rejected,
            compared, transformed_batches, selection, match, versions, evaluation.
        store: As the identity "report", which cannot read sealed images.
        report: Told of parts.
        device: Not used: nothing is computed here that needs one.

    Returns:
        The run's name, "runs/{run}".

    Raises:
        NotFound: something that the report speaks of is not in the store.
    """
    del device
    name: str = inputs["run"]["name"]
    report(0, _PARTS, "parts")
    real = read_rows(store, f"{inputs['view']}/rows.parquet")
    labelled, again = (
        [row for one in inputs.get(key, []) for row in read_rows(store, f"{one}/manifest.parquet")]
        for key in ("labels", "second_labels")
    )
    facts = gather(inputs, store, real=real, labelled=labelled, labelled_again=again)
    report(1, _PARTS, "parts")
    shown = {**_images(store, facts, real=real, labelled=labelled), "maps": _maps(store, facts)}
    report(2, _PARTS, "parts")
    page = render(facts, shown)
    report(3, _PARTS, "parts")
    store.put_json(f"{name}/report.json", facts)
    store.put(f"{name}/report.html", page.encode())
    report(_PARTS, _PARTS, "parts")
    return name


def render(facts: Facts, shown: Mapping[str, Any]) -> str:
    """The page, from its numbers and its pictures. Everything that comes from outside is escaped."""
    templates = environment("genaug.evaluation", "report")
    templates.filters.update(FILTERS)
    return templates.get_template("report.html.j2").render(
        f=facts, version=genaug.__version__, **_result(facts), **_words(facts), **shown
    )


def _result(facts: Facts) -> dict[str, Any]:
    """What the evaluation gives the page."""
    scores, comparisons = facts["evaluation"]["scores"], facts["evaluation"].get("comparisons", [])
    kinds = {one["name"]: one["kind"] for one in facts["scenarios"]}
    reference = comparisons[0]["reference"] if comparisons else scores[0]["scenario"]
    first = [c for c in comparisons if c["reference"] == reference]
    size = len(facts["classes"])
    baseline = next(score for score in scores if score["scenario"] == reference)
    return {
        **_curves(facts, kinds, reference),
        "further": [_further(one, kinds) for one in facts["further_evaluations"]],
        "scores": scores,
        "reference": reference,
        "first": first,
        "duels": [c for c in comparisons if c["reference"] != reference],
        "recall_plot": forest(
            [_recall_line(score, kinds.get(score["scenario"], "real")) for score in scores],
            title="Macro recall in percent with 95 % intervals.",
            mark=100 * baseline["macro_recall"]["value"],
        ),
        "difference_plot": forest(
            [_difference_line(c, kinds.get(c["scenario"], "real")) for c in first],
            title=f"Difference of macro recall to {reference} in percentage points, adjusted 95 % intervals.",
            mark=0.0,
            signed=True,
        )
        if first
        else "",
        "matrices": {
            score["scenario"]: [score["confusion"][i * size : (i + 1) * size] for i in range(size)] for score in scores
        },
        # The sealed rows of the run's view, as the evaluation counted them.
        "sealed": {
            name: sum(baseline["confusion"][i * size : (i + 1) * size]) // baseline["seeds"]
            for i, name in enumerate(facts["classes"])
        },
    }


def _curves(facts: Facts, kinds: Mapping[str, str], reference: str) -> dict[str, Any]:
    """The evaluation's curves, its probe, and what is known of each class."""
    evaluation = facts["evaluation"]
    shown = charts.shown_scenarios(evaluation, kinds, reference=reference)
    score = next(one for one in evaluation["scores"] if one["scenario"] == reference)
    probe = evaluation.get("reference_probe")
    return {
        "dose": charts.dose_chart(evaluation),
        "probe": {"score": probe, "reference": score, "said": probe_said(reference, score, probe)} if probe else None,
        "per_class": [one for one in evaluation["scores"] if one.get("classes")],
        "rocs": charts.roc_charts(evaluation, kinds, shown),
        "reliabilities": charts.reliability_charts(evaluation, kinds, shown),
    }


def _further(evaluation: Mapping[str, Any], kinds: Mapping[str, str]) -> dict[str, Any]:
    """Another evaluator, by itself."""
    scores, comparisons = evaluation["scores"], evaluation.get("comparisons", [])
    reference = comparisons[0]["reference"] if comparisons else scores[0]["scenario"]
    first = [c for c in comparisons if c["reference"] == reference]
    lines = [_difference_line(c, kinds.get(c["scenario"], "real")) for c in first]
    score, probe = next(one for one in scores if one["scenario"] == reference), evaluation.get("reference_probe")
    return {
        "probe_said": probe_said(reference, score, probe) if probe else "",
        "network": network(evaluation["spec"]["evaluation"]["classifier"]),
        "verdict": evaluation["verdict"],
        "reference": reference,
        "recall_plot": forest(
            [_recall_line(score, kinds.get(score["scenario"], "real")) for score in scores],
            title="Macro recall in percent with 95 % intervals.",
        ),
        "difference_plot": forest(lines, title=f"Difference to {reference}, points.", mark=0.0, signed=True)
        if lines
        else "",
        "dose": charts.dose_chart(evaluation),
        "saturation": evaluation.get("saturation", {}).get("sentence", ""),
    }


def _learners(store: Store, facts: Facts) -> list[dict[str, Any]]:
    """How each generator that learns has learned."""
    found = []
    for one in [*facts["generators"], *facts["captions"].get("generators", [])[1:]]:
        chart = charts.loss_chart(one)
        if chart is not None or one.get("stopped_at"):
            found.append(
                {
                    "title": f"With the captions {one['prompts']}" if facts["captions"] and one.get("prompts") else "",
                    "chart": chart,
                    "classes": one["classes"],
                    "grids": pictures.grids(store, one),
                    "held_out": sum(int(count.get("count", 0)) for count in one.get("held_out", [])),
                    "network": learnt_said(one),
                    "closenesses": one.get("closenesses", []),
                    "stopped": stopped_said(one),
                }
            )
    return found


def _recall_line(score: Mapping[str, Any], kind: str) -> Line:
    e = score["macro_recall"]
    said = f"{percent(e['value'])} ({percent(e['lower'])} to {percent(e['upper'])})"
    dots = tuple(100 * value for value in score.get("seed_macro_recalls", []))
    return Line(score["scenario"], 100 * e["value"], 100 * e["lower"], 100 * e["upper"], said, kind, dots)


def _difference_line(comparison: Mapping[str, Any], kind: str) -> Line:
    e = comparison["difference"]
    said = f"{points(e['value'])} ({points(e['lower'])} to {points(e['upper'])})"
    return Line(comparison["scenario"], 100 * e["value"], 100 * e["lower"], 100 * e["upper"], said, kind)


def _words(facts: Facts) -> dict[str, Any]:
    """What the run's records give the page."""
    steps = [float(step.get("seconds", 0)) for step in facts["steps"]]
    made = [one for one in facts["scenarios"] if one["kind"] != "real"]
    libraries = {key: value for one in facts["provenance"] for key, value in one.get("libraries", {}).items()}
    return {
        "drawn": sum(row["drawn"] for row in facts["acceptance"]),
        "accepted": sum(row["accepted"] for row in facts["acceptance"]),
        "asked": [row["class"] for row in facts["acceptance"]],
        "described": {one["name"]: described(one) for one in facts["scenarios"]},
        "what": what_was_run(facts),
        "made": made,
        "short": [one for one in facts["scenarios"] if any(one["shortfall_counts"].values())],
        "totals": {one["name"]: sum(row["made"][one["name"]] for row in facts["counts"]) for one in made},
        "slowest": max([*steps, 1e-9]),
        "seconds": sum(steps),
        "mode": MODES.get(facts["spec"]["labeling"]["mode"], ""),
        "method": METHODS.get(facts["selection"].get("spec", {}).get("method", ""), "Choice"),
        "folds": int(facts["spec"]["evaluation"].get("folds", 1)),
        "methods": METHODS,
        "control_said": control_said(facts),
        "agreement_said": agreement_said(facts) if facts["agreement"] else "",
        "match_said": match_said(facts["match"], left_out=not facts["copies"]["kept"]) if facts["match"] else "",
        "rejected_said": rejected_said(facts["rejected"]),
        "captions_said": captions_said(facts["captions"]) if facts["captions"] else "",
        "captions_listed": captions_listed,
        "limits": limits(facts),
        "libraries": [f"{key} {value}" for key, value in sorted(libraries.items())],
        "yaml": yaml.safe_dump(facts["spec"], sort_keys=False, allow_unicode=True),
    }


def _images(store: Store, facts: Facts, *, real: Sequence[Row], labelled: Sequence[Row]) -> dict[str, Any]:
    found = [(verdict, meaning, pictures.rejected(store, labelled, verdict)) for verdict, meaning in MEANINGS.items()]
    return {
        "tiny": pictures.is_tiny(store, [row for row in real if row.split == "train"]),
        "strips": pictures.strips(store, facts["classes"], real=real, labelled=labelled),
        "rejected": [one for one in found if one[2]],
        "learners": _learners(store, facts),
        "pairs": pictures.nearest(store, facts["match"], real=real, labelled=labelled),
    }


def _maps(store: Store, facts: Facts) -> list[dict[str, Any]]:
    """The t-SNE map of each dominant class, by choice and by chance."""
    selection = facts["selection"]
    if not selection:
        return []
    table = read_table(store, selection["manifest"]).to_pylist()
    maps = []
    for quality in selection.get("qualities", []):
        rows = [row for row in table if row["class"] == quality["class_name"]]
        panels = {}
        for column in ("chosen", "random"):
            kept = tuple((row["x"], row["y"]) for row in rows if row[column])
            left_out = tuple((row["x"], row["y"]) for row in rows if not row[column])
            title = f"Map of class {quality['class_name']}, {column}: {len(kept)} kept, {len(left_out)} left out"
            panels[column] = scatter(Points(kept, left_out), title=title)
        zeros = dict.fromkeys(("mmd2", "random_mmd2", "coverage", "random_coverage", "available", "kept"), 0)
        maps.append({**zeros, "alternatives": [], **quality, **panels})
    return maps
