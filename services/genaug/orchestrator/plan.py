"""What an evaluation apart from a run does: its trainings and what is scored, with every default written out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from genaug.orchestrator.spec import complete_evaluation, evaluators, is_reference, view_of
from genaug.orchestrator.trainings import Trainings, doses_of, entries_of
from genaug.schema.jobs import JobRequest, evaluation_name, make_request, write_request
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.names import check_id, run_id, version_ids
from genaug.shared.provenance import now
from genaug.shared.store import Store
from genaug.shared.tracing import traceparent

Json = dict[str, Any]

# By the record of a resource: the command that lists its like, and the reason word when there is none.
_LISTS = {
    "run.json": ("run list", "RUN_NOT_FOUND"),
    "dataset.json": ("dataset list", "DATASET_NOT_FOUND"),
    "version.json": ("dataset versions", "VERSION_NOT_FOUND"),
}


def plan_key(evaluation: str) -> str:
    """Where the plan of "evaluations/{digest}" lies."""
    return f"requests/evaluation/{evaluation.removeprefix('evaluations/')}.json"


def write_plan(store: Store, spec: Mapping[str, Any]) -> tuple[str, Json]:
    """Plan what an evaluation file asks for, and put the plan and its two Jobs' requests into the store.

    Args:
        store: As the identity "orchestrator".
        spec: An EvaluationSpec as plain JSON.

    Returns:
        "evaluations/{digest}", and its plan: items, inputs, create_time. The one that is there already counts.

    Raises:
        InvalidArgument: the file cannot be evaluated, whatever the state of the system.
        NotFound: a run, dataset or version is not there.
        FailedPrecondition: the run has not assembled its scenarios.
    """
    plan = _plan(store, spec)
    name = evaluation_name(plan["inputs"])
    store.put_new_json(plan_key(name), plan)
    for request in requests_of(plan):
        write_request(store, request)
    return name, plan


def requests_of(plan: Mapping[str, Any]) -> tuple[JobRequest, JobRequest]:
    """The requests of a plan's Jobs: train, then evaluate."""
    return make_request("train", {"items": plan["items"]}), make_request("evaluate", plan["inputs"])


def _plan(store: Store, spec: Mapping[str, Any]) -> Json:
    check_id(spec.get("name", ""), field="name")
    if bool(spec.get("run")) == bool(spec.get("dataset_versions")):
        raise InvalidArgument("say either `run` or `dataset_versions`", reason="BAD_EVALUATION")
    settings = spec.get("evaluation", {})
    if settings.get("further"):
        raise InvalidArgument(
            "evaluation.further: an evaluation apart from a run has one evaluator; create another for the next",
            reason="BAD_EVALUATION",
        )
    if spec.get("run"):
        found = _of_run(store, spec["run"], settings)
    else:
        found = _of_versions(store, spec["dataset_versions"], settings)
    return {
        "items": found.items(),
        "inputs": found.evaluation_inputs({**spec, "evaluation": found.settings}),
        "create_time": now(),
        "traceparent": traceparent(),
    }


def _of_run(store: Store, name: str, given: Mapping[str, Any]) -> Trainings:
    run = run_id(name if name.startswith("runs/") else f"runs/{name}")
    record = _read(store, f"runs/{run}", "run.json")
    spec = record["spec"]
    versions = next(step for step in record["steps"] if step["name"] == "assemble").get("results", [])
    folds, scenarios = spec["evaluation"]["folds"], spec["scenarios"]
    if len(versions) != folds * len(scenarios):
        raise FailedPrecondition(f"{record['name']} has not assembled its scenarios", reason="RUN_NOT_FINISHED")
    if given.get("folds", folds) != folds:
        raise InvalidArgument(
            f"evaluation.folds: {given['folds']}, but {record['name']} was assembled for {folds}",
            reason="BAD_EVALUATION",
        )
    dataset = _read(store, f"datasets/{spec['dataset']}", "dataset.json")
    detail = spec["generator"]["image_size"]
    settings = complete_evaluation({**given, "folds": folds}, dataset, detail=detail)
    found = [_read(store, version, "version.json") for version in versions]
    size = len(scenarios)
    parts = [entries_of(scenarios, found[start : start + size]) for start in range(0, len(found), size)]
    return Trainings(parts, evaluators(settings)[0], dataset, view_of(spec), detail)


def _of_versions(store: Store, names: Sequence[str], given: Mapping[str, Any]) -> Trainings:
    """Scenarios from versions alone: the first is the reference, and must hold no made rows."""
    parents = {version_ids(name)[0] for name in names}
    if len(parents) != 1:
        raise InvalidArgument(
            "dataset_versions: of several datasets; one seal can judge only its own", reason="BAD_EVALUATION"
        )
    versions = [_read(store, name, "version.json") for name in names]
    scenarios = []
    for version in versions:
        name = version_ids(version["name"])[1][:12]
        scenarios.append({"name": name, "sampling": "SAMPLING_NATURAL", **doses_of(version)})
    if not is_reference(scenarios[0]):
        raise InvalidArgument("dataset_versions[0]: the reference must hold real rows alone", reason="BAD_EVALUATION")
    view: Json = versions[0]["view"]
    if any(version["view"] != view for version in versions):
        raise InvalidArgument(
            "dataset_versions: seen through different views; only versions of one view can be compared",
            reason="BAD_EVALUATION",
        )
    dataset = _read(store, f"datasets/{parents.pop()}", "dataset.json")
    settings = complete_evaluation({**given, "folds": 1}, dataset)
    return Trainings([entries_of(scenarios, versions)], evaluators(settings)[0], dataset, view, detail=0)


def _read(store: Store, name: str, record: str) -> Json:
    """The record of a resource.

    Raises:
        NotFound: there is no such resource.
    """
    try:
        found: Json = store.get_json(f"{name}/{record}")
    except NotFound:
        command, reason = _LISTS[record]
        raise NotFound(f"{name} does not exist; `genaug {command}` shows what does", reason=reason) from None
    return found
