from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genaug.shared.errors import InvalidArgument
from genaug.vision.images.augment import Ranges
from genaug.vision.models.precision import BFLOAT16
from genaug.vision.training.config import CLASS_BALANCED, NATURAL, PLATEAU, TrainingConfig, batches


def schedule(**changes: object) -> TrainingConfig:
    return TrainingConfig(**{"updates": 50, "batch_size": 16, "learning_rate": 0.005, **changes})  # type: ignore[arg-type]


@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=5),
    batch=st.integers(1, 40),
    seed=st.integers(0, 2**53),
)
@settings(max_examples=30)
def test_natural_order_takes_every_row_alike(counts: list[int], batch: int, seed: int) -> None:
    targets = np.repeat(np.arange(len(counts)), counts)
    found = list(batches(targets, schedule=schedule(updates=20, batch_size=batch, seed=seed)))
    assert [len(rows) for rows in found] == [batch] * 20
    times = np.bincount(np.concatenate(found), minlength=len(targets))
    assert times.max() - times.min() <= 1


@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=5),
    batch=st.integers(1, 40),
    seed=st.integers(0, 2**53),
)
@settings(max_examples=30)
def test_balanced_order_takes_every_class_alike(counts: list[int], batch: int, seed: int) -> None:
    targets = np.repeat(np.arange(len(counts)), counts)
    plan = schedule(updates=20, batch_size=batch, seed=seed, sampling=CLASS_BALANCED)
    found = list(batches(targets, schedule=plan))
    for rows in found:
        classes = np.bincount(targets[rows], minlength=len(counts))
        assert classes.max() - classes.min() <= 2
    times = np.bincount(np.concatenate(found), minlength=len(targets))
    for index in range(len(counts)):
        own = times[targets == index]
        assert own.max() - own.min() <= 1


def test_the_order_depends_on_the_seed() -> None:
    targets = np.repeat(np.arange(3), 20)
    first, again, other = (np.concatenate(list(batches(targets, schedule=schedule(seed=s)))) for s in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize(
    "wrong", [{"updates": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")}]
)
def test_a_schedule_refuses_what_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        schedule(**wrong)


def test_a_schedule_knows_its_samplings() -> None:
    assert {schedule(sampling=name).sampling for name in (NATURAL, CLASS_BALANCED)} == {NATURAL, CLASS_BALANCED}
    with pytest.raises(InvalidArgument, match="SAMPLING_ODD"):
        schedule(sampling="SAMPLING_ODD")


def test_an_item_says_them() -> None:
    item = {"updates": 5, "batch_size": 2, "learning_rate": 0.1, "sampling": NATURAL, "seed": 3}
    assert TrainingConfig.of(item) == TrainingConfig(5, 2, 0.1, NATURAL, 3)
    options = {"precision": BFLOAT16, "decay": PLATEAU, "class_weights": True, "augment": {"shift": 0.2}}
    found = TrainingConfig.of({**item, "training": options})
    assert (found.precision, found.decay, found.class_weights) == (BFLOAT16, PLATEAU, True)
    assert found.augment == Ranges(shift=0.2)


@pytest.mark.parametrize("changes", [{"precision": "PRECISION_INT8"}, {"decay": "DECAY_SOME"}])
def test_unknown_ones_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        schedule(**changes)
    assert caught.value.reason == "BAD_SCHEDULE"
