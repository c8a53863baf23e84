from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers import HANG_S
from typer.testing import CliRunner

from genaug import jobs
from genaug.cli.app import app
from genaug.schema.classifiers import ClassifierSpec, Role
from genaug.schema.generators import GeneratorSpec
from genaug.schema.jobs import BAD_INPUT, FinetuneInputs, JobInputs, JobRequest, TrainInputs, TrainItem
from genaug.schema.run import ScenarioSampling
from genaug.shared.errors import FailedPrecondition
from genaug.shared.progress import read_progress
from genaug.shared.settings import Settings, load_settings
from genaug.shared.store import Store


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """The handlers that a Job installs are its process's."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    yield
    signal.alarm(0)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=str(tmp_path), threads=1)


def run(settings: Settings, monkeypatch: pytest.MonkeyPatch, inputs: JobInputs, work: Any) -> tuple[int, Any]:
    """Run a Job whose work is `work(inputs, store, report, device=…)`; return its exit status and last progress."""
    index = lambda store, sources: None  # noqa: E731
    monkeypatch.setattr(jobs, "load", lambda name: index if "read_feature_index" in name else work)
    store = Store.open(settings.store, "orchestrator")
    request = JobRequest.of(inputs)
    request.write(store)
    code = jobs.run_job(settings, request.step, request.key, shard=0, shards=1)
    return code, read_progress(store, request.progress_key(0))


def finetuning(classes: str) -> FinetuneInputs:
    return FinetuneInputs(
        dataset_version="datasets/d/versions/real", classes=tuple(classes), generator=GeneratorSpec(), channels=1
    )


def trainings(*updates: int) -> TrainInputs:
    item = TrainItem(
        role=Role.EVALUATOR,
        classifier=ClassifierSpec(),
        channels=1,
        dataset_version="datasets/d/versions/real",
        classes=("a", "b"),
        sampling=ScenarioSampling.NATURAL,
        updates=1,
        batch_size=1,
        learning_rate=0.1,
        seed=0,
    )
    return TrainInputs(items=tuple(item.replace(updates=count, seed=seed) for seed, count in enumerate(updates)))


def test_being_told_to_end_ends_at_the_next_report(settings, monkeypatch) -> None:
    done: list[int] = []

    def work(inputs, store, report, *, device) -> str:
        for update in range(1, 11):
            if update == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            done.append(update)
            report(update, 10, "updates")
        return "generators/x"

    code, progress = run(settings, monkeypatch, finetuning("ab"), work)
    assert done == [1, 2, 3], "the update at hand is finished, and no other begun"
    assert code == 1
    assert progress.error.reason == "CANCELLED"


def test_work_that_says_nothing_is_ended_where_it_is(settings, monkeypatch) -> None:
    monkeypatch.setattr(jobs, "_GRACE", 1)

    def work(inputs, store, report, *, device) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(HANG_S)
        ended.append("by itself")
        return "generators/x"

    ended: list[str] = []
    code, progress = run(settings, monkeypatch, finetuning("abc"), work)
    assert not ended
    assert (code, progress.error.reason) == (1, "CANCELLED")


def test_updates_are_told_over_all_items_and_images_aside(settings, monkeypatch) -> None:
    told: list[tuple[int, int, str, str]] = []
    monkeypatch.setattr(jobs.ProgressWriter, "__call__", lambda self, *far: told.append(far))

    parts = (2, 3)

    def work(item, store, report, *, device, features) -> str:
        report(7, 9, "images")
        for part in range(1, parts[item.seed] + 1):
            report(part, parts[item.seed], "updates")
        return "classifiers/x"

    code, _ = run(settings, monkeypatch, trainings(10, 30), work)
    assert code == 0
    assert told == [
        (0, 40, "updates", "reading images, 7 of 9"),
        (5, 40, "updates", ""),
        (10, 40, "updates", ""),
        (10, 40, "updates", ""),
        (10, 40, "updates", "reading images, 7 of 9"),
        (20, 40, "updates", ""),
        (30, 40, "updates", ""),
        (40, 40, "updates", ""),
        (40, 40, "updates", ""),
    ]


def test_items_that_were_there_count_as_done(settings, monkeypatch) -> None:
    told: list[tuple[int, int, str, str]] = []
    monkeypatch.setattr(jobs.ProgressWriter, "__call__", lambda self, *far: told.append(far))
    assert run(settings, monkeypatch, trainings(10, 30), lambda *_, **__: "classifiers/x")[0] == 0
    assert told == [(10, 40, "updates", ""), (40, 40, "updates", "")]


def test_bad_input_is_not_tried_again(settings, monkeypatch) -> None:
    def work(inputs, store, report, *, device) -> str:
        raise FailedPrecondition("no", reason="NO")

    assert run(settings, monkeypatch, finetuning("abcd"), work)[0] == BAD_INPUT
    assert jobs.run_job(settings, "finetune", "requests/finetune/none.json", shard=0, shards=1) in (1, BAD_INPUT)


def test_a_job_without_a_request_is_bad_input() -> None:
    found = CliRunner().invoke(app, ["job", "train"])
    assert found.exit_code == BAD_INPUT
    assert "NO_REQUEST" in found.output


def test_a_request_may_lie_in_a_file(tmp_path) -> None:
    (tmp_path / "train").write_text("requests/train/none.json\n")
    environment = {"GENAUG_STORE__URL": "memory://"}
    found = CliRunner().invoke(app, ["job", "train", "--request-file", str(tmp_path / "train")], env=environment)
    assert found.exit_code == BAD_INPUT


def test_an_evaluation_that_cannot_be_planned_is_bad_input(tmp_path) -> None:
    (tmp_path / "evaluation.yaml").write_text("{}\n")
    command = ["evaluation", "plan", "--file", str(tmp_path / "evaluation.yaml"), "--keys", str(tmp_path / "keys")]
    found = CliRunner().invoke(app, command, env={"GENAUG_STORE__URL": "memory://"})
    assert found.exit_code == BAD_INPUT
    assert not (tmp_path / "keys").exists()
