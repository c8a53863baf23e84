"""The six steps of Aktas et al. (IJMLC 2024, figure 1), in order, each sound: read it top to bottom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from genaug.orchestrator.engine import Work
from genaug.orchestrator.records import SUCCEEDED, Records, Stage
from genaug.orchestrator.rooms import Rooms
from genaug.orchestrator.spec import Spec, augmented_classes, is_reference
from genaug.shared.errors import FailedPrecondition
from genaug.shared.requests import classifier_name, evaluation_name, generator_name

# Fewest real training images of a class that a run starts with.
MIN_TRAINING_IMAGES = 8
# How many more images than needed the first round draws, for those that will be rejected.
_SPARE = 1.2

Json = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """What a run looks at: its view of the dataset."""

    dataset: str
    digest: str
    channels: int
    version: str
    training: dict[str, int]
    """Real training images per class."""


@dataclass
class Made:
    """What was drawn, as resource names, in the order of the rounds."""

    batches: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    transformed: list[str] = field(default_factory=list)


class SixSteps:
    """One run, from its dataset to its verdict."""

    def __init__(self, rooms: Rooms, records: Records, work: Work) -> None:
        self._rooms = rooms
        self._records = records
        self._work = work
        self._run = work.owner
        self._spec: Spec = records.get(work.owner)["spec"]
        self._augmented = augmented_classes(self._spec)

    def perform(self) -> None:
        """Run the six steps."""
        study = self._view()
        generators = self._finetune(study)  # 1
        labeler = self._train_labeler(study)
        made = self._generate_and_label(study, generators, labeler)  # 2 and 3
        selection = self._select(study, labeler)  # 4
        versions = self._assemble(study, made, selection)  # 5
        self._train(study, versions)  # 6
        evaluation = self._evaluate(study, versions)
        self._report(study, generators, labeler, made, selection, versions, evaluation)

    def _stage(self, name: str) -> AbstractContextManager[Stage]:
        return self._records.stage(self._run, name)

    def _job(self, stage: Stage, step: str, inputs: Json, results: list[str]) -> None:
        answer = self._work.call(self._rooms.run_job, {"step": step, "inputs": inputs, "results": results})
        stage.reused += answer["reused"]
        stage.results += results

    def _view(self) -> Study:
        """Fix the real rows that the run looks at."""
        with self._stage("view") as stage:
            dataset = self._work.call(self._rooms.dataset, {"name": f"datasets/{self._spec['dataset']}"})
            request = {"parent": dataset["name"], "view": view_of(self._spec)}
            version = self._work.call(self._rooms.assemble, request)
            training = {count["class_name"]: int(count["count"]) for count in version["real"]}
            for name in self._spec["classes"]:
                if training.get(name, 0) < MIN_TRAINING_IMAGES:
                    raise FailedPrecondition(
                        f"classes: {name!r} has {training.get(name, 0)} training images in this view, below the "
                        f"{MIN_TRAINING_IMAGES} a run needs; leave it out or add images",
                        reason="CLASS_TOO_SMALL",
                    )
            stage.results = [version["name"]]
        return Study(dataset["name"], dataset["digest"], dataset["channels"], version["name"], training)

    def _finetune(self, study: Study) -> dict[str, str]:
        """Step 1: fine-tune what draws, on the training rows of the classes to augment."""
        settings = self._spec["generator"]
        wanted: dict[str, Json] = {}
        if self._largest_dose("synthetic"):
            wanted["synthetic"] = {key: value for key, value in settings.items() if key != "transforms"}
        if self._largest_dose("transformed"):
            kept = {key: settings[key] for key in ("image_size", "seed", "transforms")}
            wanted["transformed"] = {"kind": "KIND_TRANSFORMS"} | kept
        generators = {}
        with self._stage("finetune") as stage:
            for source, generator in wanted.items():
                inputs = {
                    "dataset_version": study.version,
                    "classes": self._augmented,
                    "generator": generator | {"channels": study.channels},
                }
                generators[source] = generator_name(inputs)
                self._job(stage, "finetune", inputs, [generators[source]])
        return generators

    def _train_labeler(self, study: Study) -> str:
        """Step 3, first half: train and calibrate the labeler, on training rows alone."""
        labeling, evaluation = self._spec["labeling"], self._spec["evaluation"]
        item = {
            "role": "ROLE_LABELER",
            "classifier": labeling["classifier"],
            "channels": study.channels,
            "dataset_version": study.version,
            "classes": self._spec["classes"],
            "sampling": "SAMPLING_CLASS_BALANCED",
            "updates": labeling["updates"],
            "batch_size": evaluation["batch_size"],
            "learning_rate": evaluation["learning_rate"],
            "seed": labeling["seed"],
        }
        with self._stage("labeler") as stage:
            self._job(stage, "train", {"items": [item]}, [classifier_name(item)])
        return classifier_name(item)

    def _generate_and_label(self, study: Study, generators: dict[str, str], labeler: str) -> Made:
        """Steps 2 and 3: draw and label; transform, for the traditional scenarios."""
        made = Made()
        with self._stage("generate") as stage:
            if "synthetic" in generators:
                self._draw_rounds(stage, study, generators["synthetic"], labeler, made)
            if "transformed" in generators:
                needed = self._needed(study, "transformed")
                requests = draw_requests(self._spec, generators["transformed"], needed, dict.fromkeys(needed, 0))
                for batch in self._work.chunks(self._rooms.generate, requests, sizes=map(size_of, requests)):
                    made.transformed.append(batch["name"])
                    stage.reused += size_of(batch) - batch.get("drawn", 0)
            stage.results = [*made.batches, *made.labels, *made.transformed]
        return made

    def _draw_rounds(self, stage: Stage, study: Study, generator: str, labeler: str, made: Made) -> None:
        """Draw and label until the largest dose is met in every class, or the rounds are over."""
        needed = self._needed(study, "synthetic")
        accepted, drawn = dict.fromkeys(needed, 0), dict.fromkeys(needed, 0)
        for _ in range(self._spec["generation"]["rounds"]):
            wanted = top_up(needed, accepted, drawn)
            requests = [
                {"generate": request, "classifier": labeler, "mode": self._spec["labeling"]["mode"]}
                for request in draw_requests(self._spec, generator, wanted, drawn)
            ]
            sizes = [size_of(request["generate"]) for request in requests]
            for result in self._work.chunks(self._rooms.generate_and_label, requests, sizes=sizes):
                made.batches.append(result["batch"]["name"])
                made.labels.append(result["labelled"]["name"])
                stage.reused += size_of(result["batch"]) - result["batch"].get("drawn", 0)
                for acceptance in result["labelled"]["acceptances"]:
                    accepted[acceptance["class_name"]] += acceptance.get("accepted", 0)
            for name, count in wanted.items():
                drawn[name] += count

    def _largest_dose(self, source: str) -> float:
        return max(float(scenario[source]) for scenario in self._spec["scenarios"])

    def _needed(self, study: Study, source: str) -> dict[str, int]:
        """Images of each augmented class that the largest dose asks for."""
        return {name: round(self._largest_dose(source) * study.training[name]) for name in self._augmented}

    def _select(self, study: Study, labeler: str) -> str:
        """Step 4: reduce the dominant classes on the t-SNE map of their features."""
        settings = self._spec["selection"]
        with self._stage("select") as stage:
            if not settings["classes"]:
                return ""
            request = {"dataset_version": study.version, "classifier": labeler}
            embedding = self._work.call(self._rooms.embed, request)["name"]
            kept = settings["kept"] or max(study.training[name] for name in self._augmented)
            request = {"dataset_version": study.version, "embedding": embedding, "spec": settings | {"kept": kept}}
            selection = str(self._work.call(self._rooms.select, request)["name"])
            stage.results = [embedding, selection]
        return selection

    def _assemble(self, study: Study, made: Made, selection: str) -> dict[str, Json]:
        """Step 5: one immutable version per scenario, by the scenario's name."""
        versions = {}
        with self._stage("assemble") as stage:
            for scenario in self._spec["scenarios"]:
                request = {
                    "parent": study.dataset,
                    "view": view_of(self._spec),
                    "selections": [selection] if selection else [],
                    "scenario": scenario,
                    "augmented_classes": self._augmented,
                    "labelled_manifests": [f"{name}/manifest.parquet" for name in made.labels],
                    "transformed_manifests": [f"{name}/manifest.parquet" for name in made.transformed],
                    "seed": self._spec["generation"]["seed"],
                }
                versions[scenario["name"]] = self._work.call(self._rooms.assemble, request)
            stage.results = [version["name"] for version in versions.values()]
        return versions

    def _train(self, study: Study, versions: dict[str, Json]) -> None:
        """Step 6, first half: train each scenario with each seed, with equal updates."""
        plan = training_plan(self._entries(versions), self._spec["evaluation"], study.channels, self._spec["classes"])
        with self._stage("train") as stage:
            self._job(stage, "train", {"items": plan}, [classifier_name(item) for item in plan])

    def _evaluate(self, study: Study, versions: dict[str, Json]) -> str:
        """Step 6, second half: open the seal and score each frozen classifier once."""
        inputs = evaluation_inputs(
            self._entries(versions),
            self._spec["evaluation"],
            dataset={"name": study.dataset, "digest": study.digest, "channels": study.channels},
            view=view_of(self._spec),
            spec={"name": self._spec["name"], "run": f"runs/{self._run}", "evaluation": self._spec["evaluation"]},
        )
        with self._stage("evaluate") as stage:
            self._job(stage, "evaluate", inputs, [evaluation_name(inputs)])
        return evaluation_name(inputs)

    def _entries(self, versions: dict[str, Json]) -> list[Json]:
        return [{"scenario": one, "version": versions[one["name"]]} for one in self._spec["scenarios"]]

    def _report(
        self,
        study: Study,
        generators: dict[str, str],
        labeler: str,
        made: Made,
        selection: str,
        versions: dict[str, Json],
        evaluation: str,
    ) -> None:
        """Write the report; the verdict goes into the run's record."""
        with self._stage("report") as stage:
            inputs = {
                "run": self._records.get(self._run),
                "dataset": study.dataset,
                "view": study.version,
                "generators": list(generators.values()),
                "labeler": labeler,
                "labels": made.labels,
                "transformed_batches": made.transformed,
                "selection": selection,
                "versions": {name: version["name"] for name, version in versions.items()},
                "evaluation": evaluation,
            }
            self._job(stage, "report", inputs, [])
            stage.results = [f"runs/{self._run}/report.html"]
        self._records.update(self._run, evaluation=evaluation, verdict=self._rooms.verdict(evaluation))
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


def view_of(spec: Spec) -> Json:
    """The View of a run."""
    return {"classes": spec["classes"], "multi_disease": spec["multi_disease"]}


def size_of(value: Json) -> int:
    """Images in a request to draw, or in a batch."""
    return sum(int(count["count"]) for count in value.get("counts", []))


def top_up(needed: dict[str, int], accepted: dict[str, int], drawn: dict[str, int]) -> dict[str, int]:
    """How many images of each class the next round draws: as many as acceptance so far makes likely to suffice."""
    wanted = {}
    for name, target in needed.items():
        short = target - accepted[name]
        if short <= 0:
            continue
        # At least one in ten is hoped for, so that a class whose images are all rejected does not draw without end.
        rate = max(accepted[name] / drawn[name], 0.1) if drawn[name] else 1.0
        wanted[name] = math.ceil(short * _SPARE / rate)
    return wanted


def draw_requests(spec: Spec, generator: str, wanted: dict[str, int], first: dict[str, int]) -> list[Json]:
    """Cut what is wanted of each class into chunks of some tens of seconds on a small CPU."""
    size = 256 if spec["generator"]["image_size"] <= 16 else 64
    sampler = {key: spec["generation"][key] for key in ("steps", "guidance_scale")}
    return [
        {
            "generator": generator,
            "counts": [{"class_name": name, "count": min(size, count - start)}],
            "seed": spec["generation"]["seed"],
            "first_index": first[name] + start,
            "sampler": sampler,
            "output": "OUTPUT_STORE",
        }
        for name, count in wanted.items()
        for start in range(0, count, size)
    ]


def training_plan(scenarios: Sequence[Json], settings: Json, channels: int, classes: list[str]) -> list[Json]:
    """The items of the `train` Job: each scenario with each seed, all else equal."""
    return [
        {
            "role": "ROLE_EVALUATOR",
            "classifier": settings["classifier"],
            "channels": channels,
            "dataset_version": entry["version"]["name"],
            # "versions/real" is a name that a dataset imported anew bears again; its rows are not the same.
            "rows_digest": entry["version"]["digest"],
            "classes": classes,
            "sampling": entry["scenario"]["sampling"],
            "updates": settings["updates"],
            "batch_size": settings["batch_size"],
            "learning_rate": settings["learning_rate"],
            "seed": settings["first_seed"] + seed,
        }
        for entry in scenarios
        for seed in range(settings["seeds"])
    ]


def evaluation_inputs(scenarios: Sequence[Json], settings: Json, *, dataset: Json, view: Json, spec: Json) -> Json:
    """The inputs of the `evaluate` Job."""
    names = [classifier_name(item) for item in training_plan(scenarios, settings, dataset["channels"], view["classes"])]
    seeds = settings["seeds"]
    return {
        "dataset": dataset["name"],
        "dataset_digest": dataset["digest"],
        "classes": view["classes"],
        "multi_disease": view["multi_disease"].removeprefix("MULTI_DISEASE_"),
        "reference": next(e["scenario"]["name"] for e in scenarios if is_reference(e["scenario"])),
        "scenarios": [
            {
                "scenario": entry["scenario"],
                "dataset_version": entry["version"]["name"],
                "training_images": sum(
                    int(count["count"])
                    for source in ("real", "synthetic", "transformed")
                    for count in entry["version"].get(source, [])
                ),
                "classifiers": names[index * seeds : (index + 1) * seeds],
            }
            for index, entry in enumerate(scenarios)
        ],
        "resamples": settings["resamples"],
        "seed": settings["first_seed"],
        "spec": spec,
    }
