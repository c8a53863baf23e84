"""The six steps of Aktas et al. (IJMLC 2024, figure 1), in order; read from top to bottom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Literal

from genaug.orchestrator.chunks import chunk_size, compared_counts, draw_requests, rejections, top_up
from genaug.orchestrator.engine import Work
from genaug.orchestrator.fold_results import CaptionComparison, FoldResults, feature_sources
from genaug.orchestrator.records import Records, StepResults
from genaug.orchestrator.service_clients import JobCall, ServiceClients
from genaug.orchestrator.trainings import Trainings, entries_of
from genaug.schema.classifiers import Role
from genaug.schema.common import Precision, counts_of
from genaug.schema.datasets import Dataset
from genaug.schema.evaluation import EvaluationSpec
from genaug.schema.generators import GENERATORS, GeneratorSpec
from genaug.schema.jobs import FinetuneInputs, JobInputs, ReportInputs, TrainInputs, TrainItem
from genaug.schema.requests import (
    AssembleRequest,
    DrawAndLabelRequest,
    DrawAndLabelResult,
    EmbedRequest,
    LabelledBatch,
    LabelRequest,
    MatchRequest,
    Name,
    SelectRequest,
)
from genaug.schema.run import MIN_TRAINING_IMAGES, RunState, Scenario, ScenarioSampling
from genaug.schema.selection import Match
from genaug.shared.errors import FailedPrecondition


class SixSteps:
    """One run, from its dataset to its verdict."""

    def __init__(self, services: ServiceClients, records: Records, work: Work) -> None:
        self._services = services
        self._records = records
        self._work = work
        self._run = work.owner
        self._spec = records.get(work.owner).spec
        self._augmented = self._spec.augmented_classes
        self._keep_copies = self._spec.generation.keep_copies

    def perform(self) -> None:
        """Run the six steps."""
        folds = self._view()
        self._finetune(folds)  # 1
        self._train_labeler(folds)
        self._generate_and_label(folds)  # 2 and 3
        self._select(folds)  # 4
        self._match(folds)
        self._assemble(folds)  # 5
        trainings = self._train(folds)  # 6
        evaluations = self._evaluate(trainings)
        self._report(folds, evaluations)

    def _step(self, name: str) -> AbstractContextManager[StepResults]:
        return self._records.step(self._run, name)

    def _job(self, step: StepResults, inputs: JobInputs, results: list[str]) -> None:
        step.reused += self._work.call(self._services.run_job, JobCall.of(inputs, results)).reused
        step.results += results

    def _view(self) -> list[FoldResults]:
        """Fix the real rows of the run: once, or once for each outer fold."""
        count = self._spec.evaluation.folds
        with self._step("view") as step:
            dataset = self._work.call(self._services.dataset, Name(name=f"datasets/{self._spec.dataset}"))
            folds = [self._fold(dataset, fold) for fold in (range(1, count + 1) if count > 1 else (0,))]
            step.results = [fold.version for fold in folds]
        return folds

    def _fold(self, dataset: Dataset, fold: int) -> FoldResults:
        request = AssembleRequest(parent=dataset.name, view=self._spec.view(fold))
        version = self._work.call(self._services.assemble, request)
        training = counts_of(version.real)
        for name in self._spec.classes:
            if training.get(name, 0) < MIN_TRAINING_IMAGES:
                raise FailedPrecondition(
                    f"classes: {name!r} has {training.get(name, 0)} training images in this view, below the "
                    f"{MIN_TRAINING_IMAGES} a run needs; leave it out or add images",
                    reason="CLASS_TOO_SMALL",
                )
        return FoldResults(dataset, fold, version.name, training)

    def _finetune(self, folds: Sequence[FoldResults]) -> None:
        """Step 1: fine-tune the generators on the training rows of the augmented classes."""
        spec = self._spec.generator
        generators: dict[str, GeneratorSpec] = {}
        if self._spec.largest_dose("transformed"):
            shared = {"image_size": spec.image_size, "seed": spec.seed}
            generators["transformed"] = GeneratorSpec(**shared, transforms=self._spec.transforms)
        if self._spec.largest_dose("synthetic"):
            generators["synthetic"] = spec.trained_form()
        with self._step("finetune") as step:
            for fold in folds:
                for source, generator in generators.items():
                    fold.generators[source] = self._finetune_one(step, fold, generator)
            base = spec.stable_diffusion
            if base and base.compared_prompts and "synthetic" in generators:
                # The run's own captions would override both sets.
                other = base.model_copy(update={"prompts": base.compared_prompts, "captions": {}})
                compared = spec.model_copy(update={"stable_diffusion": other}).trained_form()
                # The report shows the images of the first fold.
                folds[0].compared = CaptionComparison(self._finetune_one(step, folds[0], compared))

    def _finetune_one(self, step: StepResults, fold: FoldResults, generator: GeneratorSpec) -> str:
        inputs = FinetuneInputs(
            dataset_version=fold.version, classes=self._augmented, generator=generator, channels=fold.dataset.channels
        )
        self._job(step, inputs, [inputs.result])
        return inputs.result

    def _train_labeler(self, folds: Sequence[FoldResults]) -> None:
        """Step 3, first half: train and calibrate the labeler on training rows alone, and a second one to compare."""
        labeling = self._spec.labeling
        items = [self._labeler_item(fold, seed=labeling.seed) for fold in folds]
        for fold, item in zip(folds, items, strict=True):
            fold.labeler = item.result
        if labeling.second_seed >= 0 and self._spec.largest_dose("synthetic"):
            # The report shows the images of the first fold.
            items.append(self._labeler_item(folds[0], seed=labeling.second_seed))
            folds[0].second_labeler = items[-1].result
        with self._step("labeler") as step:
            inputs = TrainInputs(items=tuple(items), features=feature_sources(folds))
            self._job(step, inputs, [item.result for item in items])

    def _labeler_item(self, fold: FoldResults, *, seed: int) -> TrainItem:
        labeling = self._spec.labeling
        return TrainItem(
            role=Role.LABELER,
            classifier=labeling.classifier,
            channels=fold.dataset.channels,
            dataset_version=fold.version,
            classes=self._spec.classes,
            sampling=ScenarioSampling.CLASS_BALANCED,
            updates=labeling.updates,
            batch_size=labeling.batch_size,
            learning_rate=labeling.learning_rate or labeling.classifier.learning_rate,
            training=labeling.training,
            seed=seed,
            quantized=labeling.precision == Precision.INT8,
        )

    def _generate_and_label(self, folds: Sequence[FoldResults]) -> None:
        """Steps 2 and 3: draw and label; transform, for the traditional scenarios."""
        with self._step("generate") as step:
            for fold in folds:
                if "synthetic" in fold.generators:
                    self._draw_rounds(step, fold)
                    self._label_again(fold)
                if fold.compared:
                    self._draw_compared(step, fold, fold.compared)
                if "transformed" in fold.generators:
                    self._transform(step, fold)
                batches = [batch.name for batch in fold.batches]
                step.results += [*batches, *fold.labels, *fold.second_labels, *fold.transformed]
                if fold.compared:
                    step.results += [*fold.compared.batches, *fold.compared.labels]

    def _draw_rounds(self, step: StepResults, fold: FoldResults) -> None:
        """Draw and label until every class has its largest dose, or rounds or draws are used up.

        Suspected copies of training images do not count, unless the run keeps them: the next round replaces them.
        """
        generation = self._spec.generation
        needed = self._needed(fold, "synthetic")
        kept, drawn = dict.fromkeys(needed, 0), dict.fromkeys(needed, 0)
        embedding = "" if self._keep_copies else self._embed(fold)
        for _ in range(generation.rounds):
            counts = top_up(needed, kept, drawn, limit=generation.draw_limit)
            results = self._draw(step, fold, fold.generators["synthetic"], counts, drawn)
            fold.batches += [result.batch for result in results]
            labelled = [result.labelled for result in results]
            fold.labels += [batch.name for batch in labelled]
            usable = self._usable(labelled, embedding)
            for name in kept:
                kept[name] += usable[name]
            for name, count in counts.items():
                drawn[name] += count

    def _usable(self, labelled: Sequence[LabelledBatch], embedding: str) -> Counter[str]:
        """Accepted images of a round, by the class they are kept as; without suspected copies, given an embedding.

        A labeler that is trusted may keep an image as a class that gets no dose.
        """
        usable: Counter[str] = Counter()
        for batch in labelled:
            usable.update(counts_of(batch.kept))
        if embedding and usable.total():
            match = self._match_labels(embedding, [batch.name for batch in labelled])
            for closeness in match.closenesses:
                usable[closeness.class_name] -= closeness.suspected_copies
        return usable

    def _draw(
        self, step: StepResults, fold: FoldResults, generator: str, counts: dict[str, int], first: dict[str, int]
    ) -> list[DrawAndLabelResult]:
        """Draw and label `counts` images of each class, from its first index on."""
        spec = self._spec
        size = chunk_size(spec.generator.kind, spec.generator.image_size)
        requests = [
            DrawAndLabelRequest(
                generate=request,
                classifier=fold.labeler,
                mode=spec.labeling.mode,
                precision=spec.labeling.precision,
            )
            for request in draw_requests(spec.generation, generator, counts, first, size=size)
        ]
        sizes = [request.generate.size for request in requests]
        results = self._work.chunks(self._services.generate_and_label, requests, sizes=sizes)
        step.reused += sum(result.batch.size - result.batch.drawn for result in results)
        return results

    def _draw_compared(self, step: StepResults, fold: FoldResults, compared: CaptionComparison) -> None:
        """Draw and label with the other captions, from the noise that the first round began with."""
        needed = self._needed(fold, "synthetic")
        compared.counts = compared_counts(needed, limit=self._spec.generation.draw_limit)
        results = self._draw(step, fold, compared.generator, compared.counts, dict.fromkeys(needed, 0))
        compared.batches = [result.batch.name for result in results]
        compared.labels = [result.labelled.name for result in results]

    def _label_again(self, fold: FoldResults) -> None:
        """Label all draws with the second labeler; its labels keep or reject nothing."""
        if not fold.second_labeler:
            return
        labeling = self._spec.labeling
        requests = [
            LabelRequest(
                classifier=fold.second_labeler, batch=batch.name, mode=labeling.mode, precision=labeling.precision
            )
            for batch in fold.batches
        ]
        labelled = self._work.chunks(self._services.label, requests, sizes=[1] * len(requests))
        fold.second_labels = [batch.name for batch in labelled]

    def _transform(self, step: StepResults, fold: FoldResults) -> None:
        needed = self._needed(fold, "transformed")
        none = dict.fromkeys(needed, 0)
        size = chunk_size(GENERATORS.get("transforms"), self._spec.generator.image_size)
        generator = fold.generators["transformed"]
        requests = draw_requests(self._spec.generation, generator, needed, none, size=size)
        for batch in self._work.chunks(self._services.generate, requests, sizes=[request.size for request in requests]):
            fold.transformed.append(batch.name)
            step.reused += batch.size - batch.drawn

    def _needed(self, fold: FoldResults, source: Literal["synthetic", "transformed"]) -> dict[str, int]:
        """Images of each augmented class that the largest dose asks for."""
        return {name: round(self._spec.largest_dose(source) * fold.training[name]) for name in self._augmented}

    def _select(self, folds: Sequence[FoldResults]) -> None:
        """Step 4: reduce the dominant classes on the t-SNE map of their features."""
        selection = self._spec.selection
        with self._step("select") as step:
            if not selection.classes:
                return
            for fold in folds:
                kept = selection.kept or max(fold.training[name] for name in self._augmented)
                request = SelectRequest(
                    dataset_version=fold.version,
                    embedding=self._embed(fold),
                    spec=selection.model_copy(update={"kept": kept}),
                )
                fold.selection = self._work.call(self._services.select, request).name
                step.results += [request.embedding, fold.selection]

    def _match(self, folds: Sequence[FoldResults]) -> None:
        """Step 4, for made images of all rounds: find the nearest real training image of each, and copies."""
        with self._step("match") as step:
            for fold in folds:
                if not fold.labels:
                    continue
                embedding = self._embed(fold)
                fold.match = self._match_labels(embedding, fold.labels).name
                step.results.append(fold.match)
                if fold.compared and fold.compared.labels:
                    fold.compared.match = self._match_labels(embedding, fold.compared.labels).name
                    step.results.append(fold.compared.match)

    def _match_labels(self, embedding: str, labels: Iterable[str]) -> Match:
        manifests = tuple(f"{name}/manifest.parquet" for name in labels)
        return self._work.call(self._services.match, MatchRequest(embedding=embedding, labelled_manifests=manifests))

    def _embed(self, fold: FoldResults) -> str:
        request = EmbedRequest(
            dataset_version=fold.version, classifier=fold.labeler, precision=self._spec.labeling.precision
        )
        return self._work.call(self._services.embed, request).name

    def _assemble(self, folds: Sequence[FoldResults]) -> None:
        """Step 5: assemble one immutable dataset version per scenario."""
        with self._step("assemble") as step:
            for fold in folds:
                requests = [self._scenario_request(fold, scenario) for scenario in self._spec.scenarios]
                fold.versions = self._work.chunks(self._services.assemble, requests, sizes=[1] * len(requests))
                step.results += [version.name for version in fold.versions]

    def _scenario_request(self, fold: FoldResults, scenario: Scenario) -> AssembleRequest:
        return AssembleRequest(
            parent=fold.dataset.name,
            view=self._spec.view(fold.fold),
            selections=(fold.selection,) if fold.selection else (),
            scenario=scenario,
            augmented_classes=self._augmented,
            labelled_manifests=tuple(f"{name}/manifest.parquet" for name in fold.labels),
            transformed_manifests=tuple(f"{name}/manifest.parquet" for name in fold.transformed),
            seed=self._spec.generation.seed or 0,
            matches=(fold.match,) if fold.match and not self._keep_copies else (),
        )

    def _train(self, folds: Sequence[FoldResults]) -> list[Trainings]:
        """Step 6, first half: train each scenario with each evaluator and seed, with equal updates."""
        parts = [entries_of(self._spec.scenarios, fold.versions) for fold in folds]
        trainings = [
            Trainings(parts, settings, folds[0].dataset, self._spec.view(), self._spec.generator.image_size)
            for settings in self._spec.evaluation.evaluators
        ]
        # All evaluators share the probe.
        items = list({item.result: item for evaluator in trainings for item in evaluator.items()}.values())
        with self._step("train") as step:
            inputs = TrainInputs(items=tuple(items), features=feature_sources(folds))
            self._job(step, inputs, [item.result for item in items])
        return trainings

    def _evaluate(self, trainings: Sequence[Trainings]) -> list[str]:
        """Step 6, second half: open the seal and score each frozen classifier once."""
        evaluations = []
        with self._step("evaluate") as step:
            for evaluator in trainings:
                spec = EvaluationSpec(name=self._spec.name, run=f"runs/{self._run}", evaluation=evaluator.settings)
                inputs = evaluator.evaluation_inputs(spec)
                evaluations.append(inputs.result)
                self._job(step, inputs, evaluations[-1:])
        return evaluations

    def _report(self, folds: Sequence[FoldResults], evaluations: list[str]) -> None:
        """Write the report, with the images of the first fold; the verdict goes into the run's record."""
        fold = folds[0]
        scenarios = self._spec.scenarios
        with self._step("report") as step:
            inputs = ReportInputs(
                run=self._records.get(self._run),
                dataset=fold.dataset.name,
                view=fold.version,
                generators=tuple(name for _, name in sorted(fold.generators.items())),
                labeler=fold.labeler,
                labels=tuple(fold.labels),
                second_labels=tuple(fold.second_labels),
                rejected=rejections(fold.batches),
                compared=fold.compared.inputs() if fold.compared else None,
                transformed_batches=tuple(fold.transformed),
                selection=fold.selection,
                match=fold.match,
                versions={
                    scenario.name: version.name for scenario, version in zip(scenarios, fold.versions, strict=True)
                },
                evaluation=evaluations[0],
                further_evaluations=tuple(evaluations[1:]),
            )
            self._job(step, inputs, [])
            step.results = [f"runs/{self._run}/report.html"]
        self._records.update(
            self._run,
            evaluation=evaluations[0],
            further_evaluations=tuple(evaluations[1:]),
            verdict=self._work.call(self._services.verdict, Name(name=evaluations[0])),
        )
        self._records.end(self._run, RunState.SUCCEEDED)


class SeparateEvaluation:
    """An evaluation apart from a run: train missing classifiers, open the seal, score."""

    def __init__(self, services: ServiceClients, work: Work) -> None:
        self._services = services
        self._work = work

    def perform(self) -> None:
        """Run the two Jobs in the plan of `work.owner` ("evaluations/{digest}")."""
        plan = self._services.get_plan(self._work.owner)
        results = [item.result for item in plan.items]
        self._work.call(self._services.run_job, JobCall.of(TrainInputs(items=plan.items), results))
        self._work.call(self._services.run_job, JobCall.of(plan.inputs, [self._work.owner]))
