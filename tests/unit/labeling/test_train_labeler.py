from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.shapes import CLASSES, item, put_image, put_version, real_rows, shape

from genaug.labeling.train_labeler import PARTS, parts_of, train_labeler
from genaug.schema.classifiers import ClassifierDecay, ClassifierSpec, Role, TrainingOptions
from genaug.schema.common import Precision, TransformSpec
from genaug.schema.datasets import Dataset, Window
from genaug.schema.jobs import TrainItem
from genaug.shared.errors import FailedPrecondition
from genaug.shared.manifest import Row
from genaug.vision.models import classifiers


def labeler_item(**changes: Any) -> TrainItem:
    return item(**{"role": Role.LABELER, "seed": 1000, "updates": 40, **changes})


def silent(done: int, total: int, unit: str, note: str = "") -> None:
    pass


def test_a_labeler_is_trained_calibrated_and_kept(stores) -> None:
    put_version(stores("assembly"), real_rows(stores("assembly"), dict.fromkeys(CLASSES, 20)))
    window = Window(low=0, high=4095, rule="12 bits")
    stores("assembly").put_new_json("datasets/shapes/dataset.json", Dataset(window=window).json_value())
    progress: list[tuple[int, int, str]] = []

    def report(done: int, total: int, unit: str, note: str = "") -> None:
        progress.append((done, total, unit))

    name = train_labeler(labeler_item(), stores("train"), report, device="cpu")
    assert progress == [(60, 60, "images"), *((i, 160, "updates") for i in range(1, 161))]
    record = classifiers.read_record(stores("train"), name)
    assert name == labeler_item().result == record.name
    assert record.role == Role.LABELER
    assert record.best_update == record.updates == 40
    assert record.macro_recall > 0.9
    assert record.window == window
    assert set(record.thresholds) == set(CLASSES)
    loaded = classifiers.load(stores("labeling"), name, device="cpu", classes=CLASSES)
    assert loaded.thresholds == record.thresholds
    new = np.stack([shape(kind, seed=9000 + i) for kind in CLASSES for i in range(10)])
    assert (loaded.predict(new).argmax(axis=1) == np.repeat(np.arange(3), 10)).mean() > 0.9
    progress.clear()
    assert train_labeler(labeler_item(), stores("train"), report, device="cpu") == name
    assert not progress


def test_validation_and_made_rows_are_not_used(stores) -> None:
    """Their images are not even there."""
    store = stores("assembly")
    rows = real_rows(store, dict.fromkeys(CLASSES, 6))
    absent = [
        Row("f" * 32, "images/ff/none", "f" * 64, "f" * 64, "lies", split="validation", fold=1),
        Row("e" * 32, "draws/ee/none", "e" * 64, "e" * 64, "lies", split="train", source="synthetic"),
        Row("d" * 32, "draws/dd/none", "d" * 64, "d" * 64, "lies", split="train", source="transformed"),
    ]
    put_version(store, rows + absent)
    assert train_labeler(labeler_item(), stores("train"), silent, device="cpu")


@pytest.mark.parametrize("counts", [(1, 1, 1), (1, 2, 9), (2, 2, 2)])
def test_few_images_do_not_break_it(stores, counts: tuple[int, ...]) -> None:
    store = stores("assembly")
    put_version(store, real_rows(store, dict(zip(CLASSES, counts, strict=True))))
    name = train_labeler(labeler_item(), stores("train"), silent, device="cpu")
    assert all(0.5 <= t <= 0.99 for t in classifiers.read_record(stores("train"), name).thresholds.values())


def test_each_class_needs_a_real_training_image(stores) -> None:
    store = stores("assembly")
    made = put_image(store, shape("leans", seed=1), "leans", folder="draws", split="train", source="synthetic")
    put_version(store, [*real_rows(store, {"lies": 5, "stands": 5}), made])
    with pytest.raises(FailedPrecondition, match="leans"):
        train_labeler(labeler_item(), stores("train"), silent, device="cpu")


def test_out_of_fold_recall_is_honest(stores) -> None:
    """On noise, a network knows the classes of its training images and of no others."""
    store, rng = stores("assembly"), np.random.default_rng(0)
    rows = [
        put_image(
            store, rng.integers(0, 256, (8, 8, 1), np.uint8), CLASSES[i % 3], split="train", fold=i // 3 % 5,
            group_id=str(i),
        )
        for i in range(90)
    ]  # fmt: skip
    put_version(store, rows)
    name = train_labeler(labeler_item(), stores("train"), silent, device="cpu")
    assert classifiers.read_record(stores("train"), name).macro_recall < 0.55
    probabilities = classifiers.load(stores("train"), name, device="cpu").predict_rows(stores("train"), rows)
    assert (probabilities.argmax(axis=1) == np.arange(90) % 3).mean() > 0.9


def row(image: int, *, fold: int, group: str) -> Row:
    return Row(f"{image:032x}", "", "", "", "a", split="train", fold=fold, group_id=group)


@given(
    groups=st.lists(st.integers(1, 4), min_size=1, max_size=60),
    folds=st.integers(0, 7),
)
@settings(max_examples=60)
def test_no_group_is_in_two_parts(groups: list[int], folds: int) -> None:
    rows = [
        row(next(number), fold=index % folds if folds else -1, group=f"g{index}")
        for number in [itertools.count()]
        for index, size in enumerate(groups)
        for _ in range(size)
    ]
    parts = parts_of(rows)
    assert set(parts) <= set(range(PARTS))
    for group in {member.group_id for member in rows}:
        assert len({part for part, member in zip(parts, rows, strict=True) if member.group_id == group}) == 1
    assert len(set(parts)) == min(PARTS, len(groups))


def test_folds_stay_whole() -> None:
    rows = [row(i, fold=i % 5, group=f"g{i}") for i in range(50)]
    parts = parts_of(rows)
    assert all(len({parts[i] for i in range(50) if i % 5 == fold}) == 1 for fold in range(5))
    assert sorted(np.bincount(parts)) == [10, 20, 20]


def test_images_without_a_group_stand_for_themselves() -> None:
    assert sorted(np.bincount(parts_of([row(i, fold=-1, group="") for i in range(9)]))) == [3, 3, 3]


def test_a_labeler_for_8_bits_is_calibrated_for_them(stores, narrow_vgg19: ClassifierSpec) -> None:
    put_version(stores("assembly"), real_rows(stores("assembly"), dict.fromkeys(CLASSES, 6)))
    quantized = labeler_item(classifier=narrow_vgg19, quantized=True, updates=1, batch_size=2)
    name = train_labeler(quantized, stores("train"), silent, device="cpu")
    exact = classifiers.load(stores("labeling"), name, device="cpu")
    coarse = classifiers.load(stores("labeling"), name, device="cpu", precision=Precision.INT8)
    assert len(coarse.network.ranges) == 16
    assert coarse.feature_space != exact.feature_space
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(coarse.predict(pixels), exact.predict(pixels), atol=0.1)


def test_options_make_another_labeler(stores) -> None:
    put_version(stores("assembly"), real_rows(stores("assembly"), dict.fromkeys(CLASSES, 8)))
    options = TrainingOptions(
        decay=ClassifierDecay.PLATEAU, class_weights=True, augment=TransformSpec(rotate_degrees=5.0)
    )
    items = [labeler_item(updates=3), labeler_item(updates=3, training=options)]
    names = [train_labeler(entry, stores("train"), silent, device="cpu") for entry in items]
    assert names[0] != names[1]
    weights = [classifiers.load(stores("labeling"), name, device="cpu").network.head.weight for name in names]
    assert not np.array_equal(*(weight.detach().numpy() for weight in weights))
