"""Checks that scenarios can be compared, made before the seal is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from genaug.schema.classifiers import Classifier, Role
from genaug.schema.datasets import DatasetVersion
from genaug.schema.jobs import EvaluateInputs, ScoredPart, ScoredScenario
from genaug.schema.model import read
from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.shared.names import dataset_id, version_ids
from genaug.shared.store import Store


def check_scenarios(inputs: EvaluateInputs) -> None:
    """Refuse scenarios that cannot be compared at all.

    Raises:
        InvalidArgument: a name comes twice, the reference is no scenario, or a scenario has fewer than two seeds.
    """
    names = [scenario.scenario.name for scenario in inputs.scenarios]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidArgument(
            f"scenarios: {', '.join(twice)} comes twice; names are unique", reason="DUPLICATE_SCENARIO"
        )
    if inputs.reference not in names:
        raise InvalidArgument(
            f"reference: {inputs.reference!r} is none of the scenarios {', '.join(names)}; add it",
            reason="NO_REFERENCE",
        )
    for scenario in inputs.scenarios:
        for part in scenario.parts:
            distinct = len(set(part.classifiers))
            if distinct < 2 or distinct != len(part.classifiers):
                raise InvalidArgument(
                    f"seeds: each scenario needs at least two different trainings; {scenario.scenario.name} has "
                    f"{distinct}",
                    reason="TOO_FEW_SEEDS",
                )


def check_fair(inputs: EvaluateInputs, records: Mapping[str, Classifier]) -> None:
    """Refuse a comparison of trainings that differ in label map, seeds, updates, network, role or rows.

    Only versions of the dataset itself keep its sealed rows out of training.

    Raises:
        FailedPrecondition: reason UNFAIR or LABEL_MAP_MISMATCH.
    """
    for scenario in inputs.scenarios:
        for part in scenario.parts:
            _check_part(part, records, dataset=inputs.dataset, classes=inputs.classes)
    sides = {
        scenario.scenario.name: [
            (records[name].seed, records[name].updates, records[name].spec)
            for part in scenario.parts
            for name in part.classifiers
        ]
        for scenario in inputs.scenarios
    }
    if any(side != next(iter(sides.values())) for side in sides.values()):
        raise FailedPrecondition(
            "scenarios were trained with different seeds, updates or networks, so that a difference would not be the "
            f"data's: {', '.join(sides)}; train them alike",
            reason="UNFAIR",
        )


def _check_part(part: ScoredPart, records: Mapping[str, Classifier], *, dataset: str, classes: Sequence[str]) -> None:
    """Refuse classifiers that were not trained on the part's version, as evaluators, with the study's label map."""
    if version_ids(part.dataset_version)[0] != dataset_id(dataset):
        raise FailedPrecondition(
            f"{part.dataset_version} is no version of {dataset}, whose rows are scored", reason="UNFAIR"
        )
    for record in (records[name] for name in part.classifiers):
        if record.dataset_version != part.dataset_version or record.role != Role.EVALUATOR:
            raise FailedPrecondition(
                f"{record.name} is no evaluator trained on {part.dataset_version}; train one", reason="UNFAIR"
            )
        if classes and record.classes != tuple(classes):
            raise FailedPrecondition(
                f"{record.name} has the label map {list(record.classes)}, not {list(classes)}; train one for these",
                reason="LABEL_MAP_MISMATCH",
            )


def check_parts(store: Store, scenarios: Sequence[ScoredScenario]) -> list[int]:
    """Refuse parts that would score rows which their classifiers have seen; return the folds, the same for all.

    Raises:
        FailedPrecondition: reason UNFAIR; scenarios have other folds than each other, a fold comes twice, the seal is
            mixed with folds, or a version was not taken through a view that leaves its fold out.
    """
    folds = [part.fold for part in scenarios[0].parts]
    same = all([part.fold for part in scenario.parts] == folds for scenario in scenarios)
    if not folds or not same or len(set(folds)) != len(folds) or (0 in folds and len(folds) > 1):
        raise FailedPrecondition(
            f"parts: scenarios must all be scored on the seal (fold 0) or on the same outer folds, not {folds}",
            reason="UNFAIR",
        )
    for part in (part for scenario in scenarios for part in scenario.parts):
        if _version(store, part).view.fold != part.fold:
            raise FailedPrecondition(
                f"{part.dataset_version} does not leave out fold {part.fold}, which it would be scored on",
                reason="UNFAIR",
            )
    return folds


def check_probe(probe: ScoredScenario, inputs: EvaluateInputs, records: Mapping[str, Classifier]) -> None:
    """Refuse a reference probe that was not trained on the reference's rows.

    Raises:
        FailedPrecondition: reason UNFAIR or LABEL_MAP_MISMATCH.
    """
    parts = next(scenario.parts for scenario in inputs.scenarios if scenario.scenario.name == inputs.reference)
    versions = [part.dataset_version for part in parts]
    if [part.dataset_version for part in probe.parts] != versions:
        raise FailedPrecondition(
            f"probe: was not trained on the rows of the reference, {', '.join(versions)}", reason="UNFAIR"
        )
    for part in probe.parts:
        _check_part(part, records, dataset=inputs.dataset, classes=inputs.classes)


def holds_generated(store: Store, scenario: ScoredScenario) -> bool:
    """Whether a scenario's training rows hold generated images: by its dose, or by its versions' counts."""
    return scenario.scenario.synthetic > 0 or any(
        entry.count for part in scenario.parts for entry in _version(store, part).synthetic
    )


def _version(store: Store, part: ScoredPart) -> DatasetVersion:
    return read(store, f"{part.dataset_version}/version.json", DatasetVersion)
