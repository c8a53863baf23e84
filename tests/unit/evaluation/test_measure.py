from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from genaug.evaluation.measure import evaluate
from genaug.schema.classifiers import Classifier, ClassifierSpec, Role
from genaug.schema.common import ClassCount
from genaug.schema.datasets import Dataset, DatasetVersion, MultiDisease, View
from genaug.schema.evaluation import METRICS, Evaluation, EvaluationSpec, Outcome
from genaug.schema.jobs import EvaluateInputs, ScoredPart, ScoredScenario
from genaug.schema.model import Model, read
from genaug.schema.run import Scenario
from genaug.schema.wire import to_proto
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import Row, decode, write_rows
from genaug.shared.protojson import to_dict
from genaug.shared.store import Store
from genaug.v1 import evaluation_pb2

Stores = Callable[[str], Store]
CLASSES = ("a", "b")
VERSIONS = {"real": "datasets/d/versions/real", "made": f"datasets/d/versions/{'1' * 32}"}


def sealed_rows(count: int = 40) -> list[Row]:
    return [
        Row(
            f"{i:032x}", f"sealed/images/00/{i}", "", "", "abc"[i % 3], "test", group_id=f"{i // 6:032x}",
            subject_id="secret",
        )
        for i in range(count)
    ]  # fmt: skip


def put(store: Store, key: str, record: Model) -> None:
    store.put_json(key, record.json_value())


def put_version(stores: Stores, name: str, **fields: Any) -> None:
    put(stores("assembly"), f"{name}/version.json", DatasetVersion(name=name, **fields))


def fill(stores: Stores) -> None:
    """A sealed dataset of three classes, two versions and their classifiers, as other steps leave them."""
    write_rows(stores("assembly"), "sealed/datasets/d/rows.parquet", sealed_rows())
    test = tuple(ClassCount(class_name=name, count=13) for name in "abc")
    put(stores("assembly"), "datasets/d/dataset.json", Dataset(name="datasets/d", test=test))
    for name, version in VERSIONS.items():
        synthetic = (ClassCount(class_name="a", count=5),) if name == "made" else ()
        put_version(stores, version, synthetic=synthetic)
        for seed in (0, 1, 2):
            write_record(stores, classifier(name, seed), dataset_version=version, seed=seed)


def classifier(scenario: str, seed: int) -> str:
    return f"classifiers/{seed}{'ab'[scenario == 'made'] * 31}"


def write_record(stores: Stores, name: str, **fields: Any) -> None:
    spec = ClassifierSpec(backbone="SMALL_CNN", image_size=8)
    fields = {"role": Role.EVALUATOR, "updates": 600, "spec": spec, "classes": CLASSES, **fields}
    put(stores("train"), f"{name}/classifier.json", Classifier(name=name, **fields))


def scored(name: str, *parts: ScoredPart, **fields: Any) -> ScoredScenario:
    counts = {"training_images": 100, "made_images": 0, "missing_images": 0}
    return ScoredScenario.model_validate({"scenario": Scenario(name=name), **counts, "parts": parts, **fields})


def part(name: str, **fields: Any) -> ScoredPart:
    names = tuple(classifier(name, seed) for seed in (0, 1, 2))
    return ScoredPart.model_validate({"fold": 0, "dataset_version": VERSIONS[name], "classifiers": names, **fields})


def inputs(**changes: Any) -> EvaluateInputs:
    return EvaluateInputs(
        dataset="datasets/d",
        dataset_digest="f" * 64,
        classes=CLASSES,
        multi_disease=MultiDisease.KEEP,
        reference="real",
        scenarios=tuple(scored(name, part(name)) for name in VERSIONS),
        resamples=100,
        seed=0,
        spec=EvaluationSpec(name="study"),
    ).replace(**changes)


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
    assert tuple(classes) == CLASSES
    return Oracle(0.95 if name.endswith("b") else 0.6, int(name[len("classifiers/")]))


def silent(done: int, total: int, unit: str) -> None:
    assert unit == "classifiers"
    assert 0 <= done <= total


def openings(stores: Stores) -> list[str]:
    return [key for key, _ in stores("assembly").list("seal-openings/")]


def run(stores: Stores, asked: EvaluateInputs) -> Evaluation:
    name = evaluate(asked, stores("evaluate"), silent, device="cpu", load=load)
    return read(stores("evaluate"), f"{name}/evaluation.json", Evaluation)


def test_evaluation_is_the_message_and_adds_up(stores: Stores) -> None:
    fill(stores)
    evaluation = run(stores, inputs())
    assert evaluation.name == inputs().result
    message = to_proto(evaluation_pb2.Evaluation, evaluation)
    assert set(to_dict(message)) <= set(evaluation.json_value())
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
    verdict = run(stores, inputs()).verdict
    assert verdict is not None
    assert verdict.outcome == Outcome.HELPS
    assert verdict.sentence.startswith("Generated images help, ")


def test_predictions_hold_every_image_of_every_training_and_no_subject(stores: Stores) -> None:
    fill(stores)
    evaluation = run(stores, inputs())
    table = decode(stores("evaluate").get(f"{evaluation.name}/predictions.parquet"))
    assert table.num_rows == 6 * evaluation.test_images
    assert table.column_names == ["scenario", "classifier", "seed", "image_id", "group_id", "class", "p_0", "p_1"]
    assert table.column("seed").unique().to_pylist() == [0, 1, 2]


def test_the_opening_is_recorded_before_the_seal_is_read(stores: Stores) -> None:
    fill(stores)
    stores("assembly").delete("sealed/datasets/d/rows.parquet")
    with pytest.raises(NotFound):
        run(stores, inputs())
    assert len(openings(stores)) == 1
    record = stores("assembly").get_json(openings(stores)[0])
    assert (record["evaluation"], record["dataset"], record["rows"]) == (inputs().result, "datasets/d", 39)


def test_a_finished_evaluation_leaves_the_seal_shut(stores: Stores) -> None:
    fill(stores)
    first = run(stores, inputs())
    assert run(stores, inputs()) == first
    assert len(openings(stores)) == 1


def scenarios_with(**changes: Any) -> tuple[ScoredScenario, ...]:
    """The scenarios, with fields of the second one's part changed."""
    return (scored("real", part("real")), scored("made", part("made", **changes)))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"reference": "nobody"}, "NO_REFERENCE"),
        ({"scenarios": scenarios_with(classifiers=[classifier("made", 0)])}, "TOO_FEW_SEEDS"),
        ({"scenarios": scenarios_with(classifiers=[classifier("made", 0)] * 3)}, "TOO_FEW_SEEDS"),
        ({"scenarios": (scored("real", part("real")), scored("real", part("made")))}, "DUPLICATE_SCENARIO"),
        ({"metrics": ("nonesuch",)}, "UNKNOWN_NAME"),
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
    "changes",
    [
        {"seed": 9},
        {"updates": 900},
        {"role": Role.LABELER},
        {"dataset_version": VERSIONS["real"]},
        {"spec": ClassifierSpec()},
    ],
)
def test_classifiers_that_were_not_trained_alike_are_refused_with_the_seal_shut(
    stores: Stores, changes: dict[str, Any]
) -> None:
    fill(stores)
    odd = f"classifiers/{'e' * 32}"
    write_record(stores, odd, **{"dataset_version": VERSIONS["made"], "seed": 2, **changes})
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
        run(stores, inputs(classes=("b", "a")))
    assert error.value.reason == "LABEL_MAP_MISMATCH"
    assert openings(stores) == []


FOLDS = {fold: f"datasets/d/versions/{fold}{'f' * 31}" for fold in (1, 2)}


def fill_folds(stores: Stores) -> EvaluateInputs:
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
            put_version(stores, version, view=View(classes=CLASSES, fold=fold))
            names = tuple(f"classifiers/{seed}{fold}{'ab'[name == 'made'] * 30}" for seed in (0, 1, 2))
            for seed, one in enumerate(names):
                write_record(stores, one, dataset_version=version, seed=seed)
            parts.append(ScoredPart(fold=fold, dataset_version=version, classifiers=names))
        scenarios.append(scored(name, *parts, scenario=Scenario(name=name, synthetic=float(name == "made"))))
    return inputs(scenarios=scenarios)


def test_folds_are_pooled_and_leave_the_seal_shut(stores: Stores) -> None:
    fill(stores)
    evaluation = run(stores, fill_folds(stores))
    assert openings(stores) == []
    assert evaluation.test_images == 36
    assert evaluation.scores[1].macro_recall.value > 0.85
    table = decode(stores("evaluate").get(f"{evaluation.name}/predictions.parquet")).to_pylist()
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
    first, second = asked.scenarios[0].parts
    if wrong == "seen":
        put_version(stores, first.dataset_version, view=View(classes=CLASSES))
    parts = {
        "seen": (first, second),
        "mixed": (first.replace(fold=0), second),
        "twice": (first, first),
        "other": (second, first),
    }[wrong]
    asked = asked.replace(scenarios=(asked.scenarios[0].replace(parts=parts), asked.scenarios[1]))
    with pytest.raises(FailedPrecondition) as error:
        run(stores, asked)
    assert error.value.reason == "UNFAIR"
    assert openings(stores) == []


def probe(stores: Stores, *, version: str = VERSIONS["real"]) -> ScoredScenario:
    name = f"classifiers/0{'c' * 31}"
    write_record(stores, name, dataset_version=version, seed=0, updates=1)
    return scored("probe", ScoredPart(fold=0, dataset_version=version, classifiers=(name,)))


def test_doses_are_those_that_were_met(stores: Stores) -> None:
    fill(stores)
    scenarios = [scored("real", part("real"))]
    for name, dose, made, missing in (("x1", 1.0, 50, 50), ("x2", 2.0, 110, 90), ("x4", 4.0, 400, 0)):
        scenario = Scenario(name=name, synthetic=dose)
        scenarios.append(scored(name, part("made"), scenario=scenario, made_images=made, missing_images=missing))
    evaluation = run(stores, inputs(scenarios=scenarios))
    assert evaluation.saturation is not None
    assert evaluation.saturation.doses == (0, 0.5, 1.1, 4)
    assert [(score.made_images, score.missing_images) for score in evaluation.scores] == [
        (0, 0),
        (50, 50),
        (110, 90),
        (400, 0),
    ]
    assert evaluation.verdict is not None
    assert "it holds 50 of the 100 made images" in evaluation.verdict.sentence


def test_the_reference_probe_has_an_interval_over_subjects(stores: Stores) -> None:
    fill(stores)
    evaluation = run(stores, inputs(probe=probe(stores)))
    score = evaluation.reference_probe
    assert score is not None
    assert (score.scenario, score.seeds) == ("reference-probe", 1)
    recall = score.macro_recall
    assert 0 <= recall.lower < recall.value < recall.upper <= 1
    assert [score.scenario for score in evaluation.scores] == list(VERSIONS), "not a scenario"
    assert {c.scenario for c in evaluation.comparisons} == {"made"}


def test_a_probe_of_other_rows_is_refused(stores: Stores) -> None:
    fill(stores)
    with pytest.raises(FailedPrecondition, match="reference") as error:
        run(stores, inputs(probe=probe(stores, version=VERSIONS["made"])))
    assert error.value.reason == "UNFAIR"
    assert openings(stores) == []


def test_everything_about_a_class_is_said(stores: Stores) -> None:
    fill(stores)
    for score in run(stores, inputs()).scores:
        assert tuple(entry.class_name for entry in score.classes) == CLASSES
        mean = np.mean([entry.recall.value for entry in score.classes])
        assert mean == pytest.approx(score.macro_recall.value, abs=1e-5)
        for entry in score.classes:
            assert entry.recall.lower <= entry.recall.value <= entry.recall.upper
            assert len(entry.roc) == 51
            assert entry.roc[-1] == 1
        assert sum(each.share for each in score.reliability) == pytest.approx(1, abs=1e-5)
        right = sum(each.share * each.accuracy for each in score.reliability)
        assert right == pytest.approx(score.accuracy.value, abs=1e-4)


def share_right(truth: np.ndarray, probabilities: np.ndarray) -> float:
    return float((probabilities.argmax(1) == truth).mean())


def broken(truth: np.ndarray, probabilities: np.ndarray) -> float:
    raise ValueError("no positive class")


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registered metrics; "share" is the accuracy."""
    references = {"share": "metrics:share_right", "broken": "metrics:broken", "gone": "genaug.nowhere:metric"}
    monkeypatch.setattr(METRICS, "_entries", references)
    monkeypatch.setitem(sys.modules, "metrics", SimpleNamespace(share_right=share_right, broken=broken))


def test_a_further_metric_has_an_interval_like_the_others(stores: Stores, metrics: None) -> None:
    fill(stores)
    for score in run(stores, inputs(metrics=("share",), resamples=400)).scores:
        share, accuracy = score.metrics["share"], score.accuracy
        assert share.value == pytest.approx(accuracy.value, abs=1e-6)
        assert share.lower < share.value < share.upper
        # The accuracy's interval has two pseudo-subjects more.
        assert 0.2 < (share.upper - share.lower) / (accuracy.upper - accuracy.lower) < 2


@pytest.mark.parametrize(("name", "reason"), [("broken", "METRIC_FAILED"), ("gone", "BROKEN_PLUGIN")])
def test_a_metric_that_fails_is_named_with_the_seal_shut(stores: Stores, metrics: None, name: str, reason: str) -> None:
    fill(stores)
    with pytest.raises(FailedPrecondition, match=f"metric '{name}'") as error:
        run(stores, inputs(metrics=(name,)))
    assert error.value.reason == reason
    assert openings(stores) == []
