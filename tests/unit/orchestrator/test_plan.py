from __future__ import annotations

import copy

import pytest

from genaug.orchestrator.plan import plan_key, requests_of, write_plan
from genaug.schema.jobs import read_request
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.settings import StoreSettings
from genaug.shared.store import Store

DATASET = {
    "name": "datasets/d",
    "digest": "sealed",
    "channels": 1,
    "median_side": 8,
    "folds": 5,
    "training": [{"class_name": name, "count": 60} for name in "ab"],
}
MORE = "c" * 32
VIEW = {"classes": ["a", "b"], "multi_disease": "MULTI_DISEASE_DROP", "fold": 0}


def version(name: str, **counts: int) -> dict:
    found = {kind: [{"class_name": "a", "count": count}] for kind, count in counts.items()}
    return {"name": f"datasets/d/versions/{name}", "digest": name, "view": VIEW, **found}


@pytest.fixture
def store() -> Store:
    found = Store.open(StoreSettings(url="memory://"), "assembly")
    found.put_new_json("datasets/d/dataset.json", DATASET)
    for one in (version("real", real=60), version(MORE, real=60, synthetic=60)):
        found.put_new_json(f"{one['name']}/version.json", one)
    return found.as_role("orchestrator")


def spec(*names: str, **more) -> dict:
    return {"name": "again", "dataset_versions": [f"datasets/d/versions/{name}" for name in names], **more}


def test_a_plan_and_its_requests_are_in_the_store(store: Store) -> None:
    name, plan = write_plan(store, spec("real", MORE, evaluation={"seeds": 2}))
    assert len(plan["items"]) == 4
    assert store.get_json(plan_key(name)) == plan
    for request in requests_of(plan):
        assert read_request(store, request.key) == request


def test_asking_again_finds_the_same_evaluation(store: Store) -> None:
    first, _ = write_plan(store, spec("real", MORE))
    assert write_plan(store, copy.deepcopy(spec("real", MORE)))[0] == first


@pytest.mark.parametrize(
    ("asked", "error", "reason"),
    [
        ({"name": "again"}, InvalidArgument, "BAD_EVALUATION"),
        (spec("real", run="runs/x"), InvalidArgument, "BAD_EVALUATION"),
        (spec(MORE, "real"), InvalidArgument, "BAD_EVALUATION"),
        (spec("real", "d" * 32), NotFound, "VERSION_NOT_FOUND"),
        ({"name": "again", "run": "none-01234567"}, NotFound, "RUN_NOT_FOUND"),
        (spec("real", MORE, evaluation={"further": [{}]}), InvalidArgument, "BAD_EVALUATION"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(store: Store, asked: dict, error: type[Exception], reason: str) -> None:
    with pytest.raises(error) as caught:
        write_plan(store, asked)
    assert caught.value.reason == reason  # type: ignore[attr-defined]


def test_a_run_that_has_not_assembled_is_not_evaluated(store: Store) -> None:
    run = {"name": "runs/r-01234567", "spec": {"evaluation": {"folds": 1}, "scenarios": [{"name": "real"}]}}
    store.put_json("runs/r-01234567/run.json", run | {"steps": [{"name": "assemble"}]})
    with pytest.raises(FailedPrecondition) as caught:
        write_plan(store, {"name": "again", "run": "r-01234567"})
    assert caught.value.reason == "RUN_NOT_FINISHED"
