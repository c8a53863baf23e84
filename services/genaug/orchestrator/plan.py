"""Plan of an evaluation apart from a run: its trainings and its scores, with every default written out."""

from __future__ import annotations

from collections.abc import Sequence

from genaug.orchestrator.trainings import Trainings, doses_of, entries_of
from genaug.schema.completion import complete_evaluation
from genaug.schema.datasets import Dataset, DatasetVersion
from genaug.schema.evaluation import EvaluationSettings, EvaluationSpec
from genaug.schema.jobs import EvaluationPlan, JobRequest, TrainInputs
from genaug.schema.model import M, read
from genaug.schema.run import Run, Scenario
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.names import check_id, run_id, version_ids
from genaug.shared.provenance import now
from genaug.shared.store import Store
from genaug.shared.tracing import traceparent

# By record: the command that lists the resources, and the reason word when one is missing.
_LISTS = {
    Run: ("run.json", "run list", "RUN_NOT_FOUND"),
    Dataset: ("dataset.json", "dataset list", "DATASET_NOT_FOUND"),
    DatasetVersion: ("version.json", "dataset versions", "VERSION_NOT_FOUND"),
}


def plan_key(evaluation: str) -> str:
    """Key of the plan of "evaluations/{digest}"."""
    return f"requests/evaluation/{evaluation.removeprefix('evaluations/')}.json"


def write_plan(store: Store, spec: EvaluationSpec) -> tuple[str, EvaluationPlan]:
    """Plan an evaluation, and put the plan and its two Jobs' requests into the store.

    Args:
        store: As the identity "orchestrator".
        spec: The evaluation file.

    Returns:
        "evaluations/{digest}", and its plan. An existing plan stays.

    Raises:
        InvalidArgument: the file cannot be evaluated, whatever the state of the system.
        NotFound: a run, dataset or version does not exist.
        FailedPrecondition: the run has not assembled its scenarios.
    """
    plan = _plan(store, spec)
    name = plan.inputs.result
    store.put_new_json(plan_key(name), plan.json_value())
    for request in requests_of(plan):
        request.write(store)
    return name, plan


def requests_of(plan: EvaluationPlan) -> tuple[JobRequest, JobRequest]:
    """The requests of a plan's Jobs: train, then evaluate."""
    return JobRequest.of(TrainInputs(items=plan.items)), JobRequest.of(plan.inputs)


def _plan(store: Store, spec: EvaluationSpec) -> EvaluationPlan:
    check_id(spec.name, field="name")
    if bool(spec.run) == bool(spec.dataset_versions):
        raise InvalidArgument("say either `run` or `dataset_versions`", reason="BAD_EVALUATION")
    if spec.evaluation.further:
        raise InvalidArgument(
            "evaluation.further: an evaluation apart from a run has one evaluator; create another for the next",
            reason="BAD_EVALUATION",
        )
    if spec.run:
        trainings = _of_run(store, spec.run, spec.evaluation)
    else:
        trainings = _of_versions(store, spec.dataset_versions, spec.evaluation)
    completed = spec.model_copy(update={"evaluation": trainings.settings})
    return EvaluationPlan(
        items=tuple(trainings.items()),
        inputs=trainings.evaluation_inputs(completed),
        create_time=now(),
        traceparent=traceparent(),
    )


def _of_run(store: Store, name: str, given: EvaluationSettings) -> Trainings:
    run = _read(store, f"runs/{run_id(name if name.startswith('runs/') else f'runs/{name}')}", Run)
    spec = run.spec
    names = run.step("assemble").results
    folds, scenarios = spec.evaluation.folds, spec.scenarios
    if len(names) != folds * len(scenarios):
        raise FailedPrecondition(f"{run.name} has not assembled its scenarios", reason="RUN_NOT_FINISHED")
    if "folds" in given.model_fields_set and given.folds != folds:
        raise InvalidArgument(
            f"evaluation.folds: {given.folds}, but {run.name} was assembled for {folds}", reason="BAD_EVALUATION"
        )
    dataset = _read(store, f"datasets/{spec.dataset}", Dataset)
    size = spec.generator.image_size
    settings = complete_evaluation(given.model_copy(update={"folds": folds}), dataset, pre_resize=size)
    versions = [_read(store, version, DatasetVersion) for version in names]
    count = len(scenarios)
    parts = [entries_of(scenarios, versions[start : start + count]) for start in range(0, len(versions), count)]
    return Trainings(parts, settings, dataset, spec.view(), size)


def _of_versions(store: Store, names: Sequence[str], given: EvaluationSettings) -> Trainings:
    """Scenarios from versions alone: the first is the reference, and must hold no made rows."""
    parents = {version_ids(name)[0] for name in names}
    if len(parents) != 1:
        raise InvalidArgument(
            "dataset_versions: of several datasets; one seal can judge only its own", reason="BAD_EVALUATION"
        )
    versions = [_read(store, name, DatasetVersion) for name in names]
    scenarios = [Scenario(name=version_ids(version.name)[1][:12], **doses_of(version)) for version in versions]
    if not scenarios[0].is_reference:
        raise InvalidArgument("dataset_versions[0]: the reference must hold real rows alone", reason="BAD_EVALUATION")
    view = versions[0].view
    if any(version.view != view for version in versions):
        raise InvalidArgument(
            "dataset_versions: seen through different views; only versions of one view can be compared",
            reason="BAD_EVALUATION",
        )
    dataset = _read(store, f"datasets/{parents.pop()}", Dataset)
    settings = complete_evaluation(given.model_copy(update={"folds": 1}), dataset)
    return Trainings([entries_of(scenarios, versions)], settings, dataset, view, pre_resize=0)


def _read(store: Store, name: str, kind: type[M]) -> M:
    record, command, reason = _LISTS[kind]
    try:
        return read(store, f"{name}/{record}", kind)
    except NotFound:
        raise NotFound(f"{name} does not exist; `genaug {command}` shows what does", reason=reason) from None
