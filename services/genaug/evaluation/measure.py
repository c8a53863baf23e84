"""Scores frozen classifiers once, on unseen rows, and says what follows. What reads the seal never learns."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from genaug.evaluation.compare import ClassScore, Comparison, Predictions, Score, Sealed, Study, compare
from genaug.evaluation.held_out import HeldOut, hold_out, truth_of
from genaug.evaluation.metrics import Floats
from genaug.evaluation.saturation import Saturation, dose_scenarios, saturate
from genaug.evaluation.verdict import Verdict, findings, judge
from genaug.schema.common import provenance
from genaug.schema.jobs import RECIPES, evaluation_name
from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.shared.manifest import Row, encode
from genaug.shared.names import dataset_id, version_ids
from genaug.shared.progress import ProgressCallback
from genaug.shared.provenance import now
from genaug.shared.store import Store
from genaug.vision.models import classifiers

LAST = "evaluation.json"
PROBE = "reference-probe"
_DIGITS = 6


class Scorer(Protocol):
    """What is asked of a frozen classifier."""

    def predict_rows(self, store: Store, rows: Sequence[Row]) -> Floats:
        """Probabilities, float32 [n, k]."""
        ...


class Loader(Protocol):
    """How a frozen classifier is had."""

    def __call__(self, store: Store, name: str, *, device: str, classes: Sequence[str]) -> Scorer:
        """Load `name`, which must have the label map `classes`."""
        ...


def evaluate(
    inputs: dict[str, Any], store: Store, report: ProgressCallback, *, device: str, load: Loader = classifiers.load
) -> str:
    """Score every classifier of every scenario on rows that it has not seen, compare the scenarios and judge.

    The seal is opened only after everything that can be checked without it is found right, and the opening is recorded
    first. Of outer folds, each scores its own rows with its own classifiers; predictions are pooled, so that each
    subject is scored once, and the seal stays shut.

    Args:
        inputs: An `evaluate` Job's inputs: dataset, classes (the label map), multi_disease, reference, scenarios (each
            with scenario, training_images and parts: fold, dataset_version, classifiers, one per seed), probe (the same
            with one classifier, or None), resamples, seed, spec.
        store: As the identity "evaluate".
        report: Told of classifiers.
        device: As in the settings.
        load: Loads a classifier.

    Returns:
        "evaluations/{digest}". One that is there already is not made again, and the seal stays shut.

    Raises:
        InvalidArgument: the reference is no scenario, a name comes twice, or a scenario has fewer than two seeds.
        FailedPrecondition: classifiers cannot be compared (other seeds, updates, dataset version or label map), or a
            class has no image to score.
    """
    name = evaluation_name(inputs)
    if store.exists(f"{name}/{LAST}"):
        return name
    start = time.monotonic()
    scenarios: list[dict[str, Any]] = inputs["scenarios"]
    check_scenarios(scenarios, reference=inputs["reference"])
    probe = [{**inputs["probe"], "scenario": {"name": PROBE}}] if inputs.get("probe") else []
    records = {one: classifiers.read_record(store, one) for one in _distinct([*scenarios, *probe])}
    check_fair(scenarios, records, dataset=inputs["dataset"], classes=inputs["classes"])
    folds = check_parts(store, [*scenarios, *probe])
    if probe:
        check_probe(probe[0], scenarios, records, reference=inputs["reference"], classes=inputs["classes"])
    made = [holds_generated(store, one) for one in scenarios]
    parts = hold_out(store, inputs, folds=folds, who=name)
    rows = [row for part in parts for row in part.rows]
    sealed = truth_of(rows, classes=inputs["classes"])
    probabilities: dict[str, Floats] = {}
    rows_of = {one: part.rows for i, part in enumerate(parts) for one in _distinct([*scenarios, *probe], part=i)}
    for index, one in enumerate(records):
        report(index, len(records), "classifiers")
        probabilities[one] = load(store, one, device=device, classes=sealed.classes).predict_rows(store, rows_of[one])
    predictions = [
        Predictions(one["scenario"]["name"], synthetic, _pooled(one, probabilities))
        for one, synthetic in zip([*scenarios, *probe], [*made, *[False] * len(probe)], strict=True)
    ]
    table = _predictions_table(parts, [*scenarios, *probe], probabilities, records)
    store.put_new(f"{name}/predictions.parquet", encode(table))
    record = {
        "name": name,
        "spec": inputs["spec"],
        "state": "STATE_SUCCEEDED",
        **_findings(inputs, sealed, predictions[: len(scenarios)]),
        **({"reference_probe": _probe_score(inputs, sealed, predictions[-1])} if probe else {}),
        "create_time": now(),
        "provenance": provenance(RECIPES["evaluate"], seconds=time.monotonic() - start),
    }
    store.put_new_json(f"{name}/{LAST}", record)
    report(len(records), len(records), "classifiers")
    return name


def check_scenarios(scenarios: Sequence[Mapping[str, Any]], *, reference: str) -> None:
    """Refuse what cannot be compared at all; see `evaluate`."""
    names = [one["scenario"]["name"] for one in scenarios]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidArgument(
            f"scenarios: {', '.join(twice)} comes twice; names are unique", reason="DUPLICATE_SCENARIO"
        )
    if reference not in names:
        raise InvalidArgument(
            f"reference: {reference!r} is none of the scenarios {', '.join(names)}; add it", reason="NO_REFERENCE"
        )
    for one in scenarios:
        for part in one["parts"]:
            distinct = len(set(part["classifiers"]))
            if distinct < 2 or distinct != len(part["classifiers"]):
                raise InvalidArgument(
                    f"seeds: each scenario needs at least two different trainings; {one['scenario']['name']} has "
                    f"{distinct}",
                    reason="TOO_FEW_SEEDS",
                )


def check_fair(
    scenarios: Sequence[Mapping[str, Any]],
    records: Mapping[str, Mapping[str, Any]],
    *,
    dataset: str,
    classes: Sequence[str],
) -> None:
    """Refuse a comparison whose sides were not trained alike: label map, seeds, updates, network, role, rows.

    Only versions of `dataset` itself keep its sealed rows out of training.
    """
    for one in scenarios:
        for part in one["parts"]:
            _check_part(part, records, dataset=dataset, classes=classes)
    sides: dict[str, list[Any]] = {}
    for one in scenarios:
        listed = [records[name] for part in one["parts"] for name in part["classifiers"]]
        # 0 is left out of stored JSON by some writers.
        sides[one["scenario"]["name"]] = [
            (record.get("seed", 0), record.get("updates", 0), record["spec"]) for record in listed
        ]
    if any(side != next(iter(sides.values())) for side in sides.values()):
        raise FailedPrecondition(
            "scenarios were trained with different seeds, updates or networks, so that a difference would not be the "
            f"data's: {', '.join(sides)}; train them alike",
            reason="UNFAIR",
        )


def _check_part(
    part: Mapping[str, Any], records: Mapping[str, Mapping[str, Any]], *, dataset: str, classes: Sequence[str]
) -> None:
    """Refuse classifiers that were not trained on the part's version, as evaluators, with the study's label map."""
    if version_ids(part["dataset_version"])[0] != dataset_id(dataset):
        raise FailedPrecondition(
            f"{part['dataset_version']} is no version of {dataset}, whose rows are scored", reason="UNFAIR"
        )
    for record in (records[name] for name in part["classifiers"]):
        if record["dataset_version"] != part["dataset_version"] or record["role"] != "ROLE_EVALUATOR":
            raise FailedPrecondition(
                f"{record['name']} is no evaluator trained on {part['dataset_version']}; train one", reason="UNFAIR"
            )
        if classes and record["classes"] != list(classes):
            raise FailedPrecondition(
                f"{record['name']} has the label map {record['classes']}, not {list(classes)}; train one for these",
                reason="LABEL_MAP_MISMATCH",
            )


def check_parts(store: Store, scenarios: Sequence[Mapping[str, Any]]) -> list[int]:
    """Refuse parts that would score rows which their classifiers have seen; return the folds, the same for all.

    Raises:
        FailedPrecondition: reason UNFAIR; scenarios have other folds than each other, a fold comes twice, the seal is
            mixed with folds, or a version was not taken through a view that leaves its fold out.
    """
    folds = [part["fold"] for part in scenarios[0]["parts"]]
    same = all([part["fold"] for part in one["parts"]] == folds for one in scenarios)
    if not folds or not same or len(set(folds)) != len(folds) or (0 in folds and len(folds) > 1):
        raise FailedPrecondition(
            f"parts: scenarios must all be scored on the seal (fold 0) or on the same outer folds, not {folds}",
            reason="UNFAIR",
        )
    for part in (part for one in scenarios for part in one["parts"]):
        view = store.get_json(f"{part['dataset_version']}/version.json").get("view", {})
        if int(view.get("fold", 0)) != part["fold"]:
            raise FailedPrecondition(
                f"{part['dataset_version']} does not leave out fold {part['fold']}, which it would be scored on",
                reason="UNFAIR",
            )
    return folds


def check_probe(
    probe: Mapping[str, Any],
    scenarios: Sequence[Mapping[str, Any]],
    records: Mapping[str, Mapping[str, Any]],
    *,
    reference: str,
    classes: Sequence[str],
) -> None:
    """Refuse a reference probe that was not trained on the reference's rows.

    Raises:
        FailedPrecondition: reason UNFAIR or LABEL_MAP_MISMATCH.
    """
    parts = next(one["parts"] for one in scenarios if one["scenario"]["name"] == reference)
    versions = [part["dataset_version"] for part in parts]
    if [part["dataset_version"] for part in probe["parts"]] != versions:
        raise FailedPrecondition(
            f"probe: was not trained on the rows of the reference, {', '.join(versions)}", reason="UNFAIR"
        )
    for part in probe["parts"]:
        _check_part(part, records, dataset=f"datasets/{version_ids(part['dataset_version'])[0]}", classes=classes)


def holds_generated(store: Store, scenario: Mapping[str, Any]) -> bool:
    """Whether a scenario's training rows hold generated images: by its dose, or by what its version counts."""
    if scenario["scenario"].get("synthetic", 0) > 0:
        return True
    versions = [store.get_json(f"{part['dataset_version']}/version.json") for part in scenario["parts"]]
    return any(int(one.get("count", 0)) > 0 for version in versions for one in version.get("synthetic", []))


def _findings(inputs: Mapping[str, Any], sealed: Sealed, predictions: Sequence[Predictions]) -> dict[str, Any]:
    """The part of the message `Evaluation` that follows from the predictions."""
    reference = inputs["reference"]
    study = Study(sealed, predictions, resamples=inputs["resamples"], seed=inputs["seed"])
    scores = [study.score(p.scenario) for p in predictions]
    comparisons = compare(study, predictions, reference=reference)
    found = findings(
        predictions,
        scores,
        comparisons,
        reference=reference,
        subjects=sealed.group_count,
        short={one["scenario"]["name"]: _met(one) for one in inputs["scenarios"] if one["missing_images"]},
    )
    curve = saturate(
        study,
        dose_scenarios([_as_drawn(one) for one in inputs["scenarios"]], reference=reference),
        scores=scores,
        comparisons=comparisons,
        seed=inputs["seed"],
    )
    return {
        "scores": [_score(s, one) for s, one in zip(scores, inputs["scenarios"], strict=True)],
        "comparisons": [_comparison(c) for c in comparisons],
        "verdict": _verdict(judge(found)),
        "test_images": len(sealed.truth),
        "test_subjects": sealed.group_count,
        **({"saturation": _saturation(curve)} if curve else {}),
    }


def _met(scenario: Mapping[str, Any]) -> tuple[int, int]:
    """Made images that a scenario holds, and that its dose asks for."""
    made = int(scenario["made_images"])
    return made, made + int(scenario["missing_images"])


def _as_drawn(scenario: Mapping[str, Any]) -> dict[str, Any]:
    """The Scenario with the dose of generated images that it has got, two digits, in place of the one asked for."""
    spec, (made, wanted) = scenario["scenario"], _met(scenario)
    asked = float(spec.get("synthetic", 0))
    return dict(spec) | {"synthetic": round(asked * made / wanted, 2) if wanted > made else asked}


def _probe_score(inputs: Mapping[str, Any], sealed: Sealed, predictions: Predictions) -> dict[str, Any]:
    """The message `ScenarioScore` of the reference probe, whose one fit has no seeds: its interval is over subjects."""
    study = Study(sealed, [predictions], resamples=inputs["resamples"], seed=inputs["seed"])
    return _score(study.score(PROBE), inputs["probe"])


def _distinct(scenarios: Iterable[Mapping[str, Any]], *, part: int | None = None) -> list[str]:
    """The classifiers of all scenarios, each once; of one part, or of all."""
    chosen = slice(None) if part is None else slice(part, part + 1)
    return list(dict.fromkeys(n for one in scenarios for p in one["parts"][chosen] for n in p["classifiers"]))


def _pooled(scenario: Mapping[str, Any], probabilities: Mapping[str, Floats]) -> Floats:
    """What the classifiers of one scenario say of all rows, float32 [seeds, n, k], part after part."""
    return np.concatenate([np.stack([probabilities[n] for n in part["classifiers"]]) for part in scenario["parts"]], 1)


def _predictions_table(
    parts: Sequence[HeldOut],
    scenarios: Sequence[Mapping[str, Any]],
    probabilities: Mapping[str, Floats],
    records: Mapping[str, Mapping[str, Any]],
) -> pa.Table:
    """One row per scenario, training and scored image; p_i is the probability of the label map's i-th class."""
    tables = []
    for scenario in scenarios:
        for held_out, part in zip(parts, scenario["parts"], strict=True):
            rows = held_out.rows
            for name in part["classifiers"]:
                values = probabilities[name]
                columns: dict[str, Any] = {
                    "scenario": [scenario["scenario"]["name"]] * len(rows),
                    "classifier": [name] * len(rows),
                    "seed": pa.array([int(records[name].get("seed", 0))] * len(rows), pa.int64()),
                    "image_id": [row.image_id for row in rows],
                    "group_id": [row.group_id for row in rows],
                    "class": [row.class_name for row in rows],
                }
                columns |= {f"p_{i}": values[:, i].astype(np.float32) for i in range(values.shape[1])}
                tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def _rounded(value: float) -> float:
    return round(float(value), _DIGITS)


def _estimate(value: Any) -> dict[str, float]:
    return {key: _rounded(item) for key, item in asdict(value).items()}


def _score(score: Score, scenario: Mapping[str, Any]) -> dict[str, Any]:
    """The message `ScenarioScore`. Of several folds, the version is the first one's."""
    return {
        "scenario": score.scenario,
        "dataset_version": scenario["parts"][0]["dataset_version"],
        "training_images": scenario["training_images"],
        "made_images": scenario["made_images"],
        "missing_images": scenario["missing_images"],
        "macro_recall": _estimate(score.macro_recall),
        "macro_precision": _estimate(score.macro_precision),
        "macro_f1": _estimate(score.macro_f1),
        "accuracy": _estimate(score.accuracy),
        "macro_auc": _estimate(score.macro_auc),
        "macro_average_precision": _estimate(score.macro_average_precision),
        "recalls": {one.class_name: _rounded(one.recall.value) for one in score.classes},
        "confusion": list(score.confusion),
        "seeds": len(score.seed_macro_recalls),
        "seed_macro_recalls": [_rounded(value) for value in score.seed_macro_recalls],
        "specificities": {one.class_name: _rounded(one.specificity) for one in score.classes},
        "weighted_precision": _rounded(score.weighted_precision),
        "weighted_f1": _rounded(score.weighted_f1),
        "calibration_error": _rounded(score.calibration_error),
        "classes": [_class_score(one) for one in score.classes],
        "reliability": [
            {"share": _rounded(share), "confidence": _rounded(confidence), "accuracy": _rounded(accuracy)}
            for share, confidence, accuracy in score.reliability
        ],
    }


def _class_score(one: ClassScore) -> dict[str, Any]:
    """The message `ScenarioScore.ClassScore`."""
    figures = ("specificity", "precision", "f1", "auc", "average_precision")
    return {
        "class_name": one.class_name,
        "images": one.images,
        "recall": _estimate(one.recall),
        **{figure: _rounded(getattr(one, figure)) for figure in figures},
        "roc": [_rounded(value) for value in one.roc],
    }


def _saturation(curve: Saturation) -> dict[str, Any]:
    """The message `Saturation`."""
    return asdict(curve) | {
        "doses": list(curve.doses),
        "macro_recalls": [_estimate(one) for one in curve.macro_recalls],
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    """The message `Comparison`."""
    return {
        "scenario": comparison.scenario,
        "reference": comparison.reference,
        "difference": _estimate(comparison.difference),
        "outcome": f"OUTCOME_{comparison.outcome}",
    }


def _verdict(verdict: Verdict) -> dict[str, str]:
    """The message `Verdict`."""
    return {"outcome": f"OUTCOME_{verdict.outcome}", "sentence": verdict.sentence}
