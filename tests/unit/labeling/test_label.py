from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest
from tests.shapes import put_image

from genaug.labeling.label import (
    VERDICTS,
    Done,
    Labelled,
    Labelling,
    Mode,
    acceptances,
    judge,
    label_batch,
    mode_of,
)
from genaug.labeling.predictor import check_labeler
from genaug.shared.errors import Cancelled, FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import Row, read_rows, write_rows
from genaug.vision.batching.dynamic_batcher import Seen
from genaug.vision.features.image_encoder import CachedEncoder, OrderedResults, Until
from genaug.vision.images.pixels import decode, is_constant
from genaug.vision.models.backbones import SMALL_CNN
from genaug.vision.models.classifiers import Classifier, save
from genaug.vision.models.networks import build_network
from genaug.vision.models.precision import BFLOAT16

LABELER = "classifiers/" + "1" * 32
BATCH = "batches/" + "2" * 32


class Remembered:
    """What `Brightness` makes of brightness that was kept."""

    feature_space = "brightness"

    def classify(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return features, np.stack([seen_of(float(light)).probabilities for light in features[:, 0]])


class Brightness:
    """Knows dark from light: the mean grey level says which, and how surely."""

    classes = ("dark", "light")
    thresholds = {"dark": 0.7, "light": 0.8}  # noqa: RUF012
    asked = 0

    def __init__(self) -> None:
        self.memory: CachedEncoder | None = CachedEncoder(Remembered())  # type: ignore[arg-type]

    def predict(self, images: Iterator[bytes], *, until: Until = lambda: True) -> OrderedResults:
        return OrderedResults(images, self._answer, window=4, until=until)

    def _answer(self, data: bytes) -> Future[Seen]:
        self.asked += 1
        future: Future[Seen] = Future()
        try:
            pixels = decode(data)
            future.set_result(Seen("CONSTANT") if is_constant(pixels) else seen_of(pixels.mean() / 255))
        except InvalidArgument as error:
            future.set_result(Seen("UNREADABLE", error.message))
        return future


def seen_of(light: float) -> Seen:
    features = np.array([light], np.float32)
    return Seen("OK", "", np.append(1 - features, features), features, features)


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
    monkeypatch.setattr("genaug.vision.features.feature_index.SHARD", 3)
    wanted, first = Labelling(LABELER, BATCH), Brightness()
    answers = iter([True, True, False])
    events = label_batch(wanted, stores("labeling"), lambda: first, until=lambda: next(answers))
    assert next(events) == Done(3, 8)
    with pytest.raises(Cancelled):
        next(events)
    assert not stores("labeling").exists(wanted.manifest)
    second = Brightness()
    assert list(label_batch(wanted, stores("labeling"), lambda: second))[:3] == [Done(3, 8), Done(6, 8), Done(8, 8)]
    assert second.asked == 5, "the shard that was finished is not seen again"


def test_what_was_kept_gives_the_same_labels(stores, batch) -> None:
    _, seen = labelled(stores)
    remembering = Brightness()
    _, recalled = labelled(stores, "MODE_TRUST_PROMPT", remembering)
    assert remembering.asked == 0
    assert [(row.label, row.probabilities) for row in recalled] == [(row.label, row.probabilities) for row in seen]
    assert recalled[-1].label_verdict == "degenerate"


def test_a_predictor_without_features_keeps_none(stores, batch) -> None:
    far = Brightness()
    far.memory = None
    labelled(stores, predictor=far)
    assert list(stores("labeling").list("embeddings/")) == []


def test_number_formats_have_their_own_results() -> None:
    assert Labelling(LABELER, BATCH).name != Labelling(LABELER, BATCH, precision=BFLOAT16).name


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
    for probability, verdict in ((0.81, "accepted"), (0.79, "unsure")):
        found = judge(row, seen_of(probability), Brightness(), mode="MODE_AGREE")
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
        check_labeler(stores("labeling"), "classifiers/0")
    assert caught.value.reason == "NOT_A_LABELER"
    check_labeler(stores("labeling"), "classifiers/1")


def test_modes_are_known_by_name() -> None:
    assert mode_of("MODE_TRUST_PROMPT") == "MODE_TRUST_PROMPT"
    with pytest.raises(InvalidArgument, match="MODE_AGREE"):
        mode_of("7")
