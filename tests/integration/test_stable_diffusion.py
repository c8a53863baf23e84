"""The six steps through a Stable Diffusion base on disk, by real processes; then images asked of its generator."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.servers import Home
from tests.tiny_base import write_tiny_base

from genaug.client import Client
from genaug.shared.settings import load_settings
from genaug.vision.images.pixels import decode, pixel_sha256
from genaug.vision.images.provenance_metadata import receipt_of

RUN_FILE = """
name: captioned
dataset: digits
import:
  format: digits
  keep: {{"0": 60, "1": 60, "2": 40, "3": 40}}
  split: [0.5, 0.2, 0.3]
classes: ["0", "1", "2", "3"]
generator:
  image_size: 16
  stable_diffusion:
    base: {base}
    captions: {{"2": a photograph of an eye with 2, "3": a fundus of 3}}
    compared_prompts: generic
    train_steps: 10
generation: {{steps: 3, rounds: 1}}
labeling: {{updates: 60, mode: TRUST_PROMPT, second_seed: -1}}
selection: {{classes: ["0", "1"]}}
scenarios:
  - {{name: real}}
  - {{name: synthetic-x1, synthetic: 1}}
evaluation: {{updates: 30, seeds: 2, resamples: 300}}
"""


@pytest.fixture(scope="module")
def captioned(home: Home, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A finished run whose images are Stable Diffusion's."""
    folder = tmp_path_factory.mktemp("captioned")
    file = folder / "run.yaml"
    file.write_text(RUN_FILE.format(base=write_tiny_base(folder / "base")))
    return home.json("run", "create", "-f", file, "--wait")


@pytest.fixture(scope="module")
def generator(captioned: dict) -> str:
    step = next(step for step in captioned["steps"] if step["name"] == "finetune")
    return str(step["results"][0])


def client(home: Home, monkeypatch: pytest.MonkeyPatch) -> Client:
    for key, value in home.env().items():
        monkeypatch.setenv(key, value)
    return Client(settings=load_settings())


def test_it_reaches_a_verdict(home: Home, captioned: dict, generator: str) -> None:
    assert captioned["state"] == "STATE_SUCCEEDED"
    assert captioned["verdict"]["outcome"] in {"OUTCOME_HELPS", "OUTCOME_NO_EVIDENCE", "OUTCOME_HURTS"}
    found = home.json("generator", "get", generator.removeprefix("generators/"))
    assert found["base"].startswith("bases/")
    assert found["captions"]["2"] == "a photograph of an eye with 2"


def test_the_report_compares_its_captions_with_others(home: Home, captioned: dict, tmp_path: Path) -> None:
    home.run("run", "report", captioned["name"].removeprefix("runs/"), "-o", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "a photograph of class 2" in page
    assert "a photograph of an eye with 2" in page


def test_an_image_is_drawn_again_from_the_receipt_that_it_carries(
    home: Home, generator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client(home, monkeypatch) as server:
        for image in server.generate(generator, "2", count=2, seed=5):
            assert receipt_of(image.data)["base"] == image.receipt.base
            assert pixel_sha256(decode(image.data)) == image.receipt.pixel_sha256
            answer = server.regenerate(image.receipt)
            assert answer.same_pixels
            assert answer.image.receipt.draw == image.receipt.draw


def test_callers_who_share_the_device_get_what_each_would_get_alone(
    home: Home, generator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client(home, monkeypatch) as server:
        alone = {image.receipt.index: image.data for image in server.generate(generator, "3", count=9, seed=7)}
        together: dict[int, bytes] = {}

        def ask(first: int, count: int) -> None:
            for image in server.generate(generator, "3", count=count, seed=7, first_index=first):
                together[image.receipt.index] = image.data

        threads = [threading.Thread(target=ask, args=part) for part in ((0, 1), (1, 4), (5, 2), (7, 2))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert together == alone


def test_the_base_is_in_the_store_and_need_not_be_where_it_was(
    home: Home, captioned: dict, generator: str, tmp_path: Path
) -> None:
    base = home.json("generator", "get", generator.removeprefix("generators/"))["base"]
    file = tmp_path / "again.yaml"
    text = RUN_FILE.format(base=base).replace("name: captioned", "name: from-store").replace("steps: 10", "steps: 2")
    file.write_text(text)
    planned = home.json("run", "create", "-f", file, "--dry-run")
    assert planned["generator"]["stable_diffusion"]["base"] == base
    gone = tmp_path / "gone.yaml"
    gone.write_text(RUN_FILE.format(base="/nowhere/at-all").replace("name: captioned", "name: gone"))
    failed = home.run("run", "create", "-f", gone, "--wait", code=1)
    assert "BASE_NOT_FOUND" in failed.stderr
    assert "no other model is taken in its place" in failed.stderr
