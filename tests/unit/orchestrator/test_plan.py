from __future__ import annotations

from typing import Any

import pytest

from genaug.orchestrator.plan import plan_key, requests_of, write_plan
from genaug.schema.common import class_counts
from genaug.schema.datasets import Dataset, DatasetVersion, MultiDisease, View
from genaug.schema.evaluation import EvaluationSpec
from genaug.schema.jobs import EvaluationPlan, read_request
from genaug.schema.model import parse, read
from genaug.schema.run import Run, RunSpec, Scenario, Step
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.settings import StoreSettings
from genaug.shared.store import Store

COUNTS = class_counts(dict.fromkeys("ab", 60))
DATASET = Dataset(name="datasets/d", digest="sealed", channels=1, median_side=8, folds=5, training=COUNTS)
MORE = "c" * 32
VIEW = View(classes=("a", "b"), multi_disease=MultiDisease.EXCLUDE)


def version(name: str, **counts: int) -> DatasetVersion:
    made: Any = {field: class_counts({"a": count}) for field, count in counts.items()}
    return DatasetVersion(name=f"datasets/d/versions/{name}", digest=name, view=VIEW, **made)


@pytest.fixture
def store() -> Store:
    store = Store.open(StoreSettings(url="memory://"), "assembly")
    store.put_new_json("datasets/d/dataset.json", DATASET.json_value())
    for record in (version("real", real=60), version(MORE, real=60, synthetic=60)):
        store.put_new_json(f"{record.name}/version.json", record.json_value())
    return store.as_role("orchestrator")


def spec(*names: str, **fields: Any) -> EvaluationSpec:
    versions = [f"datasets/d/versions/{name}" for name in names]
    return parse(EvaluationSpec, {"name": "again", "dataset_versions": versions, **fields})


def test_a_plan_and_its_requests_are_in_the_store(store: Store) -> None:
    name, plan = write_plan(store, spec("real", MORE, evaluation={"seeds": 2}))
    assert len(plan.items) == 4
    assert read(store, plan_key(name), EvaluationPlan) == plan
    for request in requests_of(plan):
        assert read_request(store, request.key) == request


def test_asking_again_finds_the_same_evaluation(store: Store) -> None:
    first, _ = write_plan(store, spec("real", MORE))
    assert write_plan(store, spec("real", MORE))[0] == first


@pytest.mark.parametrize(
    ("asked", "error", "reason"),
    [
        (spec(), InvalidArgument, "BAD_EVALUATION"),
        (spec("real", run="runs/x"), InvalidArgument, "BAD_EVALUATION"),
        (spec(MORE, "real"), InvalidArgument, "BAD_EVALUATION"),
        (spec("real", "d" * 32), NotFound, "VERSION_NOT_FOUND"),
        (spec(run="none-01234567"), NotFound, "RUN_NOT_FOUND"),
        (spec("real", MORE, evaluation={"further": [{}]}), InvalidArgument, "BAD_EVALUATION"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    store: Store, asked: EvaluationSpec, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error) as caught:
        write_plan(store, asked)
    assert caught.value.reason == reason  # type: ignore[attr-defined]


def test_a_run_that_has_not_assembled_is_not_evaluated(store: Store) -> None:
    given = RunSpec(name="r", dataset="d", scenarios=(Scenario(name="real"),))
    run = Run(name="runs/r-01234567", spec=given, steps=(Step(name="assemble"),))
    store.put_json("runs/r-01234567/run.json", run.json_value())
    with pytest.raises(FailedPrecondition) as caught:
        write_plan(store, spec(run="r-01234567"))
    assert caught.value.reason == "RUN_NOT_FINISHED"
