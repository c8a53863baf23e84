from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from genaug.evaluation.measure import evaluate
from genaug.schema.jobs import evaluation_name
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import Row, decode, write_rows
from genaug.shared.protojson import from_dict, to_dict
from genaug.shared.store import Store
from genaug.v1 import evaluation_pb2

Stores = Callable[[str], Store]
CLASSES = ["a", "b"]
VERSIONS = {"real": "datasets/d/versions/real", "made": f"datasets/d/versions/{'1' * 32}"}


def sealed_rows(count: int = 40) -> list[Row]:
    rows = []
    for i in range(count):
        kind = "abc"[i % 3]
        rows.append(
            Row(
                f"{i:032x}",
                f"sealed/images/00/{i}",
                "",
                "",
                kind,
                "test",
                group_id=f"{i // 6:032x}",
                subject_id="secret",
            )
        )
    return rows


def fill(stores: Stores) -> None:
    """A sealed dataset of three classes, two versions and their classifiers, as other steps leave them."""
    write_rows(stores("assembly"), "sealed/datasets/d/rows.parquet", sealed_rows())
    test = [{"class_name": kind, "count": 13} for kind in "abc"]
    stores("assembly").put_new_json("datasets/d/dataset.json", {"name": "datasets/d", "test": test})
    for name, version in VERSIONS.items():
        made = [{"class_name": "a", "count": 5}] if name == "made" else []
        stores("assembly").put_new_json(f"{version}/version.json", {"name": version, "synthetic": made})
        for seed in (0, 1, 2):
            write_record(stores, classifier(name, seed), version=version, seed=seed)


def classifier(scenario: str, seed: int) -> str:
    return f"classifiers/{seed}{'ab'[scenario == 'made'] * 31}"


def write_record(stores: Stores, name: str, **changes: Any) -> None:
    record = {"role": "ROLE_EVALUATOR", "updates": 600, "spec": {"backbone": "BACKBONE_SMALL_CNN", "image_size": 8}}
    record |= {"name": name, "classes": CLASSES, "dataset_version": changes.pop("version"), **changes}
    stores("train").put_new_json(f"{name}/classifier.json", record)


def part(name: str, version: str, *, fold: int = 0) -> dict[str, Any]:
    return {
        "fold": fold,
        "dataset_version": version,
        "classifiers": [classifier(name, seed) for seed in (0, 1, 2)],
    }


def inputs(**changes: Any) -> dict[str, Any]:
    scenarios = [
        {
            "scenario": {"name": name, "synthetic": 0, "transformed": 0, "sampling": "SAMPLING_NATURAL"},
            "training_images": 100,
            "made_images": 0,
            "missing_images": 0,
            "parts": [part(name, version)],
        }
        for name, version in VERSIONS.items()
    ]
    return {
        "dataset": "datasets/d",
        "classes": CLASSES,
        "multi_disease": "KEEP",
        "reference": "real",
        "scenarios": scenarios,
        "resamples": 100,
        "seed": 0,
        "spec": {"name": "study"},
        **changes,
    }


class Oracle:
    """Knows the truth by the row's class; `skill` of its answers are right."""

    def __init__(self, skill: float, seed: int) -> None:
        self._skill, self._seed = skill, seed

    def predict_rows(self, store: Store, rows: Sequence[Row]) -> np.ndarray:
        rng = np.random.default_rng(self._seed)
        truth = np.array([CLASSES.index(row.class_name) for row in rows])
        labels = np.where(rng.random(len(rows)) < self._skill, truth, 1 - truth)
        return np.full((len(rows), 2), 0.2, np.float32) + 0.6 * np.eye(2, dtype=np.float32)[labels]


def load(store: Store, name: str, *, device: str, classes: Sequence[str]) -> Oracle:
    assert list(classes) == CLASSES
    return Oracle(0.95 if name.endswith("b") else 0.6, int(name[len("classifiers/")]))


def silent(done: int, total: int, unit: str) -> None:
    assert unit == "classifiers"
    assert 0 <= done <= total


def openings(stores: Stores) -> list[str]:
    return [key for key, _ in stores("assembly").list("seal-openings/")]


def run(stores: Stores, asked: dict[str, Any]) -> dict[str, Any]:
    name = evaluate(asked, stores("evaluate"), silent, device="cpu", load=load)
    found: dict[str, Any] = stores("evaluate").get_json(f"{name}/evaluation.json")
    return found


def test_evaluation_is_the_message_and_adds_up(stores: Stores) -> None:
    fill(stores)
    found = run(stores, inputs())
    assert found["name"] == evaluation_name(inputs())
    message = from_dict(evaluation_pb2.Evaluation, found)
    assert set(found) - set(to_dict(message)) == set()
    assert message.state == evaluation_pb2.Evaluation.STATE_SUCCEEDED
    rows = [row for row in sealed_rows() if row.class_name in CLASSES]
    assert message.test_images == len(rows)
    assert message.test_subjects == len({row.group_id for row in rows})
    for score in message.scores:
        matrix = np.array(score.confusion).reshape(2, 2)
        assert matrix.sum() == 3 * len(rows)
        assert score.accuracy.value == pytest.approx(np.trace(matrix) / matrix.sum(), abs=1e-6)
        assert score.macro_recall.value == pytest.approx(np.mean(score.seed_macro_recalls), abs=1e-6)
        assert score.macro_recall.lower <= score.macro_recall.value <= score.macro_recall.upper


def test_a_version_with_generated_rows_is_synthetic_whatever_its_dose_says(stores: Stores) -> None:
    fill(stores)
    found = run(stores, inputs())
    assert found["verdict"]["outcome"] == "OUTCOME_HELPS"
    assert found["verdict"]["sentence"].startswith("Generated images help, ")


def test_predictions_hold_every_image_of_every_training_and_no_subject(stores: Stores) -> None:
    fill(stores)
    found = run(stores, inputs())
    table = decode(stores("evaluate").get(f"{found['name']}/predictions.parquet"))
    assert table.num_rows == 6 * found["test_images"]
    assert table.column_names == ["scenario", "classifier", "seed", "image_id", "group_id", "class", "p_0", "p_1"]
    assert table.column("seed").unique().to_pylist() == [0, 1, 2]


def test_the_opening_is_recorded_before_the_seal_is_read(stores: Stores) -> None:
    fill(stores)
    stores("assembly").delete("sealed/datasets/d/rows.parquet")
    with pytest.raises(NotFound):
        run(stores, inputs())
    assert len(openings(stores)) == 1
    record = stores("assembly").get_json(openings(stores)[0])
    assert (record["evaluation"], record["dataset"], record["rows"]) == (evaluation_name(inputs()), "datasets/d", 39)


def test_a_finished_evaluation_leaves_the_seal_shut(stores: Stores) -> None:
    fill(stores)
    first = run(stores, inputs())
    assert run(stores, inputs()) == first
    assert len(openings(stores)) == 1


def scenarios_with(**changes: Any) -> list[dict[str, Any]]:
    listed = inputs()["scenarios"]
    listed[1]["parts"][0] |= {key: value for key, value in changes.items() if key != "scenario"}
    listed[1] |= {key: value for key, value in changes.items() if key == "scenario"}
    return listed


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"reference": "nobody"}, "NO_REFERENCE"),
        ({"scenarios": scenarios_with(classifiers=[classifier("made", 0)])}, "TOO_FEW_SEEDS"),
        ({"scenarios": scenarios_with(classifiers=[classifier("made", 0)] * 3)}, "TOO_FEW_SEEDS"),
        ({"scenarios": scenarios_with(scenario={"name": "real"})}, "DUPLICATE_SCENARIO"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_seal_shut(
    stores: Stores, changes: dict[str, Any], reason: str
) -> None:
    fill(stores)
    with pytest.raises(InvalidArgument) as error:
        run(stores, inputs(**changes))
    assert error.value.reason == reason
    assert openings(stores) == []


@pytest.mark.parametrize(
    "changes", [{"seed": 9}, {"updates": 900}, {"role": "ROLE_LABELER"}, {"version": VERSIONS["real"]}, {"spec": {}}]
)
def test_classifiers_that_were_not_trained_alike_are_refused_with_the_seal_shut(
    stores: Stores, changes: dict[str, Any]
) -> None:
    fill(stores)
    odd = f"classifiers/{'e' * 32}"
    write_record(stores, odd, **{"version": VERSIONS["made"], "seed": 2, **changes})
    names = [classifier("made", 0), classifier("made", 1), odd]
    with pytest.raises(FailedPrecondition) as error:
        run(stores, inputs(scenarios=scenarios_with(classifiers=names)))
    assert error.value.reason == "UNFAIR"
    assert openings(stores) == []


def test_training_rows_of_another_dataset_are_refused(stores: Stores) -> None:
    fill(stores)
    with pytest.raises(FailedPrecondition) as error:
        run(stores, inputs(dataset="datasets/other"))
    assert error.value.reason == "UNFAIR"


def test_a_class_without_sealed_images_is_refused(stores: Stores) -> None:
    fill(stores)
    stores("assembly").delete("sealed/datasets/d/rows.parquet")
    write_rows(stores("assembly"), "sealed/datasets/d/rows.parquet", [r for r in sealed_rows() if r.class_name != "b"])
    with pytest.raises(FailedPrecondition) as error:
        run(stores, inputs())
    assert error.value.reason == "NO_SEALED_IMAGES"


def test_another_label_map_is_refused_with_the_seal_shut(stores: Stores) -> None:
    fill(stores)
    with pytest.raises(FailedPrecondition) as error:
        run(stores, inputs(classes=["b", "a"]))
    assert error.value.reason == "LABEL_MAP_MISMATCH"
    assert openings(stores) == []


FOLDS = {fold: f"datasets/d/versions/{fold}{'f' * 31}" for fold in (1, 2)}


def fill_folds(stores: Stores) -> dict[str, Any]:
    """Two outer folds of unsealed rows, each with versions that leave it out; the inputs to score them."""
    rows = [
        Row(f"{i:032x}", f"images/00/{i}", "", "", "ab"[i % 2], ("train", "validation")[i % 3 == 0], fold=i // 3 % 2)
        for i in range(36)
    ]
    write_rows(stores("assembly"), "datasets/d/versions/real/rows.parquet", rows)
    scenarios = []
    for name in VERSIONS:
        parts = []
        for fold, version in FOLDS.items():
            version = f"{version[:-1]}{'ab'[name == 'made']}"
            stores("assembly").put_new_json(f"{version}/version.json", {"view": {"classes": CLASSES, "fold": fold}})
            names = [f"classifiers/{seed}{fold}{'ab'[name == 'made'] * 30}" for seed in (0, 1, 2)]
            for seed, one in enumerate(names):
                write_record(stores, one, version=version, seed=seed)
            parts.append({"fold": fold, "dataset_version": version, "classifiers": names})
        scenario = {"name": name, "synthetic": float(name == "made"), "sampling": "SAMPLING_NATURAL"}
        counted = {"training_images": 30, "made_images": 0, "missing_images": 0}
        scenarios.append({"scenario": scenario, **counted, "parts": parts})
    return inputs(scenarios=scenarios)


def test_folds_are_pooled_and_leave_the_seal_shut(stores: Stores) -> None:
    fill(stores)
    asked = fill_folds(stores)
    found = run(stores, asked)
    assert openings(stores) == []
    assert found["test_images"] == 36
    assert found["scores"][1]["macro_recall"]["value"] > 0.85
    table = decode(stores("evaluate").get(f"{found['name']}/predictions.parquet")).to_pylist()
    for scenario in VERSIONS:
        scored = [row["image_id"] for row in table if row["scenario"] == scenario and row["seed"] == 0]
        assert sorted(scored) == [f"{i:032x}" for i in range(36)], "each image once"
    for row in table:
        fold = int(row["classifier"].removeprefix("classifiers/")[1])
        assert int(row["image_id"], 16) // 3 % 2 == fold - 1, "scored by those that have not seen it"


@pytest.mark.parametrize("wrong", ["seen", "mixed", "twice", "other"])
def test_folds_that_would_leak_are_refused(stores: Stores, wrong: str) -> None:
    fill(stores)
    asked = fill_folds(stores)
    parts = asked["scenarios"][0]["parts"]
    if wrong == "seen":
        stores("assembly").put_json(f"{parts[0]['dataset_version']}/version.json", {"view": {"classes": CLASSES}})
    elif wrong == "mixed":
        parts[0]["fold"] = 0
    elif wrong == "twice":
        parts[1] = parts[0]
    else:
        parts.reverse()
    with pytest.raises(FailedPrecondition) as error:
        run(stores, asked)
    assert error.value.reason == "UNFAIR"
    assert openings(stores) == []


def probe(stores: Stores, *, version: str = VERSIONS["real"]) -> dict[str, Any]:
    name = f"classifiers/0{'c' * 31}"
    write_record(stores, name, version=version, seed=0, updates=1)
    counted = {"training_images": 100, "made_images": 0, "missing_images": 0}
    return {**counted, "parts": [{"fold": 0, "dataset_version": version, "classifiers": [name]}]}


def test_doses_are_those_that_were_met(stores: Stores) -> None:
    fill(stores)
    asked = inputs()
    template = asked["scenarios"][1]
    asked["scenarios"] = asked["scenarios"][:1]
    for name, dose, made, missing in (("x1", 1.0, 50, 50), ("x2", 2.0, 110, 90), ("x4", 4.0, 400, 0)):
        scenario = template["scenario"] | {"name": name, "synthetic": dose}
        asked["scenarios"].append(template | {"scenario": scenario, "made_images": made, "missing_images": missing})
    found = run(stores, asked)
    assert found["saturation"]["doses"] == [0, 0.5, 1.1, 4]
    assert [(one["made_images"], one["missing_images"]) for one in found["scores"]] == [
        (0, 0),
        (50, 50),
        (110, 90),
        (400, 0),
    ]
    assert "it holds 50 of the 100 made images" in found["verdict"]["sentence"]


def test_the_reference_probe_has_an_interval_over_subjects(stores: Stores) -> None:
    fill(stores)
    found = run(stores, inputs(probe=probe(stores)))
    score = found["reference_probe"]
    assert (score["scenario"], score["seeds"]) == ("reference-probe", 1)
    recall = score["macro_recall"]
    assert 0 <= recall["lower"] < recall["value"] < recall["upper"] <= 1
    assert [score["scenario"] for score in found["scores"]] == list(VERSIONS), "not a scenario"
    assert {c["scenario"] for c in found["comparisons"]} == {"made"}


def test_a_probe_of_other_rows_is_refused(stores: Stores) -> None:
    fill(stores)
    with pytest.raises(FailedPrecondition, match="reference") as error:
        run(stores, inputs(probe=probe(stores, version=VERSIONS["made"])))
    assert error.value.reason == "UNFAIR"
    assert openings(stores) == []


def test_everything_about_a_class_is_said(stores: Stores) -> None:
    fill(stores)
    found = run(stores, inputs())
    for score in found["scores"]:
        assert [one["class_name"] for one in score["classes"]] == CLASSES
        assert np.mean([one["recall"]["value"] for one in score["classes"]]) == pytest.approx(
            score["macro_recall"]["value"], abs=1e-5
        )
        for one in score["classes"]:
            assert one["recall"]["lower"] <= one["recall"]["value"] <= one["recall"]["upper"]
            assert len(one["roc"]) == 51
            assert one["roc"][-1] == 1
        assert sum(one["share"] for one in score["reliability"]) == pytest.approx(1, abs=1e-5)
        right = sum(one["share"] * one["accuracy"] for one in score["reliability"])
        assert right == pytest.approx(score["accuracy"]["value"], abs=1e-4)
