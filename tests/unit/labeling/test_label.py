from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest
from tests.shapes import SMALL, put_image

from genaug.labeling.label import VERDICTS, LabelingProgress, label_batch, label_row, result_name, summary
from genaug.labeling.predictor import check_labeler
from genaug.schema.classifiers import Classifier, Role
from genaug.schema.common import ClassCount, Precision
from genaug.schema.requests import Acceptance, Disagreement, LabelledBatch, LabelRequest
from genaug.schema.run import LabelingMode
from genaug.shared.digests import digest_of
from genaug.shared.errors import Cancelled, FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import Row, read_rows, write_rows
from genaug.vision.batching.dynamic_batcher import ImageResult
from genaug.vision.features.image_encoder import CachedEncoder, IsActive, OrderedResults
from genaug.vision.images.pixels import decode, is_constant
from genaug.vision.models.classifiers import TrainedClassifier, save
from genaug.vision.models.networks import build_network

LABELER = "classifiers/" + "1" * 32
BATCH = "batches/" + "2" * 32
REQUEST = LabelRequest(classifier=LABELER, batch=BATCH)


class CachedBrightness:
    """The head of `Brightness`, on stored features."""

    feature_space = "brightness"

    def classify(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return features, np.stack([result_of(float(light)).probabilities for light in features[:, 0]])


class Brightness:
    """Predictor of dark and light from the mean grey level."""

    classes = ("dark", "light")
    thresholds = {"dark": 0.7, "light": 0.8}  # noqa: RUF012
    images = 0
    """Images that were classified."""

    def __init__(self) -> None:
        self.cached: CachedEncoder | None = CachedEncoder(CachedBrightness())  # type: ignore[arg-type]

    def predict(self, images: Iterator[bytes], *, is_active: IsActive = lambda: True) -> OrderedResults:
        return OrderedResults(images, self._submit, window=4, is_active=is_active)

    def _submit(self, data: bytes) -> Future[ImageResult]:
        self.images += 1
        future: Future[ImageResult] = Future()
        try:
            pixels = decode(data)
            future.set_result(ImageResult("CONSTANT") if is_constant(pixels) else result_of(pixels.mean() / 255))
        except InvalidArgument as error:
            future.set_result(ImageResult("UNREADABLE", error.message))
        return future


def result_of(light: float) -> ImageResult:
    features = np.array([light], np.float32)
    return ImageResult("OK", "", np.append(1 - features, features), features, features)


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


def labelled(
    stores, mode: LabelingMode = LabelingMode.AGREE, predictor: object = None
) -> tuple[LabelledBatch, list[Row]]:
    request = REQUEST.replace(mode=mode)
    *_, result = label_batch(request, stores("labeling"), lambda: predictor or Brightness())  # type: ignore[arg-type, return-value]
    assert isinstance(result, LabelledBatch)
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
    assert result.acceptances == tuple(
        Acceptance(class_name=prompt, accepted=1, disagrees=1, unsure=1, degenerate=1) for prompt in ("dark", "light")
    )


def test_labelling_adds_and_changes_nothing_else(stores, batch) -> None:
    _, rows = labelled(stores)
    assert [replace(row, label="", probabilities={}, label_verdict="") for row in rows] == batch


def test_the_labeler_may_be_trusted(stores, batch) -> None:
    result, rows = labelled(stores, LabelingMode.TRUST_LABELER)
    assert [row.class_name for row in rows[:6]] == ["dark", "dark", "light", "light", "dark", "light"]
    assert [row.label_verdict for row in rows] == ["accepted"] * 6 + ["degenerate"] * 2
    assert result.acceptances[0] == Acceptance(class_name="dark", accepted=3, degenerate=1)
    assert result.kept == (ClassCount(class_name="dark", count=3), ClassCount(class_name="light", count=3))
    pairs = Counter((row.prompt, row.label) for row in rows[:6])
    assert result.disagreements == tuple(
        Disagreement(class_name=prompt, label=label, count=count) for (prompt, label), count in sorted(pairs.items())
    )
    assert sum(pairs.values()) == 6, "degenerate images have no label"


def test_the_prompt_may_be_trusted(stores, batch) -> None:
    _, rows = labelled(stores, LabelingMode.TRUST_PROMPT)
    assert [row.class_name for row in rows] == [row.prompt for row in batch]
    assert [row.label_verdict for row in rows] == ["accepted"] * 6 + ["degenerate"] * 2
    assert rows[2].label == "light"


def test_modes_have_their_own_results(stores, batch) -> None:
    names = {labelled(stores, mode)[0].name for mode in LabelingMode}
    assert len(names) == 3


def test_an_existing_result_is_returned(stores, batch) -> None:
    first, _ = labelled(stores)

    def refuse() -> Brightness:
        raise AssertionError("the labeler was opened again")

    events = list(label_batch(REQUEST, stores("labeling"), refuse))
    assert events == [first]


def test_progress_and_cancellation(stores, batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genaug.vision.features.feature_index.SHARD", 3)
    first, answers = Brightness(), iter([True, True, False])
    events = label_batch(REQUEST, stores("labeling"), lambda: first, is_active=lambda: next(answers))
    assert next(events) == LabelingProgress(3, 8)
    with pytest.raises(Cancelled):
        next(events)
    assert not stores("labeling").exists(f"{result_name(REQUEST)}/manifest.parquet")
    second = Brightness()
    *progress, _ = label_batch(REQUEST, stores("labeling"), lambda: second)
    assert progress == [LabelingProgress(done, 8) for done in (3, 6, 8)]
    assert second.images == 5, "images of the finished shard are not read again"


def test_stored_features_give_the_same_labels(stores, batch) -> None:
    _, from_images = labelled(stores)
    labeler = Brightness()
    _, rows = labelled(stores, LabelingMode.TRUST_PROMPT, labeler)
    assert labeler.images == 0
    assert [(row.label, row.probabilities) for row in rows] == [(row.label, row.probabilities) for row in from_images]
    assert rows[-1].label_verdict == "degenerate"


def test_a_predictor_without_features_keeps_none(stores, batch) -> None:
    remote = Brightness()
    remote.cached = None
    labelled(stores, predictor=remote)
    assert list(stores("labeling").list("embeddings/")) == []


def test_number_formats_have_their_own_results() -> None:
    assert result_name(REQUEST) != result_name(REQUEST.replace(precision=Precision.BFLOAT16))


def test_results_keep_their_names() -> None:
    """Labels of earlier releases are found again: names are digests of the same JSON."""
    inputs = {"classifier": LABELER, "batch": BATCH, "mode": "MODE_AGREE", "precision": "PRECISION_FLOAT32"}
    assert result_name(REQUEST) == f"labels/{digest_of('label/2', inputs)}" == "labels/9d4ce4c0cda93533808752367ad0302f"


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
        assert label_row(row, result_of(probability), Brightness(), mode=LabelingMode.AGREE).label_verdict == verdict


def test_every_verdict_is_counted() -> None:
    row = Row("a" * 32, "", "", "", "x", split="train", prompt="x")
    batch = summary("labels/x", [replace(row, label_verdict=verdict) for verdict in VERDICTS for _ in range(2)])
    assert batch.acceptances == (Acceptance(class_name="x", accepted=2, disagrees=2, unsure=2, degenerate=2),)


def test_an_evaluator_is_no_labeler(stores) -> None:
    network = build_network(SMALL, channels=1, classes=2, seed=0)
    for number, role in enumerate((Role.EVALUATOR, Role.LABELER)):
        trained = TrainedClassifier(("a", "b"), network, thresholds={"a": 0.5, "b": 0.5})
        save(stores("train"), trained, name=f"classifiers/{number}", record=Classifier(role=role))
    with pytest.raises(FailedPrecondition) as caught:
        check_labeler(stores("labeling"), "classifiers/0")
    assert caught.value.reason == "NOT_A_LABELER"
    check_labeler(stores("labeling"), "classifiers/1")
