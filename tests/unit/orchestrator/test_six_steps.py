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
from genaug.schema.jobs import classifier_name, generator_name
from genaug.shared.digests import digest_of
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
    """Half of what is drawn is kept as the class that was asked for; `copies` of each class and batch are copies."""

    def __init__(self, *, copies: int = 0, accepting: bool = True) -> None:
        self.copies = copies
        self.accepting = accepting
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
        kept = [{**count, "count": count["count"] // 2} for count in batch["counts"]] if self.accepting else []
        batch["rejected"] = [{"class_name": "a", "reason": "REASON_BLACK", "count": 1}]
        return {"batch": batch, "labelled": {"name": f"labels/{digest_of('l', request)}", "kept": kept}}

    def label(self, request):
        self.labelled.append(request)
        return {"name": f"labels/{digest_of('l', request)}"}

    def embed(self, request):
        return {"name": f"embeddings/{digest_of('e', request)}"}

    def select(self, request):
        return {"name": f"selections/{digest_of('s', request)}"}

    def match(self, request):
        self.matched.append(request)
        assert request["labelled_manifests"], "nothing cannot be matched"
        closenesses = [{"class_name": name, "suspected_copies": self.copies} for name in "abn"] if self.copies else []
        return {"name": f"matches/{digest_of('m', request)}", "closenesses": closenesses}

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


def perform(
    tmp_path: Path, *, rooms: Rooms | None = None, old: bool = False, **spec: Any
) -> tuple[Rooms, dict[str, Any]]:
    """Run the six steps; `old` as a run that was begun before copies could be left out."""
    records = Records(Store.open(StoreSettings(url=f"file://{tmp_path}"), "orchestrator"), Live())
    given = {"name": "x", "dataset": "d", "selection": {"classes": ["n"]}, **spec}
    completed = complete(given, DATASET)
    if old:
        del completed["generation"]["keep_copies"]
    records.create(Work.owner, completed)
    rooms = rooms or Rooms()
    SixSteps(rooms, records, Work()).perform()  # type: ignore[arg-type]
    record = records.get(Work.owner)
    assert record["state"] == SUCCEEDED
    assert {step["state"] for step in record["steps"]} == {SUCCEEDED}
    return rooms, record


def test_each_step_is_done_once(tmp_path: Path) -> None:
    rooms, record = perform(tmp_path)
    assert [step for step, _ in rooms.jobs] == ["finetune", "finetune", "train", "train", "evaluate", "report"]
    (_, report) = rooms.jobs[-1]
    manifests = [f"{name}/manifest.parquet" for name in report["labels"]]
    *rounds, last = [request["labelled_manifests"] for request in rooms.matched]
    assert [key for one in rounds for key in one] == last == manifests, "each round, then all of it for the report"
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


def drawn_of(rooms: Rooms, generator: str) -> dict[str, int]:
    counts = [request["counts"][0] for request in rooms.drawn if request["generator"] == generator]
    return {name: sum(one["count"] for one in counts if one["class_name"] == name) for name in "ab"}


def test_suspected_copies_do_not_count_and_are_drawn_anew(tmp_path: Path) -> None:
    plain, _ = perform(tmp_path / "plain")
    rooms, _ = perform(tmp_path / "copies", rooms=Rooms(copies=5))
    generator = rooms.drawn[0]["generator"]
    assert all(drawn_of(rooms, generator)[name] > count for name, count in drawn_of(plain, generator).items())
    (_, report) = rooms.jobs[-1]
    for request in rooms.assembled:
        if "scenario" in request:
            assert request["matches"] == [report["match"]]
    assert rooms.matched[-1]["labelled_manifests"] == [f"{name}/manifest.parquet" for name in report["labels"]]


@pytest.mark.parametrize("options", [{"generation": {"keep_copies": True}}, {"old": True}])
def test_copies_that_are_kept_are_only_marked(tmp_path: Path, options: dict[str, Any]) -> None:
    rooms, _ = perform(tmp_path, rooms=Rooms(copies=5), **options)
    assert len(rooms.matched) == 1
    assert not [request for request in rooms.assembled if "matches" in request]
    plain, _ = perform(tmp_path / "plain")
    generator = rooms.drawn[0]["generator"]
    assert drawn_of(rooms, generator) == drawn_of(plain, generator)


def test_a_round_in_which_nothing_is_accepted_is_not_matched(tmp_path: Path) -> None:
    rooms, _ = perform(tmp_path, rooms=Rooms(accepting=False))
    assert len(rooms.matched) == 1, "all of it, for the report"


def test_with_outer_folds_each_leaves_out_the_copies_of_its_own(tmp_path: Path) -> None:
    rooms, _ = perform(tmp_path, rooms=Rooms(copies=1), evaluation={"folds": 3})
    scenarios = [request for request in rooms.assembled if "scenario" in request]
    assert all(len(request["matches"]) == 1 for request in scenarios)
    by_fold = {request["view"]["fold"]: request["matches"][0] for request in scenarios}
    assert len(set(by_fold.values())) == 3
    assert len({request["embedding"] for request in rooms.matched}) == 3


def test_what_was_no_image_is_counted_over_the_rounds(tmp_path: Path) -> None:
    rooms, _ = perform(tmp_path)
    (_, report) = rooms.jobs[-1]
    count = len(report["labels"])
    assert report["rejected"] == [{"class_name": "a", "reason": "REASON_BLACK", "count": count}]


STABLE = {"kind": "KIND_STABLE_DIFFUSION", "base": "bases/x", "captions": {"a": "an a"}, "image_size": 64}


def test_other_captions_have_a_generator_whose_images_no_scenario_takes(tmp_path: Path) -> None:
    rooms, record = perform(
        tmp_path,
        generator=STABLE | {"prompts": "disease-specific", "compared_prompts": "generic"},
        evaluation={"folds": 3},
    )
    finetuned = [inputs for step, inputs in rooms.jobs if step == "finetune"]
    learnt = [inputs for inputs in finetuned if inputs["generator"]["kind"] == "KIND_STABLE_DIFFUSION"]
    *first, other = learnt
    assert len(first) == 3
    assert other["dataset_version"] == first[0]["dataset_version"], "of the first study alone"
    assert other["generator"] == {
        key: value for key, value in first[0]["generator"].items() if key not in ("captions", "prompts")
    } | {"prompts": "generic"}
    for inputs in learnt:
        assert not {"compared_prompts", "preset", "transforms"} & inputs["generator"].keys()
    (_, report) = rooms.jobs[-1]
    compared = report["compared"]
    assert compared["generator"] == generator_name(other)
    assert compared["generator"] not in report["generators"]
    assert compared["counts"] == {"a": 48, "b": 48}
    mine, own = (
        [one for one in rooms.drawn if one["generator"] == name]
        for name in (compared["generator"], generator_name(first[0]))
    )
    facts = ("counts", "seed", "first_index", "sampler")
    assert [{key: one[key] for key in facts} for one in mine] == [
        {key: one[key] for key in facts} for one in own if one["first_index"] < 48
    ], "the same noise"
    matched = [one for one in rooms.matched if set(one["labelled_manifests"]) == _keys(compared["labels"])]
    assert len(matched) == 1
    assert not [one for one in rooms.assembled if set(one.get("labelled_manifests", ())) & _keys(compared["labels"])]
    steps = {step["name"]: step["results"] for step in record["steps"]}
    assert compared["generator"] in steps["finetune"]
    assert compared["match"] in steps["match"]
    assert set(compared["labels"]) < set(steps["generate"])


def _keys(labels: Iterable[str]) -> set[str]:
    return {f"{name}/manifest.parquet" for name in labels}


def test_comparing_captions_changes_nothing_of_the_run_but_the_comparison(tmp_path: Path) -> None:
    plain, _ = perform(tmp_path / "plain", generator=STABLE)
    rooms, _ = perform(tmp_path / "compared", generator=STABLE | {"compared_prompts": "generic"})
    assert rooms.assembled == plain.assembled
    (_, report) = plain.jobs[-1]
    assert report["compared"] == {}
    assert rooms.jobs[-1][1]["generators"] == report["generators"]


def test_a_preset_names_no_generator_of_its_own(tmp_path: Path) -> None:
    """It has been written out: the same values without its name are the same generator."""
    given = {key: value for key, value in STABLE.items() if key != "captions"} | {"preset": "PRESET_PUBLISHED"}
    preset, _ = perform(tmp_path / "preset", generator=given)
    written = complete({"name": "x", "dataset": "d", "generator": given}, DATASET)["generator"]
    plain, _ = perform(tmp_path / "plain", generator={key: value for key, value in written.items() if key != "preset"})
    first = [
        next(
            inputs
            for step, inputs in rooms.jobs
            if "generator" in inputs and inputs["generator"]["kind"] == STABLE["kind"]
        )
        for rooms in (preset, plain)
    ]
    assert first[0] == first[1]


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
