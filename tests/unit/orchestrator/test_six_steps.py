"""The workflow over rooms that answer at once: what is asked of whom, in which order."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from genaug.orchestrator.progress import Live
from genaug.orchestrator.records import SUCCEEDED, Records
from genaug.orchestrator.spec import complete
from genaug.orchestrator.workflow import SixSteps
from genaug.shared.digests import digest_of
from genaug.shared.requests import classifier_name
from genaug.shared.settings import StoreSettings
from genaug.shared.store import Store

DATASET = {
    "name": "datasets/d",
    "digest": "d",
    "median_side": 8,
    "channels": 1,
    "folds": 3,
    "training": [{"class_name": name, "count": count} for name, count in (("a", 20), ("b", 20), ("n", 60))],
}


class Rooms:
    """Half of what is drawn is kept as the class that was asked for."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, dict[str, Any]]] = []
        self.assembled: list[dict[str, Any]] = []
        self.drawn: list[dict[str, Any]] = []
        self.matched: list[dict[str, Any]] = []
        self.labelled: list[dict[str, Any]] = []

    def dataset(self, request):
        return DATASET

    def assemble(self, request):
        self.assembled.append(request)
        name = f"datasets/d/versions/{digest_of('v', request)}"
        return {"name": name, "digest": name, "view": request["view"], "real": DATASET["training"]}

    def generate(self, request):
        self.drawn.append(request)
        return {"name": f"batches/{digest_of('b', request)}", "counts": request["counts"]}

    def generate_and_label(self, request):
        batch = self.generate(request["generate"])
        kept = [{**count, "count": count["count"] // 2} for count in batch["counts"]]
        return {"batch": batch, "labelled": {"name": f"labels/{batch['name']}", "kept": kept}}

    def label(self, request):
        self.labelled.append(request)
        return {"name": f"labels/{digest_of('l', request)}"}

    def embed(self, request):
        return {"name": f"embeddings/{digest_of('e', request)}"}

    def select(self, request):
        return {"name": f"selections/{digest_of('s', request)}"}

    def match(self, request):
        self.matched.append(request)
        return {"name": f"matches/{digest_of('m', request)}"}

    def run_job(self, request):
        self.jobs.append((request["step"], request["inputs"]))
        return {"reused": 0}

    def verdict(self, request):
        return {"outcome": "OUTCOME_NO_EVIDENCE", "sentence": "No."}


class Work:
    owner = "x-00000000"

    def call(self, call, request):
        return call(request)

    def chunks(self, call, requests, *, sizes: Iterable[int]):
        return [call(request) for request, _ in zip(requests, sizes, strict=True)]


def perform(tmp_path: Path, **spec: Any) -> tuple[Rooms, dict[str, Any]]:
    records = Records(Store.open(StoreSettings(url=f"file://{tmp_path}"), "orchestrator"), Live())
    given = {"name": "x", "dataset": "d", "selection": {"classes": ["n"]}, **spec}
    records.create(Work.owner, complete(given, DATASET))
    rooms = Rooms()
    SixSteps(rooms, records, Work()).perform()  # type: ignore[arg-type]
    record = records.get(Work.owner)
    assert record["state"] == SUCCEEDED
    assert {step["state"] for step in record["steps"]} == {SUCCEEDED}
    return rooms, record


def test_each_step_is_done_once(tmp_path: Path) -> None:
    rooms, record = perform(tmp_path)
    assert [step for step, _ in rooms.jobs] == ["finetune", "finetune", "train", "train", "evaluate", "report"]
    assert len(rooms.matched) == 1
    scenarios = [request["scenario"]["name"] for request in rooms.assembled if "scenario" in request]
    assert scenarios == ["real", "real-balanced", "synthetic-x1", "synthetic-x2", "traditional-x1", "real-random"]
    report = rooms.jobs[-1][1]
    assert report["evaluation"] == record["evaluation"]
    assert report["match"] == next(step for step in record["steps"] if step["name"] == "match")["results"][0]


def test_draws_are_topped_up_until_the_largest_dose_is_met(tmp_path: Path) -> None:
    rooms, _ = perform(tmp_path)
    kept = {"a": 0, "b": 0}
    seen: set[tuple[str, int]] = set()
    for request in rooms.drawn:
        (count,) = request["counts"]
        if "sampler" in request and request["generator"] == rooms.drawn[0]["generator"]:
            kept[count["class_name"]] += count["count"] // 2
            drawn = {
                (count["class_name"], i) for i in range(request["first_index"], request["first_index"] + count["count"])
            }
            assert not drawn & seen, "an index is drawn once"
            seen |= drawn
    assert all(count >= 40 for count in kept.values())


def test_every_evaluator_is_scored_by_itself(tmp_path: Path) -> None:
    rooms, record = perform(tmp_path, evaluation={"seeds": 2, "further": [{"updates": 7}]})
    evaluations = [inputs for step, inputs in rooms.jobs if step == "evaluate"]
    assert [inputs["spec"]["evaluation"]["updates"] for inputs in evaluations] == [600, 7]
    names = [{n for s in inputs["scenarios"] for n in s["parts"][0]["classifiers"]} for inputs in evaluations]
    assert not names[0] & names[1]
    assert len(record["further_evaluations"]) == 1
    training = [inputs for step, inputs in rooms.jobs if step == "train"][-1]
    assert len(training["items"]) == 2 * 6 * 2


def test_folds_do_the_six_steps_anew_for_each(tmp_path: Path) -> None:
    """A generator or a labeler that has seen the rows it is judged by would be a leak."""
    rooms, _ = perform(tmp_path, evaluation={"seeds": 2, "folds": 3})
    assert {request["view"]["fold"] for request in rooms.assembled} == {1, 2, 3}
    finetuned = [inputs["dataset_version"] for step, inputs in rooms.jobs if step == "finetune"]
    assert len(set(finetuned)) == 3
    labelers = next(inputs for step, inputs in rooms.jobs if step == "train")["items"]
    assert [item["dataset_version"] for item in labelers if item["seed"] == 1000] == list(dict.fromkeys(finetuned))
    (evaluation,) = [inputs for step, inputs in rooms.jobs if step == "evaluate"]
    for scenario in evaluation["scenarios"]:
        assert [part["fold"] for part in scenario["parts"]] == [1, 2, 3]
        assert len({part["dataset_version"] for part in scenario["parts"]}) == 3


@pytest.mark.parametrize("classes", [[], ["n"]])
def test_what_is_not_asked_for_is_not_done(tmp_path: Path, classes: list[str]) -> None:
    rooms, record = perform(
        tmp_path,
        selection={"classes": classes},
        scenarios=[{"name": "real"}, {"name": "balanced", "sampling": "SAMPLING_CLASS_BALANCED"}],
    )
    assert "finetune" not in {step for step, _ in rooms.jobs}
    assert not rooms.matched
    assert not rooms.drawn
    selected = next(step for step in record["steps"] if step["name"] == "select").get("results", [])
    assert bool(selected) == bool(classes)


def test_a_second_labeler_says_what_it_thinks_of_all_that_was_drawn(tmp_path: Path) -> None:
    rooms, record = perform(tmp_path)
    (_, trained) = next(job for job in rooms.jobs if job[0] == "train")
    first, second = trained["items"]
    assert (first["seed"], second["seed"]) == (1000, 2000)
    assert {key: value for key, value in first.items() if key != "seed"} == {
        key: value for key, value in second.items() if key != "seed"
    }
    (_, report) = rooms.jobs[-1]
    assert len(rooms.labelled) == len(report["labels"]) == len(report["second_labels"]) > 1
    assert {one["classifier"] for one in rooms.labelled} == {classifier_name(second)}
    assert report["labeler"] == classifier_name(first)
    # What it says decides nothing.
    (scenario,) = [one for one in rooms.assembled if one.get("scenario", {}).get("name") == "synthetic-x1"]
    assert not set(scenario["labelled_manifests"]) & {f"{name}/manifest.parquet" for name in report["second_labels"]}
    generated = next(step for step in record["steps"] if step["name"] == "generate")
    assert set(report["second_labels"]) < set(generated["results"])


@pytest.mark.parametrize(
    "spec", [{"labeling": {"second_seed": -1}}, {"scenarios": [{"name": "real"}, {"name": "t", "transformed": 1.0}]}]
)
def test_no_second_labeler_where_none_is_wanted_or_nothing_is_labelled(tmp_path: Path, spec: dict[str, Any]) -> None:
    rooms, _ = perform(tmp_path, **spec)
    assert len(next(inputs for step, inputs in rooms.jobs if step == "train")["items"]) == 1
    assert not rooms.labelled


def test_with_outer_folds_the_first_alone_has_a_second_opinion(tmp_path: Path) -> None:
    rooms, _ = perform(tmp_path, evaluation={"folds": 3})
    items = next(inputs for step, inputs in rooms.jobs if step == "train")["items"]
    assert [item["seed"] for item in items] == [1000, 1000, 1000, 2000]
    assert items[3]["dataset_version"] == items[0]["dataset_version"]


def test_eight_bits_are_asked_of_the_training(tmp_path: Path) -> None:
    classifier = {"backbone": "BACKBONE_VGG19", "image_size": 32, "tuning": "TUNING_FINE_TUNED"}
    rooms, _ = perform(tmp_path, labeling={"classifier": classifier, "precision": "PRECISION_INT8"})
    items = next(inputs for step, inputs in rooms.jobs if step == "train")["items"]
    assert [item["quantized"] for item in items] == [True, True]
