from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from tests.shapes import put_image

from genaug.labeling.predict import (
    VERDICTS,
    Done,
    Labelled,
    Labelling,
    Mode,
    acceptances,
    judge,
    label_batch,
    mode_of,
    open_predictor,
)
from genaug.shared.errors import Cancelled, FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import Row, read_rows, write_rows
from genaug.vision.backbones import SMALL_CNN
from genaug.vision.classifiers import Classifier, save
from genaug.vision.networks import build_network

LABELER = "classifiers/" + "1" * 32
BATCH = "batches/" + "2" * 32


class Brightness:
    """Knows dark from light: the mean grey level says which, and how surely."""

    classes = ("dark", "light")
    thresholds = {"dark": 0.7, "light": 0.8}  # noqa: RUF012
    image_size = 8
    detail = 0
    channels = 1
    asked = 0

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        self.asked += 1
        assert pixels.shape[1:] == (8, 8, 1)
        light = pixels.mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - light, light], axis=1).astype(np.float32)


def grey(level: int) -> np.ndarray:
    """An image with this mean that is not of one colour."""
    image = np.full((8, 8, 1), level, np.uint8)
    image[0, ::2], image[0, 1::2] = level - 5, level + 5
    return image


@pytest.fixture
def batch(stores):
    store = stores("generation")
    rows = [
        replace(put_image(store, grey(level), prompt, folder="draws", split="train", source="synthetic"), prompt=prompt)
        for prompt, level in [("dark", 20), ("dark", 120), ("dark", 240), ("light", 241), ("light", 21), ("light", 190)]
    ]
    constant = put_image(store, np.full((8, 8, 1), 9, np.uint8), "dark", folder="draws", split="train", prompt="dark")
    store.put_new("draws/00/broken", b"not an image")
    broken = Row("0" * 32, "draws/00/broken", "", "", "light", split="train", source="synthetic", prompt="light")
    rows += [constant, broken]
    write_rows(store, f"{BATCH}/manifest.parquet", rows)
    return rows


def labelled(stores, mode: Mode = "MODE_AGREE", predictor: object = None) -> tuple[Labelled, list[Row]]:
    wanted = Labelling(LABELER, BATCH, mode)
    *_, result = label_batch(wanted, stores("labeling"), lambda: predictor or Brightness())  # type: ignore[arg-type, return-value]
    assert isinstance(result, Labelled)
    return result, read_rows(stores("report"), result.manifest)


def test_agreement_above_the_threshold_is_accepted(stores, batch) -> None:
    result, rows = labelled(stores)
    assert [row.label_verdict for row in rows] == [
        "accepted",
        "unsure",
        "disagrees",
        "accepted",
        "disagrees",
        "unsure",
        "degenerate",
        "degenerate",
    ]
    assert [row.label for row in rows] == ["dark", "dark", "light", "light", "dark", "light", "", ""]
    assert [row.class_name for row in rows] == [row.prompt for row in batch]
    assert rows[0].probabilities == pytest.approx({"dark": 1 - 20 / 255, "light": 20 / 255}, abs=1e-4)
    assert rows[-1].probabilities == {}
    assert result.acceptances == {
        "dark": {"accepted": 1, "disagrees": 1, "unsure": 1, "degenerate": 1},
        "light": {"accepted": 1, "disagrees": 1, "unsure": 1, "degenerate": 1},
    }


def test_labelling_adds_and_changes_nothing_else(stores, batch) -> None:
    _, rows = labelled(stores)
    assert [replace(row, label="", probabilities={}, label_verdict="") for row in rows] == batch


def test_the_labeler_may_be_trusted(stores, batch) -> None:
    result, rows = labelled(stores, "MODE_TRUST_LABELER")
    assert [row.class_name for row in rows[:6]] == ["dark", "dark", "light", "light", "dark", "light"]
    assert [row.label_verdict for row in rows] == ["accepted"] * 6 + ["degenerate"] * 2
    assert result.acceptances["dark"] == {"accepted": 3, "disagrees": 0, "unsure": 0, "degenerate": 1}
    assert result.kept == {"dark": 3, "light": 3}, "counted as what they are kept as"
    crossed = Counter((row.prompt, row.label) for row in rows[:6])
    assert result.disagreements == crossed
    assert sum(crossed.values()) == 6, "degenerate images have no label"


def test_the_prompt_may_be_trusted(stores, batch) -> None:
    _, rows = labelled(stores, "MODE_TRUST_PROMPT")
    assert [row.class_name for row in rows] == [row.prompt for row in batch]
    assert [row.label_verdict for row in rows] == ["accepted"] * 6 + ["degenerate"] * 2
    assert rows[2].label == "light"


def test_modes_have_their_own_results(stores, batch) -> None:
    names = {labelled(stores, mode)[0].name for mode in ("MODE_AGREE", "MODE_TRUST_LABELER", "MODE_TRUST_PROMPT")}
    assert len(names) == 3


def test_asking_again_asks_nobody(stores, batch) -> None:
    first, _ = labelled(stores)

    def refuse() -> Brightness:
        raise AssertionError("the labeler was opened again")

    events = list(label_batch(Labelling(LABELER, BATCH), stores("labeling"), refuse))
    assert events == [first]


def test_progress_and_cancellation(stores, batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genaug.labeling.predict._CHUNK", 3)
    wanted = Labelling(LABELER, BATCH)
    answers = iter([True, False])
    events = label_batch(wanted, stores("labeling"), Brightness, until=lambda: next(answers))
    assert next(events) == Done(3, 8)
    with pytest.raises(Cancelled):
        next(events)
    assert not stores("labeling").exists(wanted.manifest)
    assert list(label_batch(wanted, stores("labeling"), Brightness))[:3] == [Done(3, 8), Done(6, 8), Done(8, 8)]


def test_a_lost_image_is_no_verdict(stores, batch) -> None:
    stores("generation").delete(batch[0].uri)
    with pytest.raises(NotFound):
        labelled(stores)


def test_prompts_outside_the_label_map_are_refused(stores, batch) -> None:
    odd = Brightness()
    odd.classes = ("dark", "bright")
    with pytest.raises(FailedPrecondition, match="light") as caught:
        labelled(stores, predictor=odd)
    assert caught.value.reason == "PROMPT_OUTSIDE_LABEL_MAP"


def test_a_probability_at_the_threshold_is_enough() -> None:
    row = Row("a" * 32, "", "", "", "light", split="train", source="synthetic", prompt="light")
    for probability, verdict in ((0.8, "accepted"), (0.79, "unsure")):
        found = judge(row, np.array([1 - probability, probability]), Brightness(), mode="MODE_AGREE")
        assert found.label_verdict == verdict


def test_every_verdict_is_counted() -> None:
    row = Row("a" * 32, "", "", "", "x", split="train", prompt="x")
    found = acceptances([replace(row, label_verdict=verdict) for verdict in VERDICTS for _ in range(2)])
    assert found == {"x": dict.fromkeys(VERDICTS, 2)}


def test_an_evaluator_is_no_labeler(stores) -> None:
    network = build_network(SMALL_CNN, image_size=8, channels=1, classes=2, seed=0)
    for number, role in enumerate(("ROLE_EVALUATOR", "ROLE_LABELER")):
        model = Classifier(("a", "b"), network, thresholds={"a": 0.5, "b": 0.5})
        save(stores("train"), model, name=f"classifiers/{number}", record={"role": role})
    with pytest.raises(FailedPrecondition) as caught:
        open_predictor(stores("labeling"), "classifiers/0", device="cpu")
    assert caught.value.reason == "NOT_A_LABELER"
    assert open_predictor(stores("labeling"), "classifiers/1", device="cpu").classes == ("a", "b")


def test_modes_are_known_by_name() -> None:
    assert mode_of("MODE_TRUST_PROMPT") == "MODE_TRUST_PROMPT"
    with pytest.raises(InvalidArgument, match="MODE_AGREE"):
        mode_of("7")
