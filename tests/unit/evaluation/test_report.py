from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from genaug.evaluation.measure import evaluate
from genaug.evaluation.report.charts import dose_chart, loss_chart
from genaug.evaluation.report.made_words import captions_said, stopped_said
from genaug.evaluation.report.pictures import thumbnail
from genaug.evaluation.report.words import agreement_said, control_said, headline, probe_said
from genaug.evaluation.report.write import write_report
from genaug.shared.manifest import Row, encode, read_rows, write_rows
from genaug.shared.pages.figures import Line, forest, ticks
from genaug.shared.store import Store
from genaug.vision.images.pixels import decode, encode_png

Stores = Callable[[str], Store]

# A class that would break out of the page if it were not escaped.
EVIL = "<script>alert(1)</script>"
CLASSES = ["a", EVIL]
DATASET = "datasets/d"
VIEW = f"{DATASET}/versions/real"
MADE = f"{DATASET}/versions/{'1' * 32}"
RUN = "runs/study-0a1b2c3d"
PROVENANCE = {"recipe": "x/1", "version": "0", "libraries": {"torch": "2.0"}, "seconds": 1.5}


def counted(*counts: int) -> list[dict[str, Any]]:
    return [{"class_name": name, "count": count} for name, count in zip(CLASSES, counts, strict=True)]


def put_rows(stores: Stores) -> list[Row]:
    """Real rows of three splits with their images; sealed ones bear a mark."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(60):
        split = ("train", "train", "train", "validation", "test")[i % 5]
        uri = f"{'sealed/' if split == 'test' else ''}images/00/{i}"
        stores("assembly").put_new(uri, encode_png(rng.integers(0, 255, (8, 8, 1), np.uint8)))
        rows.append(
            Row(f"{i:032x}", uri, "", "", CLASSES[i % 2], split, group_id=f"{i:032x}", subject_id=f"subject-{i}")
        )
    write_rows(stores("assembly"), f"{VIEW}/rows.parquet", [row for row in rows if row.split != "test"])
    write_rows(stores("assembly"), f"sealed/{DATASET}/rows.parquet", [row for row in rows if row.split == "test"])
    return rows


def put_labels(stores: Stores) -> str:
    """Generated images: six accepted, two that disagree, one unsure, one degenerate."""
    rng = np.random.default_rng(1)
    rows = []
    for i, verdict in enumerate(["accepted"] * 6 + ["disagrees"] * 2 + ["unsure", "degenerate"]):
        uri = f"draws/00/{i}"
        stores("generation").put_new(uri, encode_png(rng.integers(0, 255, (8, 8, 1), np.uint8)))
        label = CLASSES[0] if verdict == "disagrees" else "" if verdict == "degenerate" else EVIL
        made = Row(f"{i:032x}", uri, "", "", EVIL, "train", source="synthetic", prompt=EVIL, label=label)
        rows.append(Row(**{**made.__dict__, "probabilities": {label: 0.9}, "label_verdict": verdict}))
    write_rows(stores("labeling"), f"labels/{'2' * 32}/manifest.parquet", rows)
    return f"labels/{'2' * 32}"


def put_second_labels(stores: Stores, labels: str) -> str:
    """The second labeler takes one of the accepted images for another class."""
    rows = read_rows(stores("report"), f"{labels}/manifest.parquet")
    index = next(i for i, row in enumerate(rows) if row.label_verdict == "accepted")
    rows[index] = replace(rows[index], label=CLASSES[0], label_verdict="disagrees")
    name = f"labels/{'9' * 32}"
    write_rows(stores("labeling"), f"{name}/manifest.parquet", rows)
    return name


def put_selection(stores: Stores, rows: Sequence[Row]) -> str:
    name = f"selections/{'3' * 32}"
    training = [row for row in rows if row.split == "train"]
    columns = {
        "image_id": [row.image_id for row in training],
        "class": [row.class_name for row in training],
        "x": [float(i) for i in range(len(training))],
        "y": [float(i % 7) for i in range(len(training))],
        "chosen": [i % 3 > 0 for i in range(len(training))],
        "random": [i % 4 > 0 for i in range(len(training))],
    }
    quality = {"class_name": "a", "available": 18, "kept": 12, "mmd2": 0.001, "random_mmd2": 0.002, "coverage": 0.9}
    record = {"name": name, "manifest": f"{name}/manifest.parquet", "spec": {"method": "METHOD_TSNE_GRID"}}
    stores("selection").put_new(record["manifest"], encode(pa.table(columns)))
    stores("selection").put_new_json(
        f"{name}/selection.json", {**record, "qualities": [quality], "provenance": PROVENANCE}
    )
    return name


def put_records(stores: Stores) -> None:
    dataset = {
        "name": DATASET,
        "digest": "f" * 64,
        "format": "folder",
        "split": [0.6, 0.2, 0.2],
        "training": counted(18, 18),
        "validation": counted(6, 6),
        "test": counted(6, 6),
        "subjects": 60,
        "dropped": [{"image_id": "0" * 32, "reason": "CONSTANT", "detail": "one colour", "row": 7}],
        "near_duplicates": [{"image_id": f"{4:032x}", "other_image_id": f"{9:032x}", "correlation": 0.9991}],
        "provenance": PROVENANCE,
    }
    stores("assembly").put_new_json(f"{DATASET}/dataset.json", dataset)
    for version, synthetic in ((VIEW, 0), (MADE, 30)):
        record = {"name": version, "real": counted(12, 18), "validation": counted(6, 6)}
        record |= {"synthetic": counted(0, synthetic), "shortfall": counted(0, 6 if synthetic else 0)}
        stores("assembly").put_new_json(f"{version}/version.json", record)
    generator = {"name": f"generators/{'4' * 32}", "spec": {"kind": "KIND_CLASS_CONDITIONAL"}, "image_size": 8}
    stores("finetune").put_new_json(f"{generator['name']}/generator.json", {**generator, "provenance": PROVENANCE})
    stores("train").put_new_json(f"classifiers/{'5' * 32}/classifier.json", {"name": "l", "provenance": PROVENANCE})


class Oracle:
    def __init__(self, skill: float, seed: int) -> None:
        self._skill, self._seed = skill, seed

    def predict_rows(self, store: Store, rows: Sequence[Row]) -> np.ndarray:
        rng = np.random.default_rng(self._seed)
        truth = np.array([CLASSES.index(row.class_name) for row in rows])
        labels = np.where(rng.random(len(rows)) < self._skill, truth, 1 - truth)
        return np.full((len(rows), 2), 0.2, np.float32) + 0.6 * np.eye(2, dtype=np.float32)[labels]


def put_evaluation(stores: Stores, scenarios: Sequence[dict[str, Any]]) -> str:
    entries = []
    for index, scenario in enumerate(scenarios):
        version = (VIEW, MADE)[index]
        names = [f"classifiers/{index}{seed}{'6' * 30}" for seed in (0, 1)]
        for seed, name in enumerate(names):
            record = {"name": name, "role": "ROLE_EVALUATOR", "dataset_version": version, "seed": seed}
            record |= {"spec": {}, "classes": CLASSES}
            stores("train").put_new_json(f"{name}/classifier.json", record)
        part = {"fold": 0, "dataset_version": version, "classifiers": names}
        counted = {"training_images": 30 + 30 * index, "made_images": 30 * index, "missing_images": 6 * index}
        entries.append({"scenario": scenario, **counted, "parts": [part]})
    inputs = {"dataset": DATASET, "classes": CLASSES, "multi_disease": "KEEP", "reference": scenarios[0]["name"]}
    inputs |= {"scenarios": entries, "resamples": 100, "seed": 0, "spec": {"name": "study"}}
    return evaluate(
        inputs,
        stores("evaluate"),
        lambda done, total, unit: None,
        device="cpu",
        load=lambda store, name, *, device, classes: Oracle(0.6 + 0.3 * int(name[12]), int(name[13])),
    )


def spec_of(scenarios: list[dict[str, Any]]) -> dict[str, Any]:
    network = {"backbone": "BACKBONE_SMALL_CNN", "image_size": 8}
    return {
        "name": "study",
        "dataset": "d",
        "import": {"format": "folder", "images": "/home/somebody/patients", "csv": "/home/somebody/names.csv"},
        "classes": CLASSES,
        "generation": {"steps": 20, "guidance_scale": 1.5, "seed": 0, "rounds": 4, "draw_limit": 8},
        "labeling": {"mode": "MODE_AGREE", "classifier": network, "updates": 600, "seed": 1000},
        "scenarios": scenarios,
        "evaluation": {
            "classifier": network,
            "updates": 600,
            "seeds": 2,
            "first_seed": 0,
            "batch_size": 64,
            "resamples": 100,
        },
    }


SCENARIOS: list[dict[str, Any]] = [
    {"name": "real", "synthetic": 0, "transformed": 0, "sampling": "SAMPLING_NATURAL"},
    {"name": "synthetic-x2", "synthetic": 2.0, "transformed": 0, "sampling": "SAMPLING_NATURAL"},
]


@pytest.fixture
def inputs(stores: Stores) -> dict[str, Any]:
    """A finished run with everything a report can show."""
    rows = put_rows(stores)
    put_records(stores)
    steps = [{"name": "train", "seconds": 12.5, "reused": 3}, {"name": "report", "seconds": 0.0}]
    return {
        "run": {"name": RUN, "spec": spec_of(SCENARIOS), "steps": steps, "create_time": "2026-01-01T00:00:00Z"},
        "dataset": DATASET,
        "view": VIEW,
        "generators": [f"generators/{'4' * 32}"],
        "labeler": f"classifiers/{'5' * 32}",
        "labels": [put_labels(stores)],
        "transformed_batches": [],
        "selection": put_selection(stores, rows),
        "versions": {"real": VIEW, "synthetic-x2": MADE},
        "evaluation": put_evaluation(stores, SCENARIOS),
    }


def written(stores: Stores, inputs: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    seen: list[tuple[int, int]] = []
    name = write_report(inputs, stores("report"), lambda done, total, unit: seen.append((done, total)), device="cpu")
    assert name == RUN
    assert seen[-1][0] == seen[-1][1]
    return stores("report").get(f"{RUN}/report.html").decode(), stores("report").get_json(f"{RUN}/report.json")


def test_a_second_labeler_says_how_far_labels_are_the_first_ones_own(stores: Stores, inputs: dict[str, Any]) -> None:
    page, facts = written(stores, inputs)
    assert "second labeler" not in page
    assert facts["agreement"] == {}
    inputs["second_labels"] = [put_second_labels(stores, inputs["labels"][0])]
    inputs["run"]["spec"]["labeling"]["second_seed"] = 2000
    page, facts = written(stores, inputs)
    (row,) = facts["agreement"]["classes"]
    facts["agreement"]["classes"] = [row | {"both": row["accepted"]}]
    assert agreement_said(facts).endswith("would have accepted every one as the same class.")
    facts["agreement"]["classes"] = [row | {"accepted": 0}]
    assert agreement_said(facts).endswith("The labeler accepted none.")
    assert (row["class"], row["accepted"], row["both"]) == (EVIL, row["accepted"], row["accepted"] - 1)
    text = " ".join(Page(page).text.split())
    assert "trained alike but from seed 2000" in text
    assert f"the second would have accepted {row['both']} as the same class" in text


class Page(HTMLParser):
    """Collects the tags of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_opens_offline_and_runs_nothing(stores: Stores, inputs: dict[str, Any]) -> None:
    page = Page(written(stores, inputs)[0])
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for key in ("src", "href"):
            assert (attributes.get(key) or "data:").startswith(("data:", "#"))
    assert "url(" not in written(stores, inputs)[0]


def test_names_from_outside_are_escaped(stores: Stores, inputs: dict[str, Any]) -> None:
    page, _ = written(stores, inputs)
    assert EVIL not in page
    assert "&lt;script&gt;" in page


def test_every_image_says_what_it_is_and_every_figure_its_numbers(stores: Stores, inputs: dict[str, Any]) -> None:
    page = Page(written(stores, inputs)[0])
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    # Of class a eight real ones; of the other eight real and six generated; four rejected.
    assert len(images) == 8 + 8 + 6 + 4
    assert all(attributes["alt"] for attributes in images)
    figures = [attributes for tag, attributes in page.tags if tag == "svg"]
    said = [attributes for attributes in figures if attributes.get("aria-hidden") != "true"]
    # Two forests, two maps, a ROC curve per class, and the reliability of both scenarios.
    assert len(said) == 2 + 2 + 2 + 2
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in said)


def test_nothing_of_the_seal_no_subject_and_no_path_is_shown(stores: Stores, inputs: dict[str, Any]) -> None:
    page, facts = written(stores, inputs)
    shown = {
        source: [thumbnail(decode(stores("assembly").get(f"{source}images/00/{i}"))) for i in rows]
        for source, rows in (("", (0, 1)), ("sealed/", range(4, 60, 5)))
    }
    assert all(picture in page for picture in shown[""])
    assert not [picture for picture in shown["sealed/"] if picture in page]
    for text in (page, str(facts)):
        assert "subject-" not in text
        assert "somebody" not in text
        assert "sealed/" not in text
        # Ids of sealed images: every fifth of the rows.
        assert not [i for i in range(4, 60, 5) if f"{i:032x}" in text]


def test_the_verdict_stands_first_and_in_full(stores: Stores, inputs: dict[str, Any]) -> None:
    page, facts = written(stores, inputs)
    sentence = stores("report").get_json(f"{inputs['evaluation']}/evaluation.json")["verdict"]["sentence"]
    text = re.sub(r"\s+", " ", Page(page.partition("<main>")[0]).text)
    assert sentence in text
    assert facts["verdict"]["sentence"] == sentence


def test_numbers_of_the_page_are_in_the_json(stores: Stores, inputs: dict[str, Any]) -> None:
    page, facts = written(stores, inputs)
    assert facts["evaluation"] == stores("report").get_json(f"{inputs['evaluation']}/evaluation.json")
    assert facts["acceptance"] == [
        {"class": EVIL, "drawn": 10, "accepted": 6, "disagrees": 2, "unsure": 1, "degenerate": 1}
    ]
    assert facts["disagreement"] == [[0, 0], [2, 7]]
    assert facts["shortfalls"] == [{"scenario": "synthetic-x2", "class": EVIL, "missing": 6}]
    assert [row["kept"] for row in facts["counts"]] == [12, 18]
    assert [row["made"] for row in facts["counts"]] == [{"synthetic-x2": 0}, {"synthetic-x2": 30}]
    assert facts["dropped"] == [{"reason": "CONSTANT", "count": 1, "rows": [7], "details": ["one colour"]}]
    text = " ".join(Page(page).text.split())
    assert "2 × generated, 30 of 36 could be had" in text
    assert "synthetic-x2–6 of 36" in text
    assert "within 4 rounds and 8 draws for each image needed" in text


def test_the_run_file_can_be_read_back(stores: Stores, inputs: dict[str, Any]) -> None:
    page = Page(written(stores, inputs)[0])
    text = page.text[page.text.index("name: study") : page.text.index("Made by genaug")]
    assert yaml.safe_load(text)["scenarios"] == SCENARIOS


def test_a_run_without_generator_labels_or_selection_has_a_report(stores: Stores, inputs: dict[str, Any]) -> None:
    scenarios = SCENARIOS[:1]
    run = {**inputs["run"], "spec": spec_of(scenarios)}
    bare = {"generators": [], "labeler": "", "labels": [], "selection": "", "versions": {"real": VIEW}}
    page, facts = written(stores, {**inputs, "run": run, **bare, "evaluation": put_evaluation(stores, scenarios)})
    assert facts["verdict"]["outcome"] == "OUTCOME_UNSPECIFIED"
    assert "Nothing to say" in page
    assert "generator was trained once" not in page


def test_a_later_report_replaces_the_first(stores: Stores, inputs: dict[str, Any]) -> None:
    written(stores, inputs)
    renamed = {**inputs["run"], "spec": {**inputs["run"]["spec"], "name": "renamed"}}
    assert "<h1>renamed</h1>" in written(stores, {**inputs, "run": renamed})[0]


def test_ticks_are_round_and_inside() -> None:
    assert ticks(-3.2, 12.1) == [0.0, 5.0, 10.0]
    assert all(76.3 <= value <= 98.1 for value in ticks(76.3, 98.1))


def test_forest_places_values_in_their_order() -> None:
    lines = [Line("<a>", 1.0, -1.0, 2.0, "one", "real"), Line("b", 3.0, 2.0, 4.0, "three", "synthetic", (2.5,))]
    drawn = str(forest(lines, title="t", mark=0.0))
    places = [float(x) for x in re.findall(r'class="value" cx="([\d.]+)%"', drawn)]
    assert 0 < places[0] < places[1] < 100
    assert "<a>" not in drawn


def test_large_images_become_small_ones() -> None:
    large = np.random.default_rng(0).integers(0, 255, (600, 800, 3), np.uint8)
    assert thumbnail(large).startswith("data:image/jpeg;base64,")
    assert len(thumbnail(large)) < 40_000


def test_headline_is_the_claim_before_the_colon() -> None:
    assert headline("Generated images help: by 3 points: yes.") == ("Generated images help:", "by 3 points: yes.")


def put_match(stores: Stores, *, copies: int) -> str:
    """Six accepted images, the n-th nearest to training image 5n, at growing distances."""
    name = f"matches/{'7' * 32}"
    columns = {
        "made_id": [f"{i:032x}" for i in range(6)],
        "class": [EVIL] * 6,
        "image_id": [f"{5 * i:032x}" for i in range(5)] + [f"{0:032x}"],
        "distance": pa.array([0.01 * (i + 1) for i in range(6)], pa.float32()),
        "copy": [i < copies for i in range(6)],
    }
    stores("selection").put_new(f"{name}/nearest_real.parquet", encode(pa.table(columns)))
    closeness = {"class_name": EVIL, "made": 6, "made_median": 0.03, "real_median": 0.2, "copy_distance": 0.015}
    record = {"name": name, "nearest_real": f"{name}/nearest_real.parquet"}
    stores("selection").put_new_json(
        f"{name}/match.json", {**record, "closenesses": [{**closeness, "suspected_copies": copies}]}
    )
    return name


@pytest.mark.parametrize("copies", [0, 1, 2])
def test_nearest_pairs_stand_side_by_side(stores: Stores, inputs: dict[str, Any], copies: int) -> None:
    html, facts = written(stores, {**inputs, "match": put_match(stores, copies=copies)})
    page = Page(html)
    assert facts["match"]["closenesses"][0]["made"] == 6
    said = {0: "None of 6 accepted images", 1: "1 of 6 accepted images", 2: "2 of 6 accepted images"}[copies]
    assert said in page.text
    assert page.text.count("suspected copy") >= copies
    assert html.count("Training image of class") == 5, "each training image once"
    assert "has not been measured here" not in page.text


@pytest.mark.parametrize(("keep", "left_out"), [(None, 0), (True, 0), (False, 2)])
def test_what_became_of_suspected_copies_is_said(
    stores: Stores, inputs: dict[str, Any], keep: bool | None, left_out: int
) -> None:
    """A run that was begun before copies could be left out does not say, and kept them."""
    if keep is not None:
        inputs["run"]["spec"]["generation"]["keep_copies"] = keep
    html, facts = written(stores, {**inputs, "match": put_match(stores, copies=2)})
    assert facts["copies"] == {"kept": keep is not False, "suspected": 2, "left_out": left_out}
    text = " ".join(Page(html).text.split())
    assert ("They are in no training set; others were drawn in their place" in text) == bool(left_out)
    assert ("none was taken out" in text) == (not left_out)
    assert ("accepted no more that were no suspected copies within" in text) == bool(left_out)
    assert ("suspected copies left out" in text) == bool(left_out)


def test_draws_that_were_no_images_are_counted(stores: Stores, inputs: dict[str, Any]) -> None:
    page, facts = written(stores, inputs)
    assert facts["rejected"] == []
    assert "never labelled" not in page
    black = {"class_name": EVIL, "reason": "REASON_BLACK", "count": 3}
    inputs["rejected"] = [black, {**black, "class_name": "a", "count": 1}, {**black, "reason": "REASON_DUPLICATE"}]
    page, facts = written(stores, inputs)
    assert facts["rejected"][0] == {"class": EVIL, "reason": "REASON_BLACK", "count": 3}
    said = "7 draws were no images and never labelled: 4 nearly black, 3 the same as one before."
    assert said in " ".join(Page(page).text.split())
    bare = {**inputs, "labels": []}
    assert said in " ".join(Page(written(stores, bare)[0]).text.split()), "where nothing else was drawn either"


def put_stable_diffusion(stores: Stores, digit: str, prompts: str, **facts: Any) -> str:
    name = f"generators/{digit * 32}"
    spec = {"kind": "KIND_STABLE_DIFFUSION", "base": "/home/somebody/sd15#sha256=ab", "prompts": prompts}
    spec |= {"train_steps": 800, "batch_size": 4, "learning_rate": 0.0001, "memorised": 0.25, "lora": {"rank": 16}}
    record = {"name": name, "spec": spec, "classes": CLASSES, "image_size": 8, "losses": [0.5, 0.25], **facts}
    record |= {"base": "bases/0123abcd", "prompts": f"{prompts}@1", "captions": {EVIL: f"{prompts} {EVIL}"}}
    stores("finetune").put_new_json(f"{name}/generator.json", {**record, "provenance": PROVENANCE})
    return name


def test_a_base_its_captions_and_why_training_stopped_are_shown(stores: Stores, inputs: dict[str, Any]) -> None:
    near = {"update": 200, "median": 0.3, "natural_median": 0.5, "remembered": 0.1}
    name = put_stable_diffusion(
        stores, "8", "generic", stopped_at=400, closenesses=[near, {**near, "update": 400, "remembered": 0.5}]
    )
    inputs["run"]["spec"]["generator"] = {"base": "/home/somebody/sd15"}
    html, facts = written(stores, {**inputs, "generators": [name]})
    text = " ".join(Page(html).text.split())
    assert "Stopped at update 400 of 800 because 50 % of the images of its sample grid were remembered" in text
    assert "2000.30000.500010" in text, "a row for each grid"
    assert "an adapter of rank 16" in text
    assert "sd15#sha256=ab, bases/0123abcd" in text
    assert f"generic@1 ({EVIL}: “generic {EVIL}”)" in text
    assert "somebody" not in html + str(facts)
    assert facts["spec"]["generator"]["base"] == "sd15"
    assert facts["generators"][0]["closenesses"][1]["remembered"] == 0.5
    assert "0.2500" in html
    assert EVIL not in html


def test_losses_of_a_training_that_stopped_early_lie_where_they_were_measured() -> None:
    """The intervals are those of the whole course, of which the first are there."""
    generator = {"spec": {"train_steps": 800}, "losses": [0.5, 0.25], "stopped_at": 100}

    def ends(found: dict[str, Any] | None) -> list[float]:
        assert found is not None
        return [float(x) for x in re.findall(r"[ML]([\d.]+) ", re.findall(r' d="([^"]+)"', str(found["plot"]))[0])]

    stopped, whole = ends(loss_chart(generator)), ends(loss_chart({**generator, "stopped_at": 0}))
    assert stopped[1] - stopped[0] == pytest.approx((whole[1] - whole[0]) / 10, abs=0.2)


def test_where_each_class_learns_alone_the_one_that_stopped_is_meant() -> None:
    near = {"update": 40, "remembered": 0.1}
    generator = {"spec": {"train_steps": 800}, "stopped_at": 40, "closenesses": [near, {**near, "remembered": 0.9}]}
    assert stopped_said(generator).startswith("Stopped at update 40 of 800 because 90 %")
    generator["spec"]["dreambooth"] = {"per_class": True}
    assert stopped_said(generator).startswith("A class’s own training stopped at update 40")
    assert stopped_said({**generator, "stopped_at": 0}) == ""


def test_two_sets_of_captions_stand_side_by_side(stores: Stores, inputs: dict[str, Any]) -> None:
    page, facts = written(stores, inputs)
    assert facts["captions"] == {}
    assert 'id="captions"' not in page
    mine, other = (put_stable_diffusion(stores, d, p) for d, p in (("8", "disease-specific"), ("c", "generic")))
    rows = read_rows(stores("report"), f"{inputs['labels'][0]}/manifest.parquet")
    rows = [replace(row, index=index) for index, row in enumerate(rows)]
    first, second = f"labels/{'b' * 32}", f"labels/{'d' * 32}"
    write_rows(stores("labeling"), f"{first}/manifest.parquet", rows)
    # The other captions: four of six are rejected, one was no image.
    theirs = [*(replace(row, label=CLASSES[0], label_verdict="disagrees") for row in rows[:4]), *rows[4:-1]]
    write_rows(stores("labeling"), f"{second}/manifest.parquet", theirs)
    match = put_match(stores, copies=0)
    compared = {"generator": other, "labels": [second], "match": match, "counts": {EVIL: 10}}
    html, facts = written(
        stores, {**inputs, "generators": [mine], "labels": [first], "match": match, "compared": compared}
    )
    found = facts["captions"]
    assert [one["name"] for one in found["generators"]] == [mine, other]
    (row,) = found["classes"]
    assert [(one["drawn"], one["no_image"], one["accepted"]) for one in row["sets"]] == [(10, 0, 6), (10, 1, 2)]
    assert [one["distance"] for one in row["sets"]] == pytest.approx([0.035, 0.055])
    assert (row["natural"], found["all"]["difference"]["value"]) == (0.2, pytest.approx(0.4))
    text = " ".join(Page(html).text.split())
    # Four won and none lost are no evidence.
    assert "There is no evidence that the labeler takes more images for their class with disease-specific@1" in text
    assert "generator for comparison" in text
    assert "With the captions generic@1" in text
    assert facts["acceptance"][0]["drawn"] == 10, "the second set is counted nowhere else"
    assert other in str(facts["provenance"])
    facts["captions"]["all"]["difference"] |= {"lower": 0.1}
    assert "with the captions disease-specific@1 than with generic@1" in captions_said(facts["captions"])
    facts["captions"]["all"]["difference"] |= {"lower": -0.1, "upper": -0.05}
    assert "with the captions generic@1 than with disease-specific@1" in captions_said(facts["captions"])


def test_how_the_generator_learned_is_shown(stores: Stores, inputs: dict[str, Any]) -> None:
    name = f"generators/{'8' * 32}"
    grid = {"update": 100, "object": f"{name}/grids/100.png"}
    stores("finetune").put_new(grid["object"], encode_png(np.zeros((16, 32, 1), np.uint8)))
    spec = {"kind": "KIND_CLASS_CONDITIONAL", "train_steps": 100, "batch_size": 8, "learning_rate": 0.002}
    record = {"name": name, "spec": {**spec, "prediction": "PREDICTION_IMAGE"}, "classes": CLASSES, "image_size": 8}
    record |= {"losses": [0.5, 0.25], "held_out_losses": [0.6, 0.3], "sample_grids": [grid]}
    record |= {"held_out": counted(1, 2), "provenance": PROVENANCE}
    stores("finetune").put_new_json(f"{name}/generator.json", record)
    html, facts = written(stores, {**inputs, "generators": [name]})
    text = Page(html).text
    assert facts["generators"][0]["held_out_losses"] == [0.6, 0.3]
    assert "training from 0.5000 to 0.2500; held out from 0.6000 to 0.3000" in html
    assert "3 images of subjects that were held out" in text
    assert "Predicts the image" in text
    assert "Images drawn after 100 updates" in html


def test_further_evaluators_stand_by_themselves(stores: Stores, inputs: dict[str, Any]) -> None:
    further = stores("report").get_json(f"{inputs['evaluation']}/evaluation.json")
    name = f"evaluations/{'9' * 32}"
    network = {"backbone": "BACKBONE_VGG19", "image_size": 224, "tuning": "TUNING_FINE_TUNED", "head": "HEAD_PUBLISHED"}
    further |= {"name": name, "spec": {"evaluation": {"classifier": {**network, "detail": 64}}}}
    further["verdict"] = {"outcome": "OUTCOME_NO_EVIDENCE", "sentence": "No evidence: of its own."}
    further["reference_probe"] = {"macro_recall": {"value": 0.99, "lower": 0.98, "upper": 1.0}}
    stores("evaluate").put_new_json(f"{name}/evaluation.json", further)
    html, facts = written(stores, {**inputs, "further_evaluations": [name]})
    text = Page(html).text
    assert "vgg19 at 224 pixels, every layer learning, the published head, every image first brought to 64" in text
    assert "No evidence: of its own." in text
    assert "real lies below the probe’s interval" in text
    assert facts["verdict"]["sentence"] != "No evidence: of its own.", "the first evaluator gives the verdict"
    assert len(facts["further_evaluations"]) == 1


@pytest.mark.parametrize("folds", [1, 5])
def test_folds_are_not_called_a_seal(stores: Stores, inputs: dict[str, Any], folds: int) -> None:
    spec = inputs["run"]["spec"]
    run = {**inputs["run"], "spec": {**spec, "evaluation": {**spec["evaluation"], "folds": folds}}}
    text = Page(written(stores, {**inputs, "run": run})[0]).text
    assert ("What the held-out images say" in text) == (folds > 1)
    assert ("the seal stayed shut" in text) == (folds > 1)


@pytest.mark.parametrize(("mean", "said"), [(0.5, "below"), (0.7, "within"), (0.9, "above")])
def test_the_reference_probe_is_told_either_way(mean: float, said: str) -> None:
    score, probe = ({"macro_recall": {"value": v, "lower": v - 0.1, "upper": v + 0.1}} for v in (mean, 0.7))
    sentence = probe_said("real", score, probe)
    assert f"real lies {said} the probe’s interval" in sentence
    assert ("worth less" in sentence) == (said == "below")


@pytest.mark.parametrize("outcome", ["OUTCOME_HELPS", "OUTCOME_HURTS", "OUTCOME_NO_EVIDENCE"])
def test_the_random_control_is_told_as_it_was_trained(outcome: str) -> None:
    comparison = {"scenario": "real-random", "reference": "real", "outcome": outcome}
    comparison["difference"] = {"value": 0.01, "lower": -0.02, "upper": 0.04}
    facts = {
        "scenarios": [{"name": "real-random", "reduction": "REDUCTION_RANDOM"}],
        "evaluation": {"comparisons": [comparison]},
    }
    words = {"OUTCOME_HELPS": "did better", "OUTCOME_HURTS": "did worse", "OUTCOME_NO_EVIDENCE": "no evidence"}
    assert words[outcome] in control_said(facts)
    assert "No scenario was trained" in control_said({**facts, "scenarios": []})


def test_the_dose_curve_names_its_best_dose() -> None:
    recalls = [{"value": v, "lower": v - 0.05, "upper": v + 0.05} for v in (0.7, 0.72, 0.75)]
    curve = {"doses": [0.0, 1.0, 2.0], "macro_recalls": recalls, "best_dose": 2.0, "sentence": "No dose."}
    drawn = str(dose_chart({"saturation": curve}))
    assert drawn.count("<circle") == 3
    assert drawn.count('class="point best"') == 1
    assert drawn.rindex("<circle") == drawn.index('<circle class="point best"'), "the last"
    assert dose_chart({}) is None
