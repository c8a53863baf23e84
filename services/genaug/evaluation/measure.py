"""Scores frozen classifiers once on unseen rows, compares the scenarios and draws the verdict. Nothing here learns."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from genaug.evaluation.checks import check_fair, check_parts, check_probe, check_scenarios, holds_generated
from genaug.evaluation.compare import BootstrapComparison, Predictions, TestSet, compare
from genaug.evaluation.metrics import LoadedMetric, load_metrics
from genaug.evaluation.saturation import dose_scenarios, saturate
from genaug.evaluation.test_rows import TestPart, read_parts, truth_of
from genaug.evaluation.verdict import findings, judge
from genaug.schema.classifiers import Classifier
from genaug.schema.common import provenance
from genaug.schema.evaluation import Comparison, Estimate, Evaluation, EvaluationState, ScenarioScore
from genaug.schema.jobs import RECIPES, EvaluateInputs, ScoredScenario
from genaug.schema.model import M
from genaug.schema.run import Scenario
from genaug.shared.manifest import Row, encode
from genaug.shared.progress import ProgressCallback
from genaug.shared.provenance import now
from genaug.shared.store import Store
from genaug.vision.models import classifiers

LAST = "evaluation.json"
PROBE = "reference-probe"
_DIGITS = 6

Probabilities = NDArray[np.float32]
"""float32 [n, k]."""


class Scorer(Protocol):
    """A frozen classifier."""

    def predict_rows(self, store: Store, rows: Sequence[Row]) -> Probabilities:
        """Probabilities of the images of `rows`."""
        ...


class Loader(Protocol):
    """Loader of frozen classifiers."""

    def __call__(self, store: Store, name: str, *, device: str, classes: Sequence[str]) -> Scorer:
        """Load `name`, which must have the label map `classes`."""
        ...


def evaluate(
    inputs: EvaluateInputs, store: Store, report: ProgressCallback, *, device: str, load: Loader = classifiers.load
) -> str:
    """Score every classifier of every scenario on rows that it has not seen, compare the scenarios and judge.

    The seal is opened only after every check that does not need it has passed, and the opening is recorded first. Each
    outer fold's rows are scored by the fold's own classifiers; predictions are pooled, so that each subject is scored
    once, and the seal stays shut.

    Args:
        inputs: Inputs of an `evaluate` Job.
        store: As the identity "evaluate".
        report: Called with classifiers.
        device: As in the settings.
        load: Loads a classifier.

    Returns:
        "evaluations/{digest}". An existing one is not made again, and the seal stays shut.

    Raises:
        InvalidArgument: the reference is no scenario, a name comes twice, a scenario has fewer than two seeds, or a
            metric is unknown.
        FailedPrecondition: classifiers cannot be compared (other seeds, updates, dataset version or label map), a
            metric fails, or a class has no image to score.
    """
    name = inputs.result
    if store.exists(f"{name}/{LAST}"):
        return name
    start = time.monotonic()
    check_scenarios(inputs)
    probes = [_named_probe(inputs.probe)] if inputs.probe else []
    scored = [*inputs.scenarios, *probes]
    records = {classifier: classifiers.read_record(store, classifier) for classifier in _distinct(scored)}
    check_fair(inputs, records)
    folds = check_parts(store, scored)
    for probe in probes:
        check_probe(probe, inputs, records)
    synthetic = [holds_generated(store, scenario) for scenario in inputs.scenarios]
    further = load_metrics(inputs.metrics, classes=len(inputs.classes) or 2)
    parts = read_parts(store, inputs, folds=folds)
    test_set = truth_of([row for part in parts for row in part.rows], classes=inputs.classes)
    probabilities: dict[str, Probabilities] = {}
    rows_of = {classifier: part.rows for i, part in enumerate(parts) for classifier in _distinct(scored, part=i)}
    for index, classifier in enumerate(records):
        report(index, len(records), "classifiers")
        loaded = load(store, classifier, device=device, classes=test_set.classes)
        probabilities[classifier] = loaded.predict_rows(store, rows_of[classifier])
    predictions = [
        Predictions(scenario.scenario.name, generated, _pooled(scenario, probabilities))
        for scenario, generated in zip(scored, [*synthetic, *[False] * len(probes)], strict=True)
    ]
    table = _predictions_table(parts, scored, probabilities, records)
    store.put_new(f"{name}/predictions.parquet", encode(table))
    results = _results(inputs, test_set, predictions[: len(inputs.scenarios)], further)
    record = results.model_copy(
        update={
            "name": name,
            "reference_probe": _probe_score(inputs, probes[0], test_set, predictions[-1]) if probes else None,
            "create_time": now(),
            "provenance": provenance(RECIPES["evaluate"], seconds=time.monotonic() - start),
        }
    )
    store.put_new_json(f"{name}/{LAST}", record.json_value())
    report(len(records), len(records), "classifiers")
    return name


def _named_probe(probe: ScoredScenario) -> ScoredScenario:
    return probe.model_copy(update={"scenario": Scenario(name=PROBE)})


def _results(
    inputs: EvaluateInputs,
    test_set: TestSet,
    predictions: Sequence[Predictions],
    further: Mapping[str, LoadedMetric],
) -> Evaluation:
    """Results that follow from the predictions."""
    bootstrap = BootstrapComparison(
        test_set, predictions, resamples=inputs.resamples, seed=inputs.seed, further=further
    )
    scores = [bootstrap.score(p.scenario) for p in predictions]
    comparisons = compare(bootstrap, predictions, reference=inputs.reference)
    verdict = judge(
        findings(
            predictions,
            scores,
            comparisons,
            reference=inputs.reference,
            subjects=test_set.group_count,
            shortfalls={s.scenario.name: _made_of_required(s) for s in inputs.scenarios if s.missing_images},
        )
    )
    curve = saturate(
        bootstrap,
        dose_scenarios([_as_met(scenario) for scenario in inputs.scenarios], reference=inputs.reference),
        scores=scores,
        comparisons=comparisons,
        seed=inputs.seed,
    )
    return Evaluation(
        spec=inputs.spec,
        state=EvaluationState.SUCCEEDED,
        scores=tuple(_stored_score(s, scenario) for s, scenario in zip(scores, inputs.scenarios, strict=True)),
        comparisons=tuple(_rounded(Comparison, comparison) for comparison in comparisons),
        verdict=verdict,
        test_images=len(test_set.truth),
        test_subjects=test_set.group_count,
        saturation=curve
        and curve.model_copy(update={"macro_recalls": tuple(_rounded(Estimate, e) for e in curve.macro_recalls)}),
    )


def _made_of_required(scenario: ScoredScenario) -> tuple[int, int]:
    """Number of a scenario's made images, and the number that its dose requires."""
    return scenario.made_images, scenario.made_images + scenario.missing_images


def _as_met(scenario: ScoredScenario) -> Scenario:
    """The scenario with the dose of generated images that was met, to two digits, in place of the specified one."""
    made, required = _made_of_required(scenario)
    if made == required:
        return scenario.scenario
    met = round(scenario.scenario.synthetic * made / required, 2)
    return scenario.scenario.model_copy(update={"synthetic": met})


def _probe_score(
    inputs: EvaluateInputs, probe: ScoredScenario, test_set: TestSet, predictions: Predictions
) -> ScenarioScore:
    """Score of the reference probe: one fit without seeds, with an interval over subjects."""
    bootstrap = BootstrapComparison(test_set, [predictions], resamples=inputs.resamples, seed=inputs.seed)
    return _stored_score(bootstrap.score(PROBE), probe)


def _distinct(scenarios: Iterable[ScoredScenario], *, part: int | None = None) -> list[str]:
    """Distinct classifiers of all scenarios, of one part or of all."""
    chosen = slice(None) if part is None else slice(part, part + 1)
    return list(dict.fromkeys(name for s in scenarios for p in s.parts[chosen] for name in p.classifiers))


def _pooled(scenario: ScoredScenario, probabilities: Mapping[str, Probabilities]) -> NDArray[np.float32]:
    """Predictions of a scenario's classifiers on all rows, float32 [seeds, n, k], part after part."""
    return np.concatenate([np.stack([probabilities[n] for n in part.classifiers]) for part in scenario.parts], 1)


def _predictions_table(
    parts: Sequence[TestPart],
    scenarios: Sequence[ScoredScenario],
    probabilities: Mapping[str, Probabilities],
    records: Mapping[str, Classifier],
) -> pa.Table:
    """One row per scenario, training and scored image; p_i is the probability of the label map's i-th class."""
    tables = []
    for scenario in scenarios:
        for test_part, part in zip(parts, scenario.parts, strict=True):
            rows = test_part.rows
            for name in part.classifiers:
                values = probabilities[name]
                columns: dict[str, Any] = {
                    "scenario": [scenario.scenario.name] * len(rows),
                    "classifier": [name] * len(rows),
                    "seed": pa.array([records[name].seed] * len(rows), pa.int64()),
                    "image_id": [row.image_id for row in rows],
                    "group_id": [row.group_id for row in rows],
                    "class": [row.class_name for row in rows],
                }
                columns |= {f"p_{i}": values[:, i].astype(np.float32) for i in range(values.shape[1])}
                tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def _stored_score(score: ScenarioScore, scenario: ScoredScenario) -> ScenarioScore:
    """The score as it is stored. Of several folds, the version is the first one's."""
    return _rounded(ScenarioScore, score).model_copy(
        update={
            "dataset_version": scenario.parts[0].dataset_version,
            "training_images": scenario.training_images,
            "made_images": scenario.made_images,
            "missing_images": scenario.missing_images,
        }
    )


def _rounded(kind: type[M], value: M) -> M:
    """`value` with its numbers rounded for storage."""
    return kind.model_validate(_rounded_json(value.model_dump()))


def _rounded_json(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded_json(item) for key, item in value.items()}
    return [_rounded_json(item) for item in value] if isinstance(value, (list, tuple)) else value
