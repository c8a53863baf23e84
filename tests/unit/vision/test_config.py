from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.shapes import item

from genaug.schema.classifiers import ClassifierDecay, TrainingOptions
from genaug.schema.common import Precision, TransformSpec
from genaug.schema.run import ScenarioSampling
from genaug.vision.training.config import TrainingConfig, batches


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
    plan = schedule(updates=20, batch_size=batch, seed=seed, sampling=ScenarioSampling.CLASS_BALANCED)
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


def test_a_job_item_has_the_whole_configuration() -> None:
    options = TrainingOptions(
        precision=Precision.BFLOAT16,
        decay=ClassifierDecay.PLATEAU,
        class_weights=True,
        augment=TransformSpec(shift=0.2),
    )
    fields = {
        "updates": 5,
        "batch_size": 2,
        "learning_rate": 0.1,
        "sampling": ScenarioSampling.CLASS_BALANCED,
        "seed": 3,
    }
    config = TrainingConfig.of(item(**fields, training=options))
    assert config == TrainingConfig(**fields, options=options)
    assert config != TrainingConfig.of(item(**fields))
