"""Scores frozen classifiers on the sealed rows, once, and says what follows. What reads the seal never learns."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from genaug.evaluation.compare import Comparison, Predictions, Score, Sealed, Study, compare
from genaug.evaluation.metrics import Floats
from genaug.evaluation.verdict import Verdict, findings, judge
from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.shared.manifest import Row, encode, read_rows, view_rows
from genaug.shared.names import dataset_id, digest_id, version_ids
from genaug.shared.provenance import now, provenance
from genaug.shared.requests import RECIPES, Report, evaluation_name
from genaug.shared.store import Store
from genaug.vision import classifiers

LAST = "evaluation.json"
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
    inputs: dict[str, Any], store: Store, report: Report, *, device: str, load: Loader = classifiers.load
) -> str:
    """Score every classifier of every scenario on the sealed rows, compare the scenarios and judge.

    The seal is opened only after everything that can be checked without it is found right, and the opening is recorded
    first.

    Args:
        inputs: An `evaluate` Job's inputs: dataset, classes (the label map), multi_disease, reference, scenarios (each
            with scenario, dataset_version, training_images, classifiers: one per seed), resamples, seed, spec.
        store: As the identity "evaluate".
        report: Told of classifiers.
        device: As in the settings.
        load: Loads a classifier.

    Returns:
        "evaluations/{digest}". One that is there already is not made again, and the seal stays shut.

    Raises:
        InvalidArgument: the reference is no scenario, a name comes twice, or a scenario has fewer than two seeds.
        FailedPrecondition: classifiers cannot be compared (other seeds, updates, dataset version or label map), or a
            class has no sealed image.
    """
    name = evaluation_name(inputs)
    if store.exists(f"{name}/{LAST}"):
        return name
    start = time.monotonic()
    scenarios: list[dict[str, Any]] = inputs["scenarios"]
    check_scenarios(scenarios, reference=inputs["reference"])
    records = {one: classifiers.read_record(store, one) for one in _distinct(scenarios)}
    check_fair(scenarios, records, dataset=inputs["dataset"], classes=inputs["classes"])
    made = [holds_generated(store, one) for one in scenarios]
    open_seal(store, inputs["dataset"], who=name)
    rows = view_rows(
        read_rows(store, f"sealed/{inputs['dataset']}/rows.parquet"),
        classes=inputs["classes"],
        multi_disease=inputs["multi_disease"],
    )
    rows.sort(key=lambda row: row.image_id)
    sealed = sealed_of(rows, classes=inputs["classes"])
    probabilities: dict[str, Floats] = {}
    for index, one in enumerate(records):
        report(index, len(records), "classifiers")
        probabilities[one] = load(store, one, device=device, classes=sealed.classes).predict_rows(store, rows)
    predictions = [
        Predictions(one["scenario"]["name"], synthetic, np.stack([probabilities[c] for c in one["classifiers"]]))
        for one, synthetic in zip(scenarios, made, strict=True)
    ]
    store.put_new(f"{name}/predictions.parquet", encode(_predictions_table(rows, predictions, scenarios, records)))
    record = {
        "name": name,
        "spec": inputs["spec"],
        "state": "STATE_SUCCEEDED",
        **_findings(inputs, sealed, predictions),
        "create_time": now(),
        "provenance": provenance(RECIPES["evaluate"], seconds=time.monotonic() - start),
    }
    store.put_new_json(f"{name}/{LAST}", record)
    report(len(records), len(records), "classifiers")
    return name


def open_seal(store: Store, dataset: str, *, who: str) -> str:
    """Record, before it happens, that `who` reads the sealed rows of `dataset`. Return the record's key."""
    test = store.get_json(f"{dataset}/dataset.json").get("test", [])
    moment = datetime.now(UTC)
    key = f"seal-openings/{moment:%Y%m%dT%H%M%S%fZ}-{digest_id(who, 'evaluations')}.json"
    record = {
        "who": who,
        "dataset": dataset,
        "purpose": "score frozen classifiers",
        "rows": sum(int(one.get("count", 0)) for one in test),
        "time": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
    }
    if not store.put_new_json(key, record):
        raise FailedPrecondition(
            f"{key}: this opening of the seal is recorded already; try again", reason="SEAL_RECORD"
        )
    return key


def sealed_of(rows: Sequence[Row], *, classes: Sequence[str]) -> Sealed:
    """The truth of sealed rows; empty `classes` for all there are, sorted. A row without group stands for itself.

    Raises:
        FailedPrecondition: a class has no row, or a row is made or not of the test split.
    """
    wrong = sum(row.source != "real" or row.split != "test" for row in rows)
    if wrong:
        raise FailedPrecondition(
            f"{wrong} of the sealed rows are made or of another split; import the dataset again", reason="BAD_SEAL"
        )
    kinds = tuple(classes) or tuple(sorted({row.class_name for row in rows}))
    missing = [kind for kind in kinds if not any(row.class_name == kind for row in rows)]
    if missing or not kinds:
        raise FailedPrecondition(
            f"no sealed image of class {', '.join(missing) or '(any)'}: its recall cannot be measured; leave it out of "
            "`classes`, or import with a larger test share",
            reason="NO_SEALED_IMAGES",
        )
    truth = np.array([kinds.index(row.class_name) for row in rows])
    groups = np.unique([row.group_id or row.image_id for row in rows], return_inverse=True)[1]
    return Sealed(kinds, truth, groups)


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
    seeds = {one["scenario"]["name"]: len(set(one["classifiers"])) for one in scenarios}
    if min(seeds.values()) < 2 or any(seeds[one["scenario"]["name"]] != len(one["classifiers"]) for one in scenarios):
        raise InvalidArgument(
            f"seeds: each scenario needs at least two different trainings; there are {seeds}", reason="TOO_FEW_SEEDS"
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
        if version_ids(one["dataset_version"])[0] != dataset_id(dataset):
            raise FailedPrecondition(
                f"{one['dataset_version']} is no version of {dataset}, whose sealed rows are scored", reason="UNFAIR"
            )
        for record in (records[name] for name in one["classifiers"]):
            if record["dataset_version"] != one["dataset_version"] or record["role"] != "ROLE_EVALUATOR":
                raise FailedPrecondition(
                    f"{record['name']} is no evaluator trained on {one['dataset_version']}; train one", reason="UNFAIR"
                )
            if classes and record["classes"] != list(classes):
                raise FailedPrecondition(
                    f"{record['name']} has the label map {record['classes']}, not {list(classes)}; train one for these",
                    reason="LABEL_MAP_MISMATCH",
                )
    sides: dict[str, tuple[Any, ...]] = {}
    for one in scenarios:
        listed = [records[name] for name in one["classifiers"]]
        # 0 is left out of stored JSON by some writers.
        trained = [(record.get("seed", 0), record.get("updates", 0), record["spec"]) for record in listed]
        sides[one["scenario"]["name"]] = tuple(trained)
    if any(side != next(iter(sides.values())) for side in sides.values()):
        raise FailedPrecondition(
            "scenarios were trained with different seeds, updates or networks, so that a difference would not be the "
            f"data's: {', '.join(sides)}; train them alike",
            reason="UNFAIR",
        )


def holds_generated(store: Store, scenario: Mapping[str, Any]) -> bool:
    """Whether a scenario's training rows hold generated images: by its dose, or by what its version counts."""
    if scenario["scenario"].get("synthetic", 0) > 0:
        return True
    version = store.get_json(f"{scenario['dataset_version']}/version.json")
    return any(int(one.get("count", 0)) > 0 for one in version.get("synthetic", []))


def _findings(inputs: Mapping[str, Any], sealed: Sealed, predictions: Sequence[Predictions]) -> dict[str, Any]:
    """The part of the message `Evaluation` that follows from the predictions."""
    reference = inputs["reference"]
    study = Study(sealed, predictions, resamples=inputs["resamples"], seed=inputs["seed"])
    scores = [study.score(p.scenario) for p in predictions]
    comparisons = compare(study, predictions, reference=reference)
    found = findings(predictions, scores, comparisons, reference=reference, subjects=sealed.group_count)
    return {
        "scores": [_score(s, one, sealed.classes) for s, one in zip(scores, inputs["scenarios"], strict=True)],
        "comparisons": [_comparison(c) for c in comparisons],
        "verdict": _verdict(judge(found)),
        "test_images": len(sealed.truth),
        "test_subjects": sealed.group_count,
    }


def _distinct(scenarios: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for one in scenarios for name in one["classifiers"]))


def _predictions_table(
    rows: Sequence[Row],
    predictions: Sequence[Predictions],
    scenarios: Sequence[Mapping[str, Any]],
    records: Mapping[str, Mapping[str, Any]],
) -> pa.Table:
    """One row per scenario, training and sealed image; p_i is the probability of the label map's i-th class."""
    parts = []
    for one, scenario in zip(predictions, scenarios, strict=True):
        for name, values in zip(scenario["classifiers"], one.probabilities, strict=True):
            columns: dict[str, Any] = {
                "scenario": [one.scenario] * len(rows),
                "classifier": [name] * len(rows),
                "seed": pa.array([int(records[name].get("seed", 0))] * len(rows), pa.int64()),
                "image_id": [row.image_id for row in rows],
                "group_id": [row.group_id for row in rows],
                "class": [row.class_name for row in rows],
            }
            columns |= {f"p_{i}": values[:, i].astype(np.float32) for i in range(values.shape[1])}
            parts.append(pa.table(columns))
    return pa.concat_tables(parts)


def _rounded(value: float) -> float:
    return round(float(value), _DIGITS)


def _estimate(value: Any) -> dict[str, float]:
    return {key: _rounded(item) for key, item in asdict(value).items()}


def _score(score: Score, scenario: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """The message `ScenarioScore`."""
    return {
        "scenario": score.scenario,
        "dataset_version": scenario["dataset_version"],
        "training_images": scenario["training_images"],
        "macro_recall": _estimate(score.macro_recall),
        "macro_precision": _estimate(score.macro_precision),
        "macro_f1": _estimate(score.macro_f1),
        "accuracy": _estimate(score.accuracy),
        "macro_auc": _estimate(score.macro_auc),
        "recalls": {kind: _rounded(value) for kind, value in zip(classes, score.recalls, strict=True)},
        "confusion": list(score.confusion),
        "seeds": len(score.seed_macro_recalls),
        "seed_macro_recalls": [_rounded(value) for value in score.seed_macro_recalls],
        "specificities": {kind: _rounded(value) for kind, value in zip(classes, score.specificities, strict=True)},
        "weighted_precision": _rounded(score.weighted_precision),
        "weighted_f1": _rounded(score.weighted_f1),
        "calibration_error": _rounded(score.calibration_error),
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
