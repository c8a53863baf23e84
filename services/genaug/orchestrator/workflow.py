"""The six steps of Aktas et al. (IJMLC 2024, figure 1), in order, each sound: read it top to bottom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from genaug.orchestrator.draws import chunk_size, compared_counts, draw_requests, rejections, size_of, top_up
from genaug.orchestrator.engine import Work
from genaug.orchestrator.fields import Spec
from genaug.orchestrator.generator_spec import TRANSFORMS
from genaug.orchestrator.records import SUCCEEDED, Records, Stage
from genaug.orchestrator.rooms import Rooms
from genaug.orchestrator.spec import augmented_classes, evaluators, learning_rate, view_of
from genaug.orchestrator.study import Compared, Study, compared_inputs, shelf_of
from genaug.orchestrator.trainings import Trainings, entries_of
from genaug.schema.jobs import classifier_name, evaluation_name, generator_name
from genaug.shared.errors import FailedPrecondition

# Fewest real training images of a class that a run starts with.
MIN_TRAINING_IMAGES = 8
# What runs that were begun before it could be chosen do not say.
_BEFORE: dict[str, dict[str, Any]] = {
    "generation": {"keep_copies": True},
    "labeling": {"precision": "PRECISION_FLOAT32", "batch_size": 64, "training": {}, "second_seed": -1},
}
# Settings of the generator that change nothing of what is learnt: a preset has been written out.
_NOT_LEARNT = ("transforms", "compared_prompts", "preset")

Json = dict[str, Any]


class SixSteps:
    """One run, from its dataset to its verdict."""

    def __init__(self, rooms: Rooms, records: Records, work: Work) -> None:
        self._rooms = rooms
        self._records = records
        self._work = work
        self._run = work.owner
        self._spec: Spec = records.get(work.owner)["spec"]
        self._augmented = augmented_classes(self._spec)
        self._labeling = _BEFORE["labeling"] | self._spec["labeling"]
        self._keep_copies = bool((_BEFORE["generation"] | self._spec["generation"])["keep_copies"])
        self._precision = self._labeling["precision"]

    def perform(self) -> None:
        """Run the six steps."""
        studies = self._view()
        self._finetune(studies)  # 1
        self._train_labeler(studies)
        self._generate_and_label(studies)  # 2 and 3
        self._select(studies)  # 4
        self._match(studies)
        self._assemble(studies)  # 5
        trainings = self._train(studies)  # 6
        evaluations = self._evaluate(trainings)
        self._report(studies, evaluations)

    def _stage(self, name: str) -> AbstractContextManager[Stage]:
        return self._records.stage(self._run, name)

    def _job(self, stage: Stage, step: str, inputs: Json, results: list[str]) -> None:
        answer = self._work.call(self._rooms.run_job, {"step": step, "inputs": inputs, "results": results})
        stage.reused += answer["reused"]
        stage.results += results

    def _view(self) -> list[Study]:
        """Fix the real rows that the run looks at: once, or once for each outer fold."""
        folds = self._spec["evaluation"]["folds"]
        with self._stage("view") as stage:
            dataset = self._work.call(self._rooms.dataset, {"name": f"datasets/{self._spec['dataset']}"})
            studies = [self._look(dataset, fold) for fold in (range(1, folds + 1) if folds > 1 else (0,))]
            stage.results = [study.version for study in studies]
        return studies

    def _look(self, dataset: Json, fold: int) -> Study:
        request = {"parent": dataset["name"], "view": view_of(self._spec, fold)}
        version = self._work.call(self._rooms.assemble, request)
        training = {count["class_name"]: int(count["count"]) for count in version["real"]}
        for name in self._spec["classes"]:
            if training.get(name, 0) < MIN_TRAINING_IMAGES:
                raise FailedPrecondition(
                    f"classes: {name!r} has {training.get(name, 0)} training images in this view, below the "
                    f"{MIN_TRAINING_IMAGES} a run needs; leave it out or add images",
                    reason="CLASS_TOO_SMALL",
                )
        return Study(dataset, fold, version["name"], training)

    def _finetune(self, studies: Sequence[Study]) -> None:
        """Step 1: fine-tune what draws, on the training rows of the classes to augment."""
        settings = self._spec["generator"]
        wanted: dict[str, Json] = {}
        if self._largest_dose("transformed"):
            kept = {key: settings[key] for key in ("image_size", "seed", "transforms")}
            wanted["transformed"] = {"kind": "KIND_TRANSFORMS"} | kept
        if self._largest_dose("synthetic"):
            wanted["synthetic"] = {key: value for key, value in settings.items() if key not in _NOT_LEARNT}
        with self._stage("finetune") as stage:
            for study in studies:
                for source, generator in wanted.items():
                    study.generators[source] = self._finetune_one(stage, study, generator)
            if "synthetic" in wanted and settings.get("compared_prompts"):
                # The run's own captions would go before both sets.
                other = {key: value for key, value in wanted["synthetic"].items() if key != "captions"}
                other["prompts"] = settings["compared_prompts"]
                # The report shows the images of the first study.
                studies[0].compared = Compared(self._finetune_one(stage, studies[0], other))

    def _finetune_one(self, stage: Stage, study: Study, generator: Json) -> str:
        inputs = {
            "dataset_version": study.version,
            "classes": self._augmented,
            "generator": generator | {"channels": study.dataset["channels"]},
        }
        name = generator_name(inputs)
        self._job(stage, "finetune", inputs, [name])
        return name

    def _train_labeler(self, studies: Sequence[Study]) -> None:
        """Step 3, first half: train and calibrate the labeler, on training rows alone; and its second opinion."""
        labeling = self._labeling
        items = [self._labeler_item(study, seed=labeling["seed"]) for study in studies]
        for study, item in zip(studies, items, strict=True):
            study.labeler = classifier_name(item)
        if labeling["second_seed"] >= 0 and self._largest_dose("synthetic"):
            # The report shows the images of the first study.
            items.append(self._labeler_item(studies[0], seed=labeling["second_seed"]))
            studies[0].second_labeler = classifier_name(items[-1])
        with self._stage("labeler") as stage:
            inputs = {"items": items, "shelf": shelf_of(studies)}
            self._job(stage, "train", inputs, [classifier_name(item) for item in items])

    def _labeler_item(self, study: Study, *, seed: int) -> Json:
        labeling = self._labeling
        return {
            "role": "ROLE_LABELER",
            "classifier": labeling["classifier"],
            "channels": study.dataset["channels"],
            "dataset_version": study.version,
            "classes": self._spec["classes"],
            "sampling": "SAMPLING_CLASS_BALANCED",
            "updates": labeling["updates"],
            "batch_size": labeling["batch_size"],
            "learning_rate": labeling.get("learning_rate") or learning_rate(labeling["classifier"]),
            "training": labeling["training"],
            "seed": seed,
            **({"quantized": True} if self._precision == "PRECISION_INT8" else {}),
        }

    def _generate_and_label(self, studies: Sequence[Study]) -> None:
        """Steps 2 and 3: draw and label; transform, for the traditional scenarios."""
        with self._stage("generate") as stage:
            for study in studies:
                if "synthetic" in study.generators:
                    self._draw_rounds(stage, study)
                    self._label_again(study)
                if study.compared:
                    self._draw_compared(stage, study, study.compared)
                if "transformed" in study.generators:
                    self._transform(stage, study)
                batches = [batch["name"] for batch in study.batches]
                stage.results += [*batches, *study.labels, *study.second_labels, *study.transformed]
                if study.compared:
                    stage.results += [*study.compared.batches, *study.compared.labels]

    def _draw_rounds(self, stage: Stage, study: Study) -> None:
        """Draw and label until the largest dose is met in every class, or the rounds or the draws are used up.

        Suspected copies of training images do not count, unless the run keeps them: the next round makes up for them.
        """
        settings = self._spec["generation"]
        needed = self._needed(study, "synthetic")
        kept, drawn = dict.fromkeys(needed, 0), dict.fromkeys(needed, 0)
        embedding = "" if self._keep_copies else self._embed(study)
        for _ in range(settings["rounds"]):
            wanted = top_up(needed, kept, drawn, limit=settings["draw_limit"])
            results = self._draw(stage, study, study.generators["synthetic"], wanted, drawn)
            study.batches += [result["batch"] for result in results]
            labelled = [result["labelled"] for result in results]
            study.labels += [one["name"] for one in labelled]
            usable = self._usable(labelled, embedding)
            for name in kept:
                kept[name] += usable[name]
            for name, count in wanted.items():
                drawn[name] += count

    def _usable(self, labelled: Sequence[Json], embedding: str) -> Counter[str]:
        """Accepted images of a round, by the class they are kept as: without suspected copies, given an embedding.

        A labeler that is trusted may keep an image as a class that gets no dose.
        """
        found: Counter[str] = Counter()
        for batch in labelled:
            for one in batch.get("kept", []):
                found[one["class_name"]] += int(one.get("count", 0))
        if embedding and found.total():
            match = self._match_labels(embedding, [batch["name"] for batch in labelled])
            for one in match.get("closenesses", []):
                found[one["class_name"]] -= int(one.get("suspected_copies", 0))
        return found

    def _draw(
        self, stage: Stage, study: Study, generator: str, wanted: dict[str, int], first: dict[str, int]
    ) -> list[Json]:
        """Draw and label what is wanted of each class, from its first index on: a Batch and a LabelledBatch each."""
        size = chunk_size(self._spec["generator"])
        requests = [
            {
                "generate": request,
                "classifier": study.labeler,
                "mode": self._labeling["mode"],
                "precision": self._precision,
            }
            for request in draw_requests(self._spec, generator, wanted, first, size=size)
        ]
        sizes = [size_of(request["generate"]) for request in requests]
        results = self._work.chunks(self._rooms.generate_and_label, requests, sizes=sizes)
        stage.reused += sum(size_of(one["batch"]) - one["batch"].get("drawn", 0) for one in results)
        return results

    def _draw_compared(self, stage: Stage, study: Study, compared: Compared) -> None:
        """Draw and label what the other captions make of the noise that the first round began with."""
        needed = self._needed(study, "synthetic")
        compared.counts = compared_counts(needed, limit=self._spec["generation"]["draw_limit"])
        results = self._draw(stage, study, compared.generator, compared.counts, dict.fromkeys(needed, 0))
        compared.batches = [result["batch"]["name"] for result in results]
        compared.labels = [result["labelled"]["name"] for result in results]

    def _label_again(self, study: Study) -> None:
        """Ask the second labeler of all that was drawn; nothing is kept or left out for its sake."""
        if not study.second_labeler:
            return
        requests = [
            {
                "classifier": study.second_labeler,
                "batch": batch["name"],
                "mode": self._labeling["mode"],
                "precision": self._precision,
            }
            for batch in study.batches
        ]
        labelled = self._work.chunks(self._rooms.label, requests, sizes=[1] * len(requests))
        study.second_labels = [one["name"] for one in labelled]

    def _transform(self, stage: Stage, study: Study) -> None:
        needed = self._needed(study, "transformed")
        none = dict.fromkeys(needed, 0)
        # Transforms are quick, whatever draws beside them.
        size = chunk_size(self._spec["generator"] | {"kind": TRANSFORMS})
        requests = draw_requests(self._spec, study.generators["transformed"], needed, none, size=size)
        for batch in self._work.chunks(self._rooms.generate, requests, sizes=map(size_of, requests)):
            study.transformed.append(batch["name"])
            stage.reused += size_of(batch) - batch.get("drawn", 0)

    def _largest_dose(self, source: str) -> float:
        return max(float(scenario[source]) for scenario in self._spec["scenarios"])

    def _needed(self, study: Study, source: str) -> dict[str, int]:
        """Images of each augmented class that the largest dose asks for."""
        return {name: round(self._largest_dose(source) * study.training[name]) for name in self._augmented}

    def _select(self, studies: Sequence[Study]) -> None:
        """Step 4: reduce the dominant classes on the t-SNE map of their features."""
        settings = self._spec["selection"]
        with self._stage("select") as stage:
            if not settings["classes"]:
                return
            for study in studies:
                kept = settings["kept"] or max(study.training[name] for name in self._augmented)
                request = {
                    "dataset_version": study.version,
                    "embedding": self._embed(study),
                    "spec": settings | {"kept": kept},
                }
                study.selection = str(self._work.call(self._rooms.select, request)["name"])
                stage.results += [request["embedding"], study.selection]

    def _match(self, studies: Sequence[Study]) -> None:
        """Step 4, for made images of all rounds: which real training image each is nearest to, and which are copies."""
        with self._stage("match") as stage:
            for study in studies:
                if not study.labels:
                    continue
                embedding = self._embed(study)
                study.match = str(self._match_labels(embedding, study.labels)["name"])
                stage.results.append(study.match)
                if study.compared and study.compared.labels:
                    study.compared.match = str(self._match_labels(embedding, study.compared.labels)["name"])
                    stage.results.append(study.compared.match)

    def _match_labels(self, embedding: str, labels: Iterable[str]) -> Json:
        request = {"embedding": embedding, "labelled_manifests": [f"{name}/manifest.parquet" for name in labels]}
        return self._work.call(self._rooms.match, request)

    def _embed(self, study: Study) -> str:
        request = {
            "dataset_version": study.version,
            "classifier": study.labeler,
            "precision": self._precision,
        }
        return str(self._work.call(self._rooms.embed, request)["name"])

    def _assemble(self, studies: Sequence[Study]) -> None:
        """Step 5: one immutable version per scenario."""
        with self._stage("assemble") as stage:
            for study in studies:
                requests = [self._scenario_request(study, scenario) for scenario in self._spec["scenarios"]]
                study.versions = self._work.chunks(self._rooms.assemble, requests, sizes=[1] * len(requests))
                stage.results += [version["name"] for version in study.versions]

    def _scenario_request(self, study: Study, scenario: Json) -> Json:
        return {
            "parent": study.dataset["name"],
            "view": view_of(self._spec, study.fold),
            "selections": [study.selection] if study.selection else [],
            "scenario": scenario,
            "augmented_classes": self._augmented,
            "labelled_manifests": [f"{name}/manifest.parquet" for name in study.labels],
            "transformed_manifests": [f"{name}/manifest.parquet" for name in study.transformed],
            "seed": self._spec["generation"]["seed"],
            **({"matches": [study.match]} if study.match and not self._keep_copies else {}),
        }

    def _train(self, studies: Sequence[Study]) -> list[Trainings]:
        """Step 6, first half: train each scenario with each evaluator and seed, with equal updates."""
        parts = [entries_of(self._spec["scenarios"], study.versions) for study in studies]
        trainings = [
            Trainings(parts, settings, studies[0].dataset, view_of(self._spec), self._spec["generator"]["image_size"])
            for settings in evaluators(self._spec["evaluation"])
        ]
        # The probe is every evaluator's.
        items = list({classifier_name(item): item for one in trainings for item in one.items()}.values())
        with self._stage("train") as stage:
            inputs = {"items": items, "shelf": shelf_of(studies)}
            self._job(stage, "train", inputs, [classifier_name(item) for item in items])
        return trainings

    def _evaluate(self, trainings: Sequence[Trainings]) -> list[str]:
        """Step 6, second half: open the seal and score each frozen classifier once."""
        evaluations = []
        with self._stage("evaluate") as stage:
            for one in trainings:
                spec = {"name": self._spec["name"], "run": f"runs/{self._run}", "evaluation": one.settings}
                inputs = one.evaluation_inputs(spec)
                evaluations.append(evaluation_name(inputs))
                self._job(stage, "evaluate", inputs, evaluations[-1:])
        return evaluations

    def _report(self, studies: Sequence[Study], evaluations: list[str]) -> None:
        """Write the report, with the images of the first fold; the verdict goes into the run's record."""
        study = studies[0]
        names = [scenario["name"] for scenario in self._spec["scenarios"]]
        with self._stage("report") as stage:
            inputs = {
                "run": self._records.get(self._run),
                "dataset": study.dataset["name"],
                "view": study.version,
                "generators": [name for _, name in sorted(study.generators.items())],
                "labeler": study.labeler,
                "labels": study.labels,
                "second_labels": study.second_labels,
                "rejected": rejections(study.batches),
                "compared": compared_inputs(study.compared) if study.compared else {},
                "transformed_batches": study.transformed,
                "selection": study.selection,
                "match": study.match,
                "versions": {name: version["name"] for name, version in zip(names, study.versions, strict=True)},
                "evaluation": evaluations[0],
                "further_evaluations": evaluations[1:],
            }
            self._job(stage, "report", inputs, [])
            stage.results = [f"runs/{self._run}/report.html"]
        self._records.update(
            self._run,
            evaluation=evaluations[0],
            further_evaluations=evaluations[1:],
            verdict=self._work.call(self._rooms.verdict, {"name": evaluations[0]}),
        )
        self._records.end(self._run, SUCCEEDED)


class EvaluationApart:
    """An evaluation that stands on its own: train what is missing, open the seal, score."""

    def __init__(self, rooms: Rooms, work: Work) -> None:
        self._rooms = rooms
        self._work = work

    def perform(self) -> None:
        """Do the two Jobs that the plan of `work.owner` ("evaluations/{digest}") describes."""
        plan = self._rooms.get_plan(self._work.owner)
        results = [classifier_name(item) for item in plan["items"]]
        self._work.call(self._rooms.run_job, {"step": "train", "inputs": {"items": plan["items"]}, "results": results})
        self._work.call(
            self._rooms.run_job, {"step": "evaluate", "inputs": plan["inputs"], "results": [self._work.owner]}
        )
