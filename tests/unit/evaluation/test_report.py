from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from genaug.evaluation.agreement import Agreement, ClassAgreement
from genaug.evaluation.captions import CaptionResults, CaptionSet
from genaug.evaluation.measure import evaluate
from genaug.evaluation.report.charts import dose_chart, loss_chart
from genaug.evaluation.report.figures import Line, forest, ticks
from genaug.evaluation.report.filters import headline
from genaug.evaluation.report.generator_text import caption_text, early_stop_text
from genaug.evaluation.report.pictures import thumbnail
from genaug.evaluation.report.report_data import CaptionComparison, ReportData, ScenarioData
from genaug.evaluation.report.report_text import agreement_text, control_text, probe_text
from genaug.evaluation.report.write import write_report
from genaug.schema.classifiers import Classifier, ClassifierSpec, Head, Role, Tuning
from genaug.schema.common import ClassCount, Provenance
from genaug.schema.datasets import Dataset, DatasetVersion, DroppedImage, MultiDisease, NearDuplicate
from genaug.schema.evaluation import (
    METRICS,
    Comparison,
    Estimate,
    Evaluation,
    EvaluationSettings,
    EvaluationSpec,
    Outcome,
    Saturation,
    ScenarioScore,
    Verdict,
)
from genaug.schema.generators import (
    GENERATORS,
    ClassConditionalSpec,
    DreamBoothSpec,
    Generator,
    GeneratorKind,
    GeneratorSpec,
    GridMemorization,
    LoraSpec,
    PluginSpec,
    Prediction,
    Rejection,
    RejectionReason,
    SampleGrid,
    StableDiffusionSpec,
)
from genaug.schema.jobs import ComparedCaptions, EvaluateInputs, ReportInputs, ScoredPart, ScoredScenario
from genaug.schema.model import Model, read
from genaug.schema.run import GenerationSpec, LabelingSpec, Reduction, Run, RunSpec, Scenario, Step
from genaug.schema.selection import Match, MatchCloseness, Selection, SelectionQuality
from genaug.shared.manifest import Row, encode, read_rows, write_rows
from genaug.shared.store import Store
from genaug.vision.images.pixels import decode, encode_png

Stores = Callable[[str], Store]

# A class that would break out of the page if it were not escaped.
EVIL = "<script>alert(1)</script>"
CLASSES = ("a", EVIL)
DATASET = "datasets/d"
VIEW = f"{DATASET}/versions/real"
MADE = f"{DATASET}/versions/{'1' * 32}"
RUN = "runs/study-0a1b2c3d"
PROVENANCE = Provenance(recipe="x/1", version="0", libraries={"torch": "2.0"}, seconds=1.5)


def counted(*counts: int) -> tuple[ClassCount, ...]:
    return tuple(ClassCount(class_name=name, count=count) for name, count in zip(CLASSES, counts, strict=True))


def put(store: Store, key: str, record: Model) -> None:
    store.put_new_json(key, record.json_value())


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
    quality = SelectionQuality(class_name="a", available=18, kept=12, mmd2=0.001, random_mmd2=0.002, coverage=0.9)
    record = Selection(name=name, manifest=f"{name}/manifest.parquet", qualities=(quality,), provenance=PROVENANCE)
    stores("selection").put_new(record.manifest, encode(pa.table(columns)))
    put(stores("selection"), f"{name}/selection.json", record)
    return name


def put_records(stores: Stores) -> None:
    dataset = Dataset(
        name=DATASET,
        digest="f" * 64,
        format="folder",
        seed=42,
        split=(0.6, 0.2, 0.2),
        folds=5,
        training=counted(18, 18),
        validation=counted(6, 6),
        test=counted(6, 6),
        subjects=60,
        dropped=(DroppedImage(image_id="0" * 32, reason="CONSTANT", detail="one colour", row=7),),
        near_duplicates=(NearDuplicate(image_id=f"{4:032x}", other_image_id=f"{9:032x}", correlation=0.9991),),
        provenance=PROVENANCE,
    )
    put(stores("assembly"), f"{DATASET}/dataset.json", dataset)
    for version, synthetic in ((VIEW, 0), (MADE, 30)):
        record = DatasetVersion(
            name=version,
            real=counted(12, 18),
            validation=counted(6, 6),
            synthetic=counted(0, synthetic),
            shortfall=counted(0, 6 if synthetic else 0),
        )
        put(stores("assembly"), f"{version}/version.json", record)
    generator = Generator(name=f"generators/{'4' * 32}", image_size=8, provenance=PROVENANCE)
    put(stores("finetune"), f"{generator.name}/generator.json", generator)
    put(stores("train"), f"classifiers/{'5' * 32}/classifier.json", Classifier(name="l", provenance=PROVENANCE))


class Oracle:
    def __init__(self, skill: float, seed: int) -> None:
        self._skill, self._seed = skill, seed

    def predict_rows(self, store: Store, rows: Sequence[Row]) -> np.ndarray:
        rng = np.random.default_rng(self._seed)
        truth = np.array([CLASSES.index(row.class_name) for row in rows])
        labels = np.where(rng.random(len(rows)) < self._skill, truth, 1 - truth)
        return np.full((len(rows), 2), 0.2, np.float32) + 0.6 * np.eye(2, dtype=np.float32)[labels]


def put_evaluation(stores: Stores, scenarios: Sequence[Scenario], **fields: Any) -> str:
    scored = []
    for index, scenario in enumerate(scenarios):
        version = (VIEW, MADE)[index]
        names = tuple(f"classifiers/{index}{seed}{'6' * 30}" for seed in (0, 1))
        for seed, name in enumerate(names):
            record = Classifier(name=name, role=Role.EVALUATOR, dataset_version=version, seed=seed, classes=CLASSES)
            stores("train").put_json(f"{name}/classifier.json", record.json_value())
        scored.append(
            ScoredScenario(
                scenario=scenario,
                training_images=30 + 30 * index,
                made_images=30 * index,
                missing_images=6 * index,
                parts=(ScoredPart(fold=0, dataset_version=version, classifiers=names),),
            )
        )
    inputs = EvaluateInputs(
        dataset=DATASET,
        dataset_digest="f" * 64,
        classes=CLASSES,
        multi_disease=MultiDisease.KEEP,
        reference=scenarios[0].name,
        scenarios=tuple(scored),
        resamples=100,
        seed=0,
        spec=EvaluationSpec(name="study"),
    )
    return evaluate(
        inputs.replace(**fields),
        stores("evaluate"),
        lambda done, total, unit, note="": None,
        device="cpu",
        load=lambda store, name, *, device, classes: Oracle(0.6 + 0.3 * int(name[12]), int(name[13])),
    )


SCENARIOS = (Scenario(name="real"), Scenario(name="synthetic-x2", synthetic=2.0))
NETWORK = ClassifierSpec(backbone="SMALL_CNN", image_size=8)
SPEC = RunSpec(
    name="study",
    dataset="d",
    classes=CLASSES,
    generation=GenerationSpec(steps=20, guidance_scale=1.5, seed=0, rounds=4, draw_limit=8, keep_copies=True),
    labeling=LabelingSpec(classifier=NETWORK),
    scenarios=SCENARIOS,
    evaluation=EvaluationSettings(classifier=NETWORK, seeds=2, resamples=200),
)


@pytest.fixture
def inputs(stores: Stores) -> ReportInputs:
    """A finished run with everything a report can show."""
    rows = put_rows(stores)
    put_records(stores)
    steps = (Step(name="train", seconds=12.5, reused=3), Step(name="report"))
    return ReportInputs(
        run=Run(name=RUN, spec=SPEC, steps=steps, create_time="2026-01-01T00:00:00Z"),
        dataset=DATASET,
        view=VIEW,
        generators=(f"generators/{'4' * 32}",),
        labeler=f"classifiers/{'5' * 32}",
        labels=(put_labels(stores),),
        selection=put_selection(stores, rows),
        versions={"real": VIEW, "synthetic-x2": MADE},
        evaluation=put_evaluation(stores, SCENARIOS),
    )


def with_spec(inputs: ReportInputs, **fields: Any) -> ReportInputs:
    """The inputs with fields of the run's specification changed."""
    spec = inputs.run.spec.model_copy(update=fields)
    return inputs.model_copy(update={"run": inputs.run.model_copy(update={"spec": spec})})


def written(stores: Stores, inputs: ReportInputs, **fields: Any) -> tuple[str, dict[str, Any]]:
    """The page and report.json, with fields of the inputs changed."""
    seen: list[tuple[int, int]] = []
    name = write_report(
        inputs.model_copy(update=fields),
        stores("report"),
        lambda done, total, unit, note="": seen.append((done, total)),
        device="cpu",
    )
    assert name == RUN
    assert seen[-1][0] == seen[-1][1]
    return stores("report").get(f"{RUN}/report.html").decode(), stores("report").get_json(f"{RUN}/report.json")


def test_a_second_labeler_says_how_far_labels_are_the_first_ones_own(stores: Stores, inputs: ReportInputs) -> None:
    page, facts = written(stores, inputs)
    assert "second labeler" not in page
    assert facts["agreement"] == {}
    page, facts = written(stores, inputs, second_labels=(put_second_labels(stores, inputs.labels[0]),))
    (row,) = facts["agreement"]["classes"]
    assert (row["class"], row["accepted"], row["both"]) == (EVIL, 6, 5)
    text = " ".join(Page(page).text.split())
    assert "trained alike but from seed 2000" in text
    assert f"the second would have accepted {row['both']} as the same class" in text


@pytest.mark.parametrize(
    ("accepted", "both", "end"),
    [(6, 6, "would have accepted every one as the same class."), (0, 0, "The labeler accepted none.")],
)
def test_agreement_is_worded_by_the_accepted_images(accepted: int, both: int, end: str) -> None:
    same = Estimate(value=0.9, lower=0.8, upper=1.0)
    row = ClassAgreement(class_name="a", images=10, same=same, accepted=accepted, both=both)
    data = ReportData.model_construct(spec=SPEC, agreement=Agreement(images=10, same=same, kappa=None, classes=(row,)))
    assert agreement_text(data).endswith(end)


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


def test_the_page_opens_offline_and_runs_nothing(stores: Stores, inputs: ReportInputs) -> None:
    page = Page(written(stores, inputs)[0])
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for key in ("src", "href"):
            assert (attributes.get(key) or "data:").startswith(("data:", "#"))
    assert "url(" not in written(stores, inputs)[0]


def test_names_from_outside_are_escaped(stores: Stores, inputs: ReportInputs) -> None:
    page, _ = written(stores, inputs)
    assert EVIL not in page
    assert "&lt;script&gt;" in page


def test_every_image_says_what_it_is_and_every_figure_its_numbers(stores: Stores, inputs: ReportInputs) -> None:
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


def test_nothing_of_the_seal_no_subject_and_no_path_is_shown(stores: Stores, inputs: ReportInputs) -> None:
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


def test_the_verdict_stands_first_and_in_full(stores: Stores, inputs: ReportInputs) -> None:
    page, facts = written(stores, inputs)
    sentence = stores("report").get_json(f"{inputs.evaluation}/evaluation.json")["verdict"]["sentence"]
    text = re.sub(r"\s+", " ", Page(page.partition("<main>")[0]).text)
    assert sentence in text
    assert facts["verdict"]["sentence"] == sentence


def test_numbers_of_the_page_are_in_the_json(stores: Stores, inputs: ReportInputs) -> None:
    page, facts = written(stores, inputs)
    assert facts["evaluation"] == stores("report").get_json(f"{inputs.evaluation}/evaluation.json")
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


def test_the_run_file_can_be_read_back(stores: Stores, inputs: ReportInputs) -> None:
    page = Page(written(stores, inputs)[0])
    text = page.text[page.text.index("name: study") : page.text.index("Made by genaug")]
    assert yaml.safe_load(text)["scenarios"] == [scenario.json_value() for scenario in SCENARIOS]


def test_a_run_without_generator_labels_or_selection_has_a_report(stores: Stores, inputs: ReportInputs) -> None:
    scenarios = SCENARIOS[:1]
    bare = {"generators": (), "labeler": "", "labels": (), "selection": "", "versions": {"real": VIEW}}
    evaluation = put_evaluation(stores, scenarios)
    page, facts = written(stores, with_spec(inputs, scenarios=scenarios), **bare, evaluation=evaluation)
    assert (facts["labeler"], facts["selection"], facts["match"], facts["captions"]) == ({}, {}, {}, {})
    assert facts["verdict"]["outcome"] == "OUTCOME_UNSPECIFIED"
    assert "Nothing to say" in page
    assert "generator was trained once" not in page


def test_a_later_report_replaces_the_first(stores: Stores, inputs: ReportInputs) -> None:
    written(stores, inputs)
    assert "<h1>renamed</h1>" in written(stores, with_spec(inputs, name="renamed"))[0]


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
    closeness = MatchCloseness(
        class_name=EVIL, made=6, made_median=0.03, real_median=0.2, copy_distance=0.015, suspected_copies=copies
    )
    record = Match(name=name, nearest_real=f"{name}/nearest_real.parquet", closenesses=(closeness,))
    put(stores("selection"), f"{name}/match.json", record)
    return name


@pytest.mark.parametrize("copies", [0, 1, 2])
def test_nearest_pairs_stand_side_by_side(stores: Stores, inputs: ReportInputs, copies: int) -> None:
    html, facts = written(stores, inputs, match=put_match(stores, copies=copies))
    page = Page(html)
    assert facts["match"]["closenesses"][0]["made"] == 6
    said = {0: "None of 6 accepted images", 1: "1 of 6 accepted images", 2: "2 of 6 accepted images"}[copies]
    assert said in page.text
    assert page.text.count("suspected copy") >= copies
    assert html.count("Training image of class") == 5, "each training image once"
    assert "has not been measured here" not in page.text


@pytest.mark.parametrize(("keep", "left_out"), [(True, 0), (False, 2)])
def test_what_became_of_suspected_copies_is_said(
    stores: Stores, inputs: ReportInputs, keep: bool, left_out: int
) -> None:
    inputs = with_spec(inputs, generation=SPEC.generation.replace(keep_copies=keep))
    html, facts = written(stores, inputs, match=put_match(stores, copies=2))
    assert facts["copies"] == {"kept": keep, "suspected": 2, "left_out": left_out}
    text = " ".join(Page(html).text.split())
    assert ("They are in no training set; others were drawn in their place" in text) == bool(left_out)
    assert ("none was taken out" in text) == (not left_out)
    assert ("accepted no more that were no suspected copies within" in text) == bool(left_out)
    assert ("suspected copies left out" in text) == bool(left_out)


def test_draws_that_were_no_images_are_counted(stores: Stores, inputs: ReportInputs) -> None:
    page, facts = written(stores, inputs)
    assert facts["rejected"] == []
    assert "never labelled" not in page
    black = Rejection(class_name=EVIL, reason=RejectionReason.BLACK, count=3)
    others = (
        black.replace(class_name="a", count=1),
        black.replace(reason=RejectionReason.DUPLICATE),
    )
    inputs = inputs.model_copy(update={"rejected": (black, *others)})
    page, facts = written(stores, inputs)
    assert facts["rejected"][0] == {"class": EVIL, "reason": "REASON_BLACK", "count": 3}
    said = "7 draws were no images and never labelled: 4 nearly black, 3 the same as one before."
    assert said in " ".join(Page(page).text.split())
    assert said in " ".join(Page(written(stores, inputs, labels=())[0]).text.split()), (
        "where nothing else was drawn either"
    )


def stable_diffusion(**fields: Any) -> Generator:
    spec = StableDiffusionSpec(base="/home/somebody/sd15#sha256=ab", lora=LoraSpec(rank=16))
    record = Generator(
        name="generators/0", spec=GeneratorSpec(stable_diffusion=spec), classes=CLASSES, image_size=8,
        losses=(0.5, 0.25), base="bases/0123abcd", provenance=PROVENANCE,
    )  # fmt: skip
    return record.model_copy(update=fields)


def put_stable_diffusion(stores: Stores, digit: str, prompts: str, **fields: Any) -> str:
    name = f"generators/{digit * 32}"
    captions = {EVIL: f"{prompts} {EVIL}"}
    record = stable_diffusion(name=name, prompts=f"{prompts}@1", captions=captions, **fields)
    put(stores("finetune"), f"{name}/generator.json", record)
    return name


def test_a_base_its_captions_and_why_training_stopped_are_shown(stores: Stores, inputs: ReportInputs) -> None:
    near = GridMemorization(update=200, median=0.3, natural_median=0.5, memorized=0.1)
    grids = (near, near.replace(update=400, memorized=0.5))
    name = put_stable_diffusion(stores, "8", "generic", stopped_at=400, closenesses=grids)
    spec = GeneratorSpec(stable_diffusion=StableDiffusionSpec(base="/home/somebody/sd15"))
    html, facts = written(stores, with_spec(inputs, generator=spec), generators=(name,))
    text = " ".join(Page(html).text.split())
    assert "Stopped at update 400 of 800 because 50 % of the images of its sample grid were memorized" in text
    assert "2000.30000.500010" in text, "a row for each grid"
    assert "an adapter of rank 16" in text
    assert "sd15#sha256=ab, bases/0123abcd" in text
    assert f"generic@1 ({EVIL}: “generic {EVIL}”)" in text
    assert "somebody" not in html + str(facts)
    assert facts["spec"]["generator"]["stable_diffusion"]["base"] == "sd15"
    assert facts["generators"][0]["closenesses"][1]["memorized"] == 0.5
    assert "0.2500" in html
    assert EVIL not in html


def test_paths_in_an_extensions_settings_are_cut(stores: Stores, inputs: ReportInputs, monkeypatch: Any) -> None:
    class Settings(Model):
        weights: str = ""

    kind = GeneratorKind(Settings, "nowhere:KIND", None)
    monkeypatch.setitem(GENERATORS._entries, "mine", kind)
    spec = GeneratorSpec(plugin=PluginSpec(name="mine", settings={"weights": "/home/somebody/x.pt"}))
    html, facts = written(stores, with_spec(inputs, generator=spec))
    assert "somebody" not in html + str(facts)
    assert facts["spec"]["generator"]["plugin"]["settings"] == {"weights": "x.pt"}


def test_losses_of_a_training_that_stopped_early_lie_where_they_were_measured() -> None:
    """The intervals are those of the whole training, of which the first are there."""

    def ends(stopped_at: int) -> list[float]:
        chart = loss_chart(stable_diffusion(stopped_at=stopped_at))
        assert chart is not None
        return [float(x) for x in re.findall(r"[ML]([\d.]+) ", re.findall(r' d="([^"]+)"', str(chart.plot))[0])]

    stopped, whole = ends(100), ends(0)
    assert stopped[1] - stopped[0] == pytest.approx((whole[1] - whole[0]) / 10, abs=0.2)


def test_where_each_class_learns_alone_the_one_that_stopped_is_meant() -> None:
    near = GridMemorization(update=40, memorized=0.1)
    record = stable_diffusion(stopped_at=40, closenesses=(near, near.replace(memorized=0.9)))
    assert early_stop_text(record).startswith("Stopped at update 40 of 800 because 90 %")
    spec = StableDiffusionSpec.model_validate(
        {"base": "b", "method": "METHOD_DREAMBOOTH", "dreambooth": DreamBoothSpec(per_class=True)}
    )
    alone = record.model_copy(update={"spec": GeneratorSpec(stable_diffusion=spec)})
    assert early_stop_text(alone).startswith("A class’s own training stopped at update 40")
    assert early_stop_text(record.model_copy(update={"stopped_at": 0})) == ""


def test_two_sets_of_captions_stand_side_by_side(stores: Stores, inputs: ReportInputs) -> None:
    page, facts = written(stores, inputs)
    assert facts["captions"] == {}
    assert 'id="captions"' not in page
    mine, other = (put_stable_diffusion(stores, d, p) for d, p in (("8", "disease-specific"), ("c", "generic")))
    rows = read_rows(stores("report"), f"{inputs.labels[0]}/manifest.parquet")
    rows = [replace(row, index=index) for index, row in enumerate(rows)]
    first, second = f"labels/{'b' * 32}", f"labels/{'d' * 32}"
    write_rows(stores("labeling"), f"{first}/manifest.parquet", rows)
    # The other captions: four of six are rejected, one was no image.
    theirs = [*(replace(row, label=CLASSES[0], label_verdict="disagrees") for row in rows[:4]), *rows[4:-1]]
    write_rows(stores("labeling"), f"{second}/manifest.parquet", theirs)
    match = put_match(stores, copies=0)
    compared = ComparedCaptions(generator=other, labels=(second,), match=match, counts={EVIL: 10})
    html, facts = written(stores, inputs, generators=(mine,), labels=(first,), match=match, compared=compared)
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


@pytest.mark.parametrize(
    ("lower", "upper", "claim"),
    [(0.1, 0.4, "the captions one than with two"), (-0.1, -0.05, "the captions two than with one")],
)
def test_captions_that_differ_are_named_in_order(lower: float, upper: float, claim: str) -> None:
    results = CaptionSet(
        drawn=10, no_image=0, accepted=5, share=Estimate(value=0.5, lower=0.3, upper=0.7), distance=None
    )
    overall = CaptionResults(
        sets=(results, results), natural=None, difference=Estimate(value=0.0, lower=lower, upper=upper)
    )
    generators = (stable_diffusion(prompts="one"), stable_diffusion(prompts="two"))
    assert claim in caption_text(CaptionComparison(generators=generators, classes=(), all=overall))


def test_how_the_generator_learned_is_shown(stores: Stores, inputs: ReportInputs) -> None:
    name = f"generators/{'8' * 32}"
    grid = SampleGrid(update=100, object=f"{name}/grids/100.png")
    stores("finetune").put_new(grid.object, encode_png(np.zeros((16, 32, 1), np.uint8)))
    spec = ClassConditionalSpec(train_steps=100, batch_size=8, prediction=Prediction.IMAGE)
    record = Generator(
        name=name, spec=GeneratorSpec(class_conditional=spec), classes=CLASSES, image_size=8, losses=(0.5, 0.25),
        held_out_losses=(0.6, 0.3), sample_grids=(grid,), held_out=counted(1, 2), provenance=PROVENANCE,
    )  # fmt: skip
    put(stores("finetune"), f"{name}/generator.json", record)
    html, facts = written(stores, inputs, generators=(name,))
    text = Page(html).text
    assert facts["generators"][0]["held_out_losses"] == [0.6, 0.3]
    assert "training from 0.5000 to 0.2500; held out from 0.6000 to 0.3000" in html
    assert "3 images of subjects that were held out" in text
    assert "Predicts the image" in text
    assert "Images drawn after 100 updates" in html


def test_further_evaluators_stand_by_themselves(stores: Stores, inputs: ReportInputs) -> None:
    name = f"evaluations/{'9' * 32}"
    network = ClassifierSpec(
        backbone="VGG19", image_size=224, tuning=Tuning.FINE_TUNED, head=Head.PUBLISHED, pre_resize=64
    )
    probe = ScenarioScore(macro_recall=Estimate(value=0.99, lower=0.98, upper=1.0))
    further = read(stores("report"), f"{inputs.evaluation}/evaluation.json", Evaluation).model_copy(
        update={
            "name": name,
            "spec": EvaluationSpec(evaluation=EvaluationSettings(classifier=network)),
            "verdict": Verdict(outcome=Outcome.NO_EVIDENCE, sentence="No evidence: of its own."),
            "reference_probe": probe,
        }
    )
    put(stores("evaluate"), f"{name}/evaluation.json", further)
    html, facts = written(stores, inputs, further_evaluations=(name,))
    text = Page(html).text
    assert "vgg19 at 224 pixels, every layer learning, the published head, every image first brought to 64" in text
    assert "No evidence: of its own." in text
    assert "real lies below the probe’s interval" in text
    assert facts["verdict"]["sentence"] != "No evidence: of its own.", "the first evaluator gives the verdict"
    assert len(facts["further_evaluations"]) == 1


@pytest.mark.parametrize("folds", [1, 5])
def test_folds_are_not_called_a_seal(stores: Stores, inputs: ReportInputs, folds: int) -> None:
    inputs = with_spec(inputs, evaluation=SPEC.evaluation.replace(folds=folds))
    text = Page(written(stores, inputs)[0]).text
    assert ("What the held-out images say" in text) == (folds > 1)
    assert ("the seal stayed shut" in text) == (folds > 1)


@pytest.mark.parametrize(("mean", "said"), [(0.5, "below"), (0.7, "within"), (0.9, "above")])
def test_the_reference_probe_is_told_either_way(mean: float, said: str) -> None:
    score, probe = (ScenarioScore(macro_recall=Estimate(value=v, lower=v - 0.1, upper=v + 0.1)) for v in (mean, 0.7))
    sentence = probe_text("real", score, probe)
    assert f"real lies {said} the probe’s interval" in sentence
    assert ("worth less" in sentence) == (said == "below")


@pytest.mark.parametrize(("pre_resize", "other"), [(32, ""), (0, ""), (64, " (the evaluator’s to 64 pixels)")])
def test_the_size_that_the_probe_sees_is_said(
    stores: Stores, inputs: ReportInputs, pre_resize: int, other: str
) -> None:
    evaluation = read(stores("report"), f"{inputs.evaluation}/evaluation.json", Evaluation)
    name = f"evaluations/{'9' * 32}"
    record = evaluation.model_copy(update={"reference_probe": evaluation.scores[0]})
    put(stores("evaluate"), f"{name}/evaluation.json", record)
    settings = SPEC.evaluation.replace(classifier=NETWORK.replace(pre_resize=pre_resize))
    spec = with_spec(inputs, generator=GeneratorSpec(image_size=32), evaluation=settings)
    text = " ".join(Page(written(stores, spec, evaluation=name)[0]).text.split())
    assert f"each image first brought to the generator’s image size, 32 pixels{other}. It is no scenario" in text


@pytest.mark.parametrize(
    ("own_split", "said"),
    [
        (False, "0.6 / 0.2 / 0.2 by subject, seed 42, 5 folds"),
        (True, "the source’s own split, 5 folds by subject, seed"),
    ],
)
def test_the_split_is_the_seeds_or_the_sources_own(
    stores: Stores, inputs: ReportInputs, own_split: bool, said: str
) -> None:
    dataset = read(stores("report"), f"{DATASET}/dataset.json", Dataset)
    dataset = dataset.replace(split=(0.6, 0.2, 0.2), own_split=own_split)
    stores("assembly").put_json(f"{DATASET}/dataset.json", dataset.json_value())
    assert said in Page(written(stores, inputs)[0]).text


@pytest.mark.parametrize("installed", [True, False])
def test_further_metrics_have_a_table(
    stores: Stores, inputs: ReportInputs, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    metric = SimpleNamespace(name="share right", direction="higher")
    monkeypatch.setitem(sys.modules, "metrics", SimpleNamespace(metric=metric))
    monkeypatch.setattr(METRICS, "_entries", {"share": "metrics:metric"} if installed else {})
    record = read(stores("report"), f"{inputs.evaluation}/evaluation.json", Evaluation)
    scores = tuple(
        score.replace(metrics={"share": Estimate(value=0.25, lower=0.125, upper=0.5)}) for score in record.scores
    )
    name = f"evaluations/{'9' * 32}"
    put(stores("evaluate"), f"{name}/evaluation.json", record.replace(scores=scores))
    text = " ".join(Page(written(stores, inputs, evaluation=name)[0]).text.split())
    assert ("share right (higher is better)" in text) == installed
    assert text.count("0.2500 0.1250 – 0.5000") == 2


@pytest.mark.parametrize("outcome", [Outcome.HELPS, Outcome.HURTS, Outcome.NO_EVIDENCE])
def test_the_random_control_is_told_as_it_was_trained(outcome: Outcome) -> None:
    difference = Estimate(value=0.01, lower=-0.02, upper=0.04)
    comparison = Comparison(scenario="real-random", reference="real", outcome=outcome, difference=difference)
    control = ScenarioData.model_construct(name="real-random", reduction=Reduction.RANDOM)
    data = ReportData.model_construct(scenarios=(control,), evaluation=Evaluation(comparisons=(comparison,)))
    words = {Outcome.HELPS: "did better", Outcome.HURTS: "did worse", Outcome.NO_EVIDENCE: "no evidence"}
    assert words[outcome] in control_text(data)
    assert "No scenario was trained" in control_text(data.model_copy(update={"scenarios": ()}))


def test_the_dose_curve_names_its_best_dose() -> None:
    recalls = tuple(Estimate(value=v, lower=v - 0.05, upper=v + 0.05) for v in (0.7, 0.72, 0.75))
    curve = Saturation(doses=(0.0, 1.0, 2.0), macro_recalls=recalls, best_dose=2.0, sentence="No dose.")
    drawn = str(dose_chart(Evaluation(saturation=curve)))
    assert drawn.count("<circle") == 3
    assert drawn.count('class="point best"') == 1
    assert drawn.rindex("<circle") == drawn.index('<circle class="point best"'), "the last"
    assert dose_chart(Evaluation()) is None
