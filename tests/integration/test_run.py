"""A real run of the six steps over an embedded server; then all that a person asks of it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.servers import Home, wait_until

from genaug.shared.manifest import Row, to_rows

SCENARIOS = ["real", "real-balanced", "synthetic-x1", "traditional-x1", "real-random"]


def objects(home: Home) -> dict[str, int]:
    """Every result in the store with the time it was written."""
    store = home.folder / "store"
    kept = (
        "draws",
        "batches",
        "labels",
        "generators",
        "classifiers",
        "evaluations",
        "selections",
        "embeddings",
        "matches",
        "datasets",
    )
    return {
        str(path.relative_to(store)): path.stat().st_mtime_ns
        for folder in kept
        for path in (store / folder).rglob("*")
        # Replaced by design, and gone at the end.
        if path.is_file() and path.name != "checkpoint.safetensors"
    }


def rows_of(home: Home, tmp_path: Path, name: str, *flags: str) -> list[Row]:
    path = tmp_path / "rows.parquet"
    home.run("dataset", "manifest", name, "-o", path, *flags)
    return to_rows(pq.read_table(io.BytesIO(path.read_bytes())))


def versions(run: dict) -> dict[str, str]:
    step = next(step for step in run["steps"] if step["name"] == "assemble")
    return dict(zip(SCENARIOS, step["results"], strict=True))


def test_it_reaches_a_verdict(home: Home, run: dict) -> None:
    assert run["state"] == "STATE_SUCCEEDED"
    assert {step["state"] for step in run["steps"]} == {"STATE_SUCCEEDED"}
    assert run["verdict"]["outcome"] in {"OUTCOME_HELPS", "OUTCOME_NO_EVIDENCE", "OUTCOME_HURTS"}
    assert run["verdict"]["sentence"].endswith(".")
    evaluation = home.json("evaluation", "get", run["evaluation"])
    assert [score["scenario"] for score in evaluation["scores"]] == SCENARIOS
    for score in evaluation["scores"]:
        trace = sum(score["confusion"][i * 4 + i] for i in range(4)) / sum(score["confusion"])
        assert score["accuracy"]["value"] == pytest.approx(trace)
        assert score["macro_recall"]["lower"] <= score["macro_recall"]["value"] <= score["macro_recall"]["upper"]
        assert sum(score["confusion"]) == 2 * evaluation["test_images"]


def test_the_table_and_the_verdict_are_shown(home: Home, run: dict) -> None:
    text = home.run("run", "get", run["name"]).stdout
    for scenario in SCENARIOS:
        assert scenario in text
    assert run["verdict"]["sentence"].split()[0] in text


def test_the_same_command_again_makes_nothing(home: Home, run: dict, run_file: Path) -> None:
    before = objects(home)
    again = home.json("run", "create", "-f", run_file, "--wait")
    assert again == run
    assert objects(home) == before


def test_doses_are_exact_or_their_shortfall_is_named(home: Home, run: dict, tmp_path: Path) -> None:
    real = rows_of(home, tmp_path, "digits@" + versions(run)["real"].rsplit("/", 1)[1])
    count = {name: sum(row.class_name == name and row.split == "train" for row in real) for name in "0123"}
    assert count["0"] == count["1"] == max(count["2"], count["3"]), "dominant classes are reduced to the largest other"
    described = {version["name"]: version for version in home.json("dataset", "versions", "digits")}
    for scenario, source in (("synthetic-x1", "synthetic"), ("traditional-x1", "transformed")):
        rows = rows_of(home, tmp_path, "digits@" + versions(run)[scenario].rsplit("/", 1)[1])
        missing = {c["class_name"]: c["count"] for c in described[versions(run)[scenario]].get("shortfall", [])}
        for name in "23":
            made = [row for row in rows if row.source == source and row.class_name == name]
            assert len(made) + missing.get(name, 0) == count[name]
            assert len({row.image_id for row in made}) == len(made)
        assert {row.split for row in rows if row.source != "real"} == {"train"}
        assert [row for row in rows if row.source == "real"] == real


def test_the_seal_holds(home: Home, run: dict, tmp_path: Path) -> None:
    openings = home.folder / "store" / "seal-openings"
    before = len(list(openings.iterdir()))
    purposes = [json.loads(path.read_text())["purpose"] for path in openings.iterdir()]
    # Descriptions count the subjects of sealed rows.
    assert len([purpose for purpose in purposes if purpose != "DescribeDataset"]) == 1, "the run opened the seal once"
    everything = rows_of(home, tmp_path, "digits", "--include-sealed")
    assert len(list(openings.iterdir())) == before + 1
    sealed = {row.image_id for row in everything if row.split == "test"}
    assert sealed
    groups = {split: {r.group_id for r in everything if r.split == split} for split in ("train", "validation", "test")}
    assert not groups["train"] & groups["test"]
    assert not groups["train"] & groups["validation"]
    for version in home.json("dataset", "versions", "digits"):
        assert not sealed & {
            row.image_id for row in rows_of(home, tmp_path, "digits@" + version["name"].rsplit("/", 1)[1])
        }


def test_the_report_opens_offline(home: Home, run: dict, run_file: Path, tmp_path: Path) -> None:
    path, again = tmp_path / "report.html", tmp_path / "again.html"
    home.run("run", "report", run["name"], "-o", path)
    text = path.read_text()
    home.run("run", "create", "-f", run_file, "--report", again)
    assert again.read_text() == text
    home.run("run", "create", "-f", run_file, "--report", tmp_path / "none" / "again.html", code=1)
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']+""", text)
    assert not re.findall(r"""url\((?!["']?data:)""", text)
    for scenario in SCENARIOS:
        assert scenario in text
    assert text.count("data:image/png;base64,") > 10


def test_an_image_is_drawn_again_from_its_receipt(home: Home, run: dict, tmp_path: Path) -> None:
    generator = next(g for g in home.json("generator", "list") if "class_conditional" in g["spec"])
    home.run(
        "images",
        "generate",
        "--generator",
        generator["name"],
        "--class",
        "2",
        "--count",
        "3",
        "--seed",
        "9",
        "-o",
        tmp_path,
    )
    receipts = sorted(tmp_path.glob("*.json"))
    assert len(receipts) == 3
    again = tmp_path / "again.png"
    home.run("images", "regenerate", receipts[1], "-o", again)
    assert again.read_bytes() == receipts[1].with_suffix(".png").read_bytes()
    receipt = json.loads(receipts[1].read_text()) | {"pixel_sha256": "0" * 64}
    receipts[1].write_text(json.dumps(receipt))
    assert "other pixels" in home.run("images", "regenerate", receipts[1], "-o", again, code=1).stderr


def test_wrong_draws_are_refused(home: Home, run: dict, tmp_path: Path) -> None:
    generator = home.json("generator", "list")[0]["name"]
    command = ("images", "generate", "-o", tmp_path, "--seed", "1", "--generator")
    assert "NOT_FOUND" in home.run(*command, "0" * 32, "--class", "2", code=1).stderr
    assert "'9'" in home.run(*command, generator, "--class", "9", code=1).stderr
    for count in ("0", "1000000000"):
        assert "count" in home.run(*command, generator, "--class", "2", "--count", count, code=1).stderr
    assert not list(tmp_path.iterdir())


def test_an_evaluation_apart(home: Home, run: dict, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.yaml"
    path.write_text(f"name: more-seeds\nrun: {run['name']}\nevaluation: {{updates: 60, seeds: 3, resamples: 300}}\n")
    found = home.json("evaluation", "create", "-f", path, "--wait")
    assert found["state"] == "STATE_SUCCEEDED"
    assert [score["seeds"] for score in found["scores"]] == [3] * 5
    names = [evaluation["name"] for evaluation in home.json("evaluation", "list")]
    assert {found["name"], run["evaluation"]} <= set(names)
    before = objects(home)
    assert home.json("evaluation", "create", "-f", path, "--wait")["name"] == found["name"]
    assert objects(home) == before


def test_versions_can_be_evaluated_by_name(home: Home, run: dict, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.yaml"
    chosen = [versions(run)["real"], versions(run)["synthetic-x1"]]
    path.write_text(
        f"name: two\ndataset_versions: {json.dumps(chosen)}\nevaluation: {{updates: 60, seeds: 2, resamples: 300}}\n"
    )
    found = home.json("evaluation", "create", "-f", path, "--wait")
    whole = home.json("evaluation", "get", run["evaluation"])
    by_version = {score["dataset_version"]: score for score in whole["scores"]}
    for score in found["scores"]:
        assert score["confusion"] == by_version[score["dataset_version"]]["confusion"], (
            "the same trainings, the same labels"
        )
    path.write_text(f"name: two\ndataset_versions: {json.dumps(chosen[::-1])}\n")
    assert "reference" in home.run("evaluation", "create", "-f", path, code=1).stderr


def test_a_dataset_is_described(home: Home, run: dict, tmp_path: Path) -> None:
    page = tmp_path / "digits.html"
    found = home.json("dataset", "describe", "digits", "--page", page)
    counts = {one["class_name"]: one["training"] for one in found["classes"]}
    assert counts.keys() >= {"0", "1", "2", "3"}
    assert "What a careless split would leak" in page.read_text()
    assert "every subject has one image" in home.run("dataset", "describe", "digits").stdout


def test_a_scenarios_version_is_addressed_by_its_run(home: Home, run: dict, tmp_path: Path) -> None:
    name = f"digits@{run['name']}/synthetic-x1"
    (version,) = home.json("dataset", "versions", name)
    assert version["synthetic"]
    home.run("dataset", "manifest", name, "-o", tmp_path / "rows.parquet")
    rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert sum(row["source"] == "synthetic" for row in rows) == sum(count["count"] for count in version["synthetic"])
    assert home.json("dataset", "describe", name)["dataset"] == version["name"]
    home.run("dataset", "export", name, "-o", tmp_path / "export")
    assert (tmp_path / "export" / "train").is_dir()
    refused = home.run("dataset", "describe", f"digits@{run['name']}/nothing", code=1).stderr
    assert "has the scenarios real, real-balanced, synthetic-x1, " in refused


def test_an_image_is_traced_to_its_file(home: Home, run: dict, tmp_path: Path) -> None:
    home.run("dataset", "manifest", "digits", "-o", tmp_path / "rows.parquet")
    row = pq.read_table(tmp_path / "rows.parquet").to_pylist()[0]
    (origin,) = home.json("dataset", "trace", "digits", row["content_sha256"])
    assert origin["source_name"].startswith("digits-")
    assert origin["image_id"] == row["image_id"]


def test_a_selection_is_written_as_a_table(home: Home, run: dict, tmp_path: Path) -> None:
    (selection,) = home.json("selection", "list")
    path = tmp_path / "selected.csv"
    home.run("selection", "export", selection["name"], "-o", path)
    header, *lines = (line.replace('"', "").split(",") for line in path.read_text().splitlines())
    assert header == ["image_id", "label", "x", "y"]
    # Of dominant classes those that were chosen; the others are kept whole.
    for quality in selection["qualities"]:
        assert sum(label == quality["class_name"] for _, label, _, _ in lines) == int(quality["kept"])
    assert {label for _, label, _, _ in lines} == {"0", "1", "2", "3"}


def test_made_images_are_matched_with_real_ones(home: Home, run: dict) -> None:
    step = next(step for step in run["steps"] if step["name"] == "match")
    folder = home.folder / "store" / step["results"][0]
    match = json.loads((folder / "match.json").read_text())
    assert {one["class_name"] for one in match["closenesses"]} <= {"2", "3"}
    nearest = pq.read_table(folder / "nearest_real.parquet").to_pylist()
    assert len(nearest) == sum(int(one["made"]) for one in match["closenesses"]) > 0


def test_garbage_collection_spares_what_a_manifest_names(home: Home, run: dict) -> None:
    before = objects(home)
    home.run("gc")
    assert objects(home) == before


def test_lists_are_for_people_and_programs(home: Home, run: dict) -> None:
    for noun in ("dataset", "run", "generator", "classifier", "evaluation"):
        assert home.json(noun, "list")
        assert home.run(noun, "list").stdout.strip()
        name = home.json(noun, "list")[0]["name"]
        assert home.json(noun, "get", name)["name"] == name
        assert home.run(noun, "get", name.split("/")[-1]).stdout.strip()


def test_a_wrong_run_file_names_the_key(home: Home, run: dict, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("name: x\ndataset: digits\nevaluaton: {}\n")
    assert "evaluaton: unknown key; did you mean 'evaluation'?" in home.run("run", "create", "-f", path, code=1).stderr
    path.write_text("name: x\ndataset: nothing\n")
    assert "datasets/nothing" in home.run("run", "create", "-f", path, code=1).stderr
    path.write_text("name: x\ndataset: digits\nclasses: ['0', '42']\n")
    assert "'42' is not in datasets/digits" in home.run("run", "create", "-f", path, code=1).stderr


def test_a_dry_run_prints_the_defaults_and_starts_nothing(home: Home, run: dict, run_file: Path) -> None:
    before = home.json("run", "list")
    text = home.run("run", "create", "-f", run_file, "--dry-run", "--set", "evaluation.seeds=4").stdout
    assert "learning_rate: 0.003" in text
    assert "seeds: 4" in text
    assert home.json("run", "list") == before


def test_a_run_file_is_checked_before_its_dataset_is_imported(home: Home, run: dict, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("name: x\ndataset: later\nimport: {format: digits}\nevaluation: {seeds: 1}\n")
    assert "evaluation.seeds: 1 is not within" in home.run("run", "create", "-f", path, code=1).stderr
    completed = home.run("run", "create", "-f", path, "--set", "evaluation.seeds=2", "--dry-run").stdout
    assert "- '9'" in completed, "the classes that the dataset would have"
    found = home.run(
        "run", "create", "-f", path, "--set", "evaluation.seeds=2", "--set", "classes=[x,'1']", "--dry-run", code=1
    )
    assert "'x' is not in datasets/later" in found.stderr
    assert "later" not in [d["name"].split("/")[1] for d in home.json("dataset", "list")]


def test_another_import_under_a_name_that_is_taken_is_refused(home: Home, run: dict, run_file: Path) -> None:
    found = home.run("run", "create", "-f", run_file, "--set", "import.seed=7", code=1)
    assert "import.seed: datasets/digits was sealed with 42, not 7" in found.stderr


def test_a_run_that_cannot_go_on_fails_with_its_reason(home: Home, run: dict, tmp_path: Path) -> None:
    home.run("dataset", "import", "few", "--format", "digits", "--keep", "0=13,1=60,2=0,3=0,4=0,5=0,6=0,7=0,8=0,9=0")
    path = tmp_path / "run.yaml"
    # Enough images as a whole, too few in some outer folds: known once a view is made.
    path.write_text("name: few\ndataset: few\nevaluation: {folds: 5}\n")
    found = home.run("run", "create", "-f", path, "--wait", code=1)
    assert "CLASS_TOO_SMALL: classes: '0' has" in found.stderr
    home.run("dataset", "delete", "few", "--yes")
    assert "few" not in [d["name"] for d in home.json("dataset", "list")]


def test_cancel_keeps_what_was_finished_and_resume_goes_on(run_file: Path, tmp_path: Path) -> None:
    home = Home(tmp_path)
    started = home.json("run", "create", "-f", run_file, "--set", "generator.class_conditional.train_steps=5000")
    while (found := home.json("run", "get", started["name"]))["steps"][1]["state"] == "STATE_PENDING":
        pass
    assert found["state"] == "STATE_RUNNING"
    assert home.json("run", "cancel", started["name"])["state"] == "STATE_CANCELLED"
    assert home.json("run", "get", started["name"])["state"] == "STATE_CANCELLED"
    assert not any(home.folder.glob("store/generators/*/generator.json")), "nobody waited for the training"
    resumed = home.json("run", "resume", started["name"])
    assert resumed["state"] in ("STATE_PENDING", "STATE_RUNNING")
    home.json("run", "cancel", started["name"])


def test_a_killed_run_finishes_with_the_same_results(home: Home, run: dict, run_file: Path, tmp_path: Path) -> None:
    """kill -9 of client, server and Jobs together, then the same command; benchmarks/kill.py does it ten times."""
    killed = Home(tmp_path)
    process = killed.start("run", "create", "-f", run_file, "--wait")
    wait_until(lambda: any(killed.folder.glob("store/generators/*/generator.json")), what="a generator")
    killed.kill(process)
    finished = objects(killed)
    found = killed.json("run", "create", "-f", run_file, "--wait")
    assert found["evaluation"] == run["evaluation"], "a result is named by its inputs"
    left = objects(killed)
    for key, written in finished.items():
        assert left[key] == written, f"{key} was written twice"
    for folder in ("draws", "batches", "labels", "classifiers", "generators"):
        mine, whole = ({key for key in objects(h) if key.startswith(f"{folder}/")} for h in (killed, home))
        assert mine <= whole
        if folder != "classifiers":  # the whole home has trained for further evaluations
            assert mine == whole
