from __future__ import annotations

import pytest

from genaug.orchestrator.trainings import Trainings, doses_of, entries_of
from genaug.schema.jobs import classifier_name

SETTINGS = {
    "classifier": {"backbone": "BACKBONE_SMALL_CNN"},
    "updates": 5,
    "seeds": 2,
    "first_seed": 7,
    "batch_size": 4,
    "learning_rate": 0.1,
    "resamples": 10,
}
VIEW = {"classes": ["A", "B"], "multi_disease": "MULTI_DISEASE_KEEP"}


def scenario(name: str, dose: float = 0.0) -> dict:
    return {"name": name, "synthetic": dose, "transformed": 0.0, "sampling": "SAMPLING_NATURAL"}


def version(name: str, fold: int = 0, digest: str = "") -> dict:
    view = {**VIEW, **({"fold": fold} if fold else {})}
    return {"name": name, "digest": digest or name, "real": [{"class_name": "A", "count": 3}], "view": view}


def trainings(*, folds=(0,), side=8) -> Trainings:
    scenarios = [scenario("real"), scenario("syn", 1.0)]
    parts = [entries_of(scenarios, [version(f"v{fold}/{one['name']}", fold) for one in scenarios]) for fold in folds]
    dataset = {"name": "datasets/d", "digest": "d", "channels": 1, "median_side": side}
    return Trainings(parts, SETTINGS, dataset, VIEW, detail=8)


def test_all_scenarios_are_trained_alike() -> None:
    items = trainings().items()
    assert [(item["dataset_version"], item["seed"]) for item in items] == [
        ("v0/real", 7),
        ("v0/real", 8),
        ("v0/syn", 7),
        ("v0/syn", 8),
    ]
    same = {key for key in items[0] if len({repr(item[key]) for item in items}) == 1}
    assert same == set(items[0]) - {"dataset_version", "rows_digest", "seed"}


def test_each_part_is_scored_by_the_classifiers_that_have_not_seen_it() -> None:
    found = trainings(folds=(1, 2))
    items, inputs = found.items(), found.evaluation_inputs({})
    assert inputs["reference"] == "real"
    assert inputs["multi_disease"] == "KEEP"
    for index, name in enumerate(("real", "syn")):
        for part, fold in zip(inputs["scenarios"][index]["parts"], (1, 2), strict=True):
            assert (part["fold"], part["dataset_version"]) == (fold, f"v{fold}/{name}")
            own = [item for item in items if item["dataset_version"] == part["dataset_version"]]
            assert part["classifiers"] == [classifier_name(item) for item in own]
    assert inputs["scenarios"][1]["training_images"] == 3


def test_made_and_missing_images_are_means_over_the_folds() -> None:
    found = trainings(folds=(1, 2))
    for part, made in zip(found.parts, (4, 6), strict=True):
        part[1]["version"] |= {
            "synthetic": [{"class_name": "A", "count": str(made)}],
            "shortfall": [{"class_name": "A", "count": str(2 * made)}],
        }
    scored = found.evaluation_inputs({})["scenarios"]
    assert [(one["training_images"], one["made_images"], one["missing_images"]) for one in scored] == [
        (3, 0, 0),
        (8, 5, 10),
    ]


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
    record = {kind: [{"class_name": "A", "count": count}] for kind, count in {"real": 20, **counted}.items()}
    assert doses_of(record) == {"synthetic": doses[0], "transformed": doses[1]}


@pytest.mark.parametrize(("side", "probes"), [(8, 0), (256, 1)])
def test_the_reference_probe_is_trained_where_there_are_photographs(side, probes) -> None:
    found = trainings(side=side)
    probe = [item for item in found.items() if item["classifier"].get("head") == "HEAD_LOGISTIC"]
    assert [item["dataset_version"] for item in probe] == ["v0/real"] * probes
    inputs = found.evaluation_inputs({})
    if probes:
        assert inputs["probe"]["parts"][0]["classifiers"] == [classifier_name(probe[0])]
    else:
        assert inputs["probe"] is None


def test_a_dataset_imported_anew_is_never_scored_by_old_classifiers() -> None:
    """Its `real` version bears the same name, but rows that were trained on may be sealed now."""
    dataset = {"name": "datasets/d", "digest": "d", "channels": 1, "median_side": 8}
    names = set()
    for digest in ("one", "two"):
        part = entries_of([scenario("real")], [version("datasets/d/versions/real", digest=digest)])
        names |= {classifier_name(item) for item in Trainings([part], SETTINGS, dataset, VIEW, 8).items()}
    assert len(names) == 4
