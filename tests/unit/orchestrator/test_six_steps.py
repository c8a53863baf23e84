"""The workflow over services that answer at once: which calls it makes, in which order."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.run_files import completed, dataset_of

from genaug.orchestrator.progress_tracker import ProgressTracker
from genaug.orchestrator.records import Records
from genaug.orchestrator.service_clients import JobCall, JobOutcome
from genaug.orchestrator.workflow import SixSteps
from genaug.schema.common import Precision, class_counts
from genaug.schema.datasets import DatasetVersion
from genaug.schema.evaluation import Outcome, Verdict
from genaug.schema.generators import Batch, Rejection, RejectionReason
from genaug.schema.jobs import INPUTS, EvaluateInputs, FinetuneInputs, ReportInputs, TrainInputs
from genaug.schema.model import Model
from genaug.schema.requests import (
    AssembleRequest,
    DrawAndLabelResult,
    GenerateRequest,
    LabelledBatch,
    LabelRequest,
    MatchRequest,
)
from genaug.schema.run import Run, RunState
from genaug.schema.selection import Embedding, Match, MatchCloseness, Selection
from genaug.shared.digests import digest_of
from genaug.shared.settings import StoreSettings
from genaug.shared.store import Store

COUNTS = class_counts({"a": 20, "b": 20, "n": 60})
DATASET = dataset_of("abn", name="datasets/d", median_side=8, channels=1, folds=3, training=COUNTS)


def named(collection: str, request: Model) -> str:
    return f"{collection}/{digest_of(collection, request.json_value())}"


class Services:
    """Half of the drawn images are kept as the requested class; `copies` of each class and batch are copies."""

    def __init__(self, *, copies: int = 0, accepting: bool = True) -> None:
        self.copies = copies
        self.accepting = accepting
        self.jobs: list[Model] = []
        self.assembled: list[AssembleRequest] = []
        self.drawn: list[GenerateRequest] = []
        self.matched: list[MatchRequest] = []
        self.labelled: list[LabelRequest] = []

    def jobs_of(self, kind: type[Any]) -> list[Any]:
        return [inputs for inputs in self.jobs if isinstance(inputs, kind)]

    @property
    def report(self) -> ReportInputs:
        (report,) = self.jobs_of(ReportInputs)
        return report

    @property
    def scenarios(self) -> list[AssembleRequest]:
        return [request for request in self.assembled if request.scenario]

    def dataset(self, request):
        return DATASET

    def assemble(self, request):
        self.assembled.append(request)
        name = f"datasets/d/{named('versions', request)}"
        return DatasetVersion(name=name, digest=name, view=request.view, real=COUNTS)

    def generate(self, request):
        self.drawn.append(request)
        return Batch(name=named("batches", request), counts=request.counts)

    def generate_and_label(self, request):
        black = Rejection(class_name="a", reason=RejectionReason.BLACK, count=1)
        batch = self.generate(request.generate).model_copy(update={"rejected": (black,)})
        kept = [count.replace(count=count.count // 2) for count in batch.counts] if self.accepting else []
        labelled = LabelledBatch(name=named("labels", request), kept=tuple(kept))
        return DrawAndLabelResult(batch=batch, labelled=labelled)

    def label(self, request):
        self.labelled.append(request)
        return LabelledBatch(name=named("labels", request))

    def embed(self, request):
        return Embedding(name=named("embeddings", request))

    def select(self, request):
        return Selection(name=named("selections", request))

    def match(self, request):
        self.matched.append(request)
        assert request.labelled_manifests, "an empty list cannot be matched"
        closenesses = [MatchCloseness(class_name=name, suspected_copies=self.copies) for name in "abn"]
        return Match(name=named("matches", request), closenesses=tuple(closenesses) if self.copies else ())

    def run_job(self, request: JobCall):
        self.jobs.append(INPUTS[request.step].model_validate(request.inputs))
        return JobOutcome()

    def verdict(self, request):
        return Verdict(outcome=Outcome.NO_EVIDENCE, sentence="No.")


class Work:
    owner = "x-00000000"

    def call(self, call, request):
        return call(request)

    def chunks(self, call, requests, *, sizes: Iterable[int]):
        return [call(request) for request, _ in zip(requests, sizes, strict=True)]


def perform(tmp_path: Path, *, services: Services | None = None, **spec: Any) -> tuple[Services, Run]:
    """Run the six steps."""
    records = Records(Store.open(StoreSettings(url=f"file://{tmp_path}"), "orchestrator"), ProgressTracker())
    records.create(Work.owner, completed({"selection": {"classes": ["n"]}, **spec}, of=DATASET))
    services = services or Services()
    SixSteps(services, records, Work()).perform()  # type: ignore[arg-type]
    run = records.get(Work.owner)
    assert run.state == RunState.SUCCEEDED
    assert {step.state for step in run.steps} == {RunState.SUCCEEDED}
    return services, run


def test_each_step_is_done_once(tmp_path: Path) -> None:
    services, run = perform(tmp_path)
    kinds = [FinetuneInputs, FinetuneInputs, TrainInputs, TrainInputs, EvaluateInputs, ReportInputs]
    assert [type(inputs) for inputs in services.jobs] == kinds
    report = services.report
    *rounds, last = [request.labelled_manifests for request in services.matched]
    assert [key for one in rounds for key in one] == list(last) == manifests(report.labels)
    names = ["real", "real-balanced", "synthetic-x1", "synthetic-x2", "traditional-x1", "real-random"]
    assert [request.scenario.name for request in services.scenarios if request.scenario] == names
    assert report.evaluation == run.evaluation
    assert report.match == run.step("match").results[0]


def manifests(labels: Iterable[str]) -> list[str]:
    return [f"{name}/manifest.parquet" for name in labels]


def test_draws_are_topped_up_until_the_largest_dose_is_met(tmp_path: Path) -> None:
    services, _ = perform(tmp_path)
    kept = {"a": 0, "b": 0}
    seen: set[tuple[str, int]] = set()
    for request in services.drawn:
        (count,) = request.counts
        if request.generator == services.drawn[0].generator:
            kept[count.class_name] += count.count // 2
            drawn = {(count.class_name, request.first_index + i) for i in range(count.count)}
            assert not drawn & seen, "an index is drawn once"
            seen |= drawn
    assert all(count >= 40 for count in kept.values())


def drawn_of(services: Services, generator: str) -> dict[str, int]:
    counts = [request.counts[0] for request in services.drawn if request.generator == generator]
    return {name: sum(one.count for one in counts if one.class_name == name) for name in "ab"}


def test_suspected_copies_do_not_count_and_are_drawn_anew(tmp_path: Path) -> None:
    plain, _ = perform(tmp_path / "plain")
    services, _ = perform(tmp_path / "copies", services=Services(copies=5))
    generator = services.drawn[0].generator
    assert all(drawn_of(services, generator)[name] > count for name, count in drawn_of(plain, generator).items())
    assert {request.matches for request in services.scenarios} == {(services.report.match,)}
    assert list(services.matched[-1].labelled_manifests) == manifests(services.report.labels)


def test_copies_that_are_kept_are_only_marked(tmp_path: Path) -> None:
    services, _ = perform(tmp_path, services=Services(copies=5), generation={"keep_copies": True})
    assert len(services.matched) == 1
    assert not [request for request in services.assembled if request.matches]
    plain, _ = perform(tmp_path / "plain")
    generator = services.drawn[0].generator
    assert drawn_of(services, generator) == drawn_of(plain, generator)


def test_a_round_in_which_nothing_is_accepted_is_not_matched(tmp_path: Path) -> None:
    services, _ = perform(tmp_path, services=Services(accepting=False))
    assert len(services.matched) == 1, "all of it, for the report"


def test_with_outer_folds_each_leaves_out_the_copies_of_its_own(tmp_path: Path) -> None:
    services, _ = perform(tmp_path, services=Services(copies=1), evaluation={"folds": 3})
    assert all(len(request.matches) == 1 for request in services.scenarios)
    by_fold = {request.view.fold: request.matches[0] for request in services.scenarios}
    assert len(set(by_fold.values())) == 3
    assert len({request.embedding for request in services.matched}) == 3


def test_rejected_draws_are_counted_over_the_rounds(tmp_path: Path) -> None:
    services, _ = perform(tmp_path)
    report = services.report
    assert report.rejected == (Rejection(class_name="a", reason=RejectionReason.BLACK, count=len(report.labels)),)


BASE = {"base": "bases/x", "prompts": "generic", "captions": {"a": "an a"}}


def stable(**settings: Any) -> dict[str, Any]:
    return {"image_size": 64, "stable_diffusion": {**BASE, **settings}}


def test_other_captions_have_a_generator_whose_images_no_scenario_takes(tmp_path: Path) -> None:
    services, run = perform(tmp_path, generator=stable(compared_prompts="generic@1"), evaluation={"folds": 3})
    learnt = [job for job in services.jobs_of(FinetuneInputs) if job.generator.stable_diffusion]
    *first, other = learnt
    assert len(first) == 3
    assert other.dataset_version == first[0].dataset_version, "of the first fold alone"
    expected = first[0].generator.stable_diffusion.replace(prompts="generic@1", captions={})
    assert other.generator.stable_diffusion == expected
    assert not [job for job in learnt if job.generator.stable_diffusion.compared_prompts]
    report = services.report
    compared = report.compared
    assert compared is not None
    assert compared.generator == other.result
    assert compared.generator not in report.generators
    assert compared.counts == {"a": 48, "b": 48}
    mine, own = (
        [request for request in services.drawn if request.generator == name]
        for name in (compared.generator, first[0].result)
    )
    renamed = [request.replace(generator="") for request in own if request.first_index < 48]
    assert [request.replace(generator="") for request in mine] == renamed, "the same noise"
    keys = set(manifests(compared.labels))
    assert len([request for request in services.matched if set(request.labelled_manifests) == keys]) == 1
    assert not [request for request in services.assembled if set(request.labelled_manifests) & keys]
    assert compared.generator in run.step("finetune").results
    assert compared.match in run.step("match").results
    assert set(compared.labels) < set(run.step("generate").results)


def test_comparing_captions_changes_nothing_of_the_run_but_the_comparison(tmp_path: Path) -> None:
    plain, _ = perform(tmp_path / "plain", generator=stable())
    services, _ = perform(tmp_path / "compared", generator=stable(compared_prompts="generic@1"))
    assert services.assembled == plain.assembled
    assert plain.report.compared is None
    assert services.report.generators == plain.report.generators


def test_every_evaluator_is_scored_by_itself(tmp_path: Path) -> None:
    services, run = perform(tmp_path, evaluation={"seeds": 2, "further": [{"updates": 7}]})
    evaluations = services.jobs_of(EvaluateInputs)
    assert [inputs.spec.evaluation.updates for inputs in evaluations] == [600, 7]
    names = [{n for s in inputs.scenarios for n in s.parts[0].classifiers} for inputs in evaluations]
    assert not names[0] & names[1]
    assert len(run.further_evaluations) == 1
    assert len(services.jobs_of(TrainInputs)[-1].items) == 2 * 6 * 2


def test_folds_do_the_six_steps_anew_for_each(tmp_path: Path) -> None:
    """A generator or a labeler that has seen the rows it is judged by would be a leak."""
    services, _ = perform(tmp_path, evaluation={"seeds": 2, "folds": 3})
    assert {request.view.fold for request in services.assembled} == {1, 2, 3}
    finetuned = [inputs.dataset_version for inputs in services.jobs_of(FinetuneInputs)]
    assert len(set(finetuned)) == 3
    labelers = services.jobs_of(TrainInputs)[0].items
    assert [item.dataset_version for item in labelers if item.seed == 1000] == list(dict.fromkeys(finetuned))
    (evaluation,) = services.jobs_of(EvaluateInputs)
    for scenario in evaluation.scenarios:
        assert [part.fold for part in scenario.parts] == [1, 2, 3]
        assert len({part.dataset_version for part in scenario.parts}) == 3


@pytest.mark.parametrize("classes", [[], ["n"]])
def test_steps_that_no_scenario_needs_are_not_done(tmp_path: Path, classes: list[str]) -> None:
    services, run = perform(
        tmp_path,
        selection={"classes": classes},
        scenarios=[{"name": "real"}, {"name": "balanced", "sampling": "SAMPLING_CLASS_BALANCED"}],
    )
    assert not services.jobs_of(FinetuneInputs)
    assert not services.matched
    assert not services.drawn
    assert bool(run.step("select").results) == bool(classes)


def test_a_second_labeler_labels_all_draws(tmp_path: Path) -> None:
    services, run = perform(tmp_path)
    first, second = services.jobs_of(TrainInputs)[0].items
    assert (first.seed, second.seed) == (1000, 2000)
    assert first.replace(seed=2000) == second
    report = services.report
    assert len(services.labelled) == len(report.labels) == len(report.second_labels) > 1
    assert {request.classifier for request in services.labelled} == {second.result}
    assert report.labeler == first.result
    # Its labels decide nothing.
    (request,) = [one for one in services.scenarios if one.scenario and one.scenario.name == "synthetic-x1"]
    assert not set(request.labelled_manifests) & set(manifests(report.second_labels))
    assert set(report.second_labels) < set(run.step("generate").results)


@pytest.mark.parametrize(
    "spec", [{"labeling": {"second_seed": -1}}, {"scenarios": [{"name": "real"}, {"name": "t", "transformed": 1.0}]}]
)
def test_no_second_labeler_where_none_is_wanted_or_nothing_is_labelled(tmp_path: Path, spec: dict[str, Any]) -> None:
    services, _ = perform(tmp_path, **spec)
    assert len(services.jobs_of(TrainInputs)[0].items) == 1
    assert not services.labelled


def test_with_outer_folds_the_first_alone_has_a_second_labeler(tmp_path: Path) -> None:
    services, _ = perform(tmp_path, evaluation={"folds": 3})
    items = services.jobs_of(TrainInputs)[0].items
    assert [item.seed for item in items] == [1000, 1000, 1000, 2000]
    assert items[3].dataset_version == items[0].dataset_version


def test_labelers_in_8_bits_are_trained_for_them(tmp_path: Path) -> None:
    classifier = {"backbone": "VGG19", "image_size": 32, "tuning": "TUNING_FINE_TUNED"}
    services, _ = perform(tmp_path, labeling={"classifier": classifier, "precision": Precision.INT8})
    assert [item.quantized for item in services.jobs_of(TrainInputs)[0].items] == [True, True]
