from __future__ import annotations

import pytest
from tests.shapes import CLASSES, item, put_image, put_version, real_rows, shape

from genaug.evaluation.train_evaluator import train_evaluator
from genaug.schema.classifiers import Role
from genaug.schema.datasets import Dataset, Window
from genaug.schema.run import ScenarioSampling
from genaug.shared.errors import Cancelled, FailedPrecondition, InvalidArgument, PermissionDenied
from genaug.vision.models import classifiers

COUNTS = dict.fromkeys(CLASSES, 20)


def silent(done: int, total: int, unit: str, note: str = "") -> None:
    pass


@pytest.fixture
def rows(stores):
    store = stores("assembly")
    return real_rows(store, COUNTS) + real_rows(store, dict.fromkeys(CLASSES, 10), split="validation", first=1000)


def test_an_evaluator_is_trained_once(stores, rows) -> None:
    put_version(stores("assembly"), rows)
    said: list[tuple[int, int, str]] = []
    window = Window(low=-1000, high=1000, rule="given")
    stores("assembly").put_new_json("datasets/shapes/dataset.json", Dataset(window=window).json_value())
    name = train_evaluator(
        item(), stores("train"), lambda done, total, unit, note="": said.append((done, total, unit)), device="cpu"
    )
    assert name == item().result
    assert said[:-60] == [(60, 60, "images"), (30, 30, "images")]
    assert said[-60:] == [(i, 60, "updates") for i in range(1, 61)]
    record = classifiers.read_record(stores("train"), name)
    assert record.macro_recall > 0.9
    assert record.best_update in range(6, 61, 6)
    assert record.window == window
    assert (record.role, record.temperature, record.thresholds) == (Role.EVALUATOR, 1.0, {})
    assert record.dataset_version == item().dataset_version
    said.clear()
    assert train_evaluator(item(), stores("train"), lambda *far: said.append(far), device="cpu") == name
    assert said == []


def test_made_rows_train_too(stores, rows) -> None:
    """A class whose only training images are made is learned."""
    store = stores("assembly")
    made = [
        put_image(store, shape("stands", seed=5000 + i), "stands", folder="draws", split="train", source="synthetic")
        for i in range(20)
    ]
    put_version(store, [row for row in rows if row.split != "train" or row.class_name != "stands"] + made)
    name = train_evaluator(item(), stores("train"), silent, device="cpu")
    assert classifiers.read_record(stores("train"), name).macro_recall > 0.9


def test_a_made_row_in_validation_is_refused(stores, rows) -> None:
    store = stores("assembly")
    made = put_image(store, shape("lies", seed=1), "lies", split="validation", source="synthetic")
    put_version(store, [*rows, made])
    with pytest.raises(InvalidArgument) as caught:
        train_evaluator(item(), stores("train"), silent, device="cpu")
    assert caught.value.reason == "MADE_ROW_OUTSIDE_TRAINING"


def test_each_class_needs_training_images(stores, rows) -> None:
    put_version(stores("assembly"), [row for row in rows if row.split != "train" or row.class_name != "lies"])
    with pytest.raises(FailedPrecondition, match="lies"):
        train_evaluator(item(), stores("train"), silent, device="cpu")


def test_validation_images_are_needed(stores, rows) -> None:
    put_version(stores("assembly"), [row for row in rows if row.split == "train"])
    with pytest.raises(FailedPrecondition) as caught:
        train_evaluator(item(), stores("train"), silent, device="cpu")
    assert caught.value.reason == "NO_VALIDATION_IMAGES"


def test_rows_outside_the_label_map_are_left_out(stores, rows) -> None:
    put_version(stores("assembly"), rows)
    wanted = item(classes=("lies", "stands"), updates=20)
    name = train_evaluator(wanted, stores("train"), silent, device="cpu")
    assert classifiers.load(stores("train"), name, device="cpu").classes == ("lies", "stands")


def test_the_seal_stays_shut(stores, rows) -> None:
    """A row that leads to a sealed image cannot be trained on: the identity may not read it."""
    sealed = put_image(stores("assembly"), shape("lies", seed=7), "lies", folder="sealed/images", split="train")
    put_version(stores("assembly"), [*rows, sealed])
    with pytest.raises(PermissionDenied):
        train_evaluator(item(), stores("train"), silent, device="cpu")


def test_the_same_item_gives_the_same_weights(stores, rows) -> None:
    put_version(stores("assembly"), rows)
    store = stores("train")
    wanted = item(updates=10, sampling=ScenarioSampling.CLASS_BALANCED)
    name = train_evaluator(wanted, store, silent, device="cpu")
    first = store.get(f"{name}/model.safetensors").split(b'"head.bias"')[1][-4000:]
    for key in ("model.safetensors", "config.json", "classifier.json"):
        store.delete(f"{name}/{key}")
    train_evaluator(wanted, store, silent, device="cpu")
    assert store.get(f"{name}/model.safetensors").split(b'"head.bias"')[1][-4000:] == first


def test_a_training_that_is_cancelled_leaves_nothing_half_written(stores, rows) -> None:
    put_version(stores("assembly"), rows)

    def cancel(done: int, total: int, unit: str, note: str = "") -> None:
        if (done, unit) == (5, "updates"):
            raise Cancelled("told to end", reason="CANCELLED")

    with pytest.raises(Cancelled):
        train_evaluator(item(), stores("train"), cancel, device="cpu")
    assert not list(stores("train").list("classifiers/"))
    assert train_evaluator(item(), stores("train"), silent, device="cpu") == item().result
