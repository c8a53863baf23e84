from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from genaug.orchestrator.workflow import draw_requests, evaluation_inputs, top_up, training_plan
from genaug.shared.requests import classifier_name

SPEC = {"generator": {"image_size": 8}, "generation": {"steps": 20, "guidance_scale": 1.5, "seed": 3}}


@given(st.dictionaries(st.sampled_from("ABC"), st.tuples(st.integers(0, 2000), st.integers(0, 500)), min_size=1))
def test_chunks_cover_each_index_once(plan) -> None:
    wanted = {name: count for name, (count, _) in plan.items()}
    first = {name: start for name, (_, start) in plan.items()}
    seen: dict[str, list[int]] = {name: [] for name in wanted}
    for request in draw_requests(SPEC, "generators/x", wanted, first):
        (count,) = request["counts"]
        assert 1 <= count["count"] <= 256
        seen[count["class_name"]] += range(request["first_index"], request["first_index"] + count["count"])
    for name, indexes in seen.items():
        assert indexes == list(range(first[name], first[name] + wanted[name]))


def test_rejected_images_are_topped_up() -> None:
    assert top_up({"A": 100, "B": 10}, {"A": 0, "B": 0}, {"A": 0, "B": 0}) == {"A": 120, "B": 12}
    assert top_up({"A": 100, "B": 10}, {"A": 60, "B": 10}, {"A": 120, "B": 12}) == {"A": 96}
    # A class whose images are all rejected asks for ten times what is missing, not for ever.
    assert top_up({"A": 100}, {"A": 0}, {"A": 120}) == {"A": 1200}
    assert top_up({"A": 5}, {"A": 9}, {"A": 9}) == {}


def test_all_scenarios_are_trained_alike() -> None:
    entries = [
        {
            "scenario": {"name": name, "synthetic": dose, "transformed": 0.0, "sampling": sampling},
            "version": {"name": f"v/{name}", "digest": name, "real": [{"class_name": "A", "count": 3}]},
        }
        for name, dose, sampling in (("real", 0.0, "SAMPLING_NATURAL"), ("syn", 1.0, "SAMPLING_NATURAL"))
    ]
    settings = {
        "classifier": {},
        "updates": 5,
        "seeds": 2,
        "first_seed": 7,
        "batch_size": 4,
        "learning_rate": 0.1,
        "resamples": 10,
    }
    plan = training_plan(entries, settings, 1, ["A", "B"])
    assert [(item["dataset_version"], item["seed"]) for item in plan] == [
        ("v/real", 7),
        ("v/real", 8),
        ("v/syn", 7),
        ("v/syn", 8),
    ]
    same = {key for key in plan[0] if len({repr(item[key]) for item in plan}) == 1}
    assert same == set(plan[0]) - {"dataset_version", "rows_digest", "seed"}
    inputs = evaluation_inputs(
        entries,
        settings,
        dataset={"name": "datasets/d", "digest": "d", "channels": 1},
        view={"classes": ["A", "B"], "multi_disease": "MULTI_DISEASE_KEEP"},
        spec={},
    )
    assert inputs["reference"] == "real"
    assert inputs["scenarios"][1]["classifiers"] == [classifier_name(item) for item in plan[2:]]
    assert inputs["multi_disease"] == "KEEP"


def test_a_dataset_imported_anew_is_never_scored_by_old_classifiers() -> None:
    """Its `real` version bears the same name, but rows that were trained on may be sealed now."""
    settings = {"classifier": {}, "updates": 5, "seeds": 2, "first_seed": 7, "batch_size": 4, "learning_rate": 0.1}
    scenario = {"name": "real", "synthetic": 0.0, "transformed": 0.0, "sampling": "SAMPLING_NATURAL"}
    names = set()
    for digest in ("one", "two"):
        entry = {"scenario": scenario, "version": {"name": "datasets/d/versions/real", "digest": digest}}
        names |= {classifier_name(item) for item in training_plan([entry], settings, 1, ["A", "B"])}
    assert len(names) == 4
