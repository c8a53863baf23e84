from __future__ import annotations

from typing import Any

import pytest

from genaug.orchestrator.trainings import PROBE, Trainings, doses_of, entries_of
from genaug.schema.classifiers import ClassifierSpec, Head
from genaug.schema.common import class_counts
from genaug.schema.datasets import Dataset, DatasetVersion, View
from genaug.schema.evaluation import EvaluationSettings, EvaluationSpec
from genaug.schema.run import Scenario

SETTINGS = EvaluationSettings(
    classifier=ClassifierSpec(backbone="SMALL_CNN"),
    updates=5,
    seeds=2,
    first_seed=7,
    batch_size=4,
    learning_rate=0.1,
    resamples=200,
)
VIEW = View(classes=("A", "B"))
SCENARIOS = (Scenario(name="real"), Scenario(name="syn", synthetic=1.0))
SPEC = EvaluationSpec(name="e")


def version(name: str, fold: int = 0, digest: str = "", **counts: Any) -> DatasetVersion:
    view = VIEW.model_copy(update={"fold": fold})
    made = {field: class_counts({"A": count}) for field, count in {"real": 3, **counts}.items()}
    return DatasetVersion(name=name, digest=digest or name, view=view, **made)


def dataset(side: int = 8) -> Dataset:
    return Dataset(name="datasets/d", digest="d", channels=1, median_side=side)


def trainings(*, folds: tuple[int, ...] = (0,), side: int = 8) -> Trainings:
    parts = [entries_of(SCENARIOS, [version(f"v{fold}/{one.name}", fold) for one in SCENARIOS]) for fold in folds]
    return Trainings(parts, SETTINGS, dataset(side), VIEW, pre_resize=8)


def test_all_scenarios_are_trained_alike() -> None:
    items = trainings().items()
    assert [(item.dataset_version, item.seed) for item in items] == [
        ("v0/real", 7),
        ("v0/real", 8),
        ("v0/syn", 7),
        ("v0/syn", 8),
    ]
    listed = [item.json_value() for item in items]
    same = {key for key in listed[0] if len({repr(item[key]) for item in listed}) == 1}
    assert same == set(listed[0]) - {"dataset_version", "rows_digest", "seed"}


def test_each_part_is_scored_by_the_classifiers_that_have_not_seen_it() -> None:
    found = trainings(folds=(1, 2))
    items, inputs = found.items(), found.evaluation_inputs(SPEC)
    assert inputs.reference == "real"
    for index, name in enumerate(("real", "syn")):
        for part, fold in zip(inputs.scenarios[index].parts, (1, 2), strict=True):
            assert (part.fold, part.dataset_version) == (fold, f"v{fold}/{name}")
            own = [item for item in items if item.dataset_version == part.dataset_version]
            assert list(part.classifiers) == [item.result for item in own]
    assert inputs.scenarios[1].training_images == 3


def test_made_and_missing_images_are_means_over_the_folds() -> None:
    parts = [
        entries_of(SCENARIOS, [version("r", fold), version("s", fold, synthetic=made, shortfall=2 * made)])
        for fold, made in ((1, 4), (2, 6))
    ]
    scored = Trainings(parts, SETTINGS, dataset(), VIEW, 8).evaluation_inputs(SPEC).scenarios
    assert [(one.training_images, one.made_images, one.missing_images) for one in scored] == [(3, 0, 0), (8, 5, 10)]


@pytest.mark.parametrize(
    ("counted", "doses"),
    [
        ({}, (0, 0)),
        ({"synthetic": 10}, (0.5, 0)),
        ({"synthetic": 10, "shortfall": 30}, (2, 0)),
        ({"transformed": 40}, (0, 2)),
        ({"synthetic": 10, "transformed": 20, "shortfall": 10}, (0.5, 1)),
    ],
)
def test_a_versions_doses_are_those_it_was_asked_for(counted: dict[str, int], doses: tuple[float, float]) -> None:
    assert doses_of(version("v", **{"real": 20, **counted})) == {"synthetic": doses[0], "transformed": doses[1]}


@pytest.mark.parametrize(("side", "probes"), [(8, 0), (256, 1)])
def test_the_reference_probe_is_trained_where_there_are_photographs(side, probes) -> None:
    found = trainings(side=side)
    probe = [item for item in found.items() if item.classifier.head == Head.LOGISTIC]
    assert [item.dataset_version for item in probe] == ["v0/real"] * probes
    inputs = found.evaluation_inputs(SPEC)
    if probes:
        assert inputs.probe is not None
        assert inputs.probe.scenario.name == PROBE
        assert inputs.probe.parts[0].classifiers == (probe[0].result,)
    else:
        assert inputs.probe is None


def test_a_dataset_imported_anew_is_never_scored_by_old_classifiers() -> None:
    """Its `real` version has the same name, but rows that were trained on may be sealed now."""
    names = set()
    for digest in ("one", "two"):
        part = entries_of(SCENARIOS[:1], [version("datasets/d/versions/real", digest=digest)])
        names |= {item.result for item in Trainings([part], SETTINGS, dataset(), VIEW, 8).items()}
    assert len(names) == 4
