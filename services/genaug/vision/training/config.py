"""Configuration of a classifier's training: rows of each update, learning rate, and the log of epochs."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genaug.schema.classifiers import ClassifierDecay, TrainingOptions
from genaug.schema.jobs import TrainItem
from genaug.schema.run import ScenarioSampling
from genaug.shared.digests import seed_of

log = logging.getLogger(__name__)

# The published study's decay on a plateau, in updates: its epochs are 7 of them (842 images by 128), and its learning
# rate falls after 10 epochs in which the loss did not fall by `_LEAST_FALL`.
PLATEAU_EVERY, _PATIENCE, _FACTOR, _LEAST_FALL, _LEAST_RATE = 7, 10, 0.75, 1e-4, 1e-6


@dataclass(frozen=True)
class TrainingConfig:
    """Training of a classifier; the same for all scenarios of a comparison."""

    updates: int
    """Optimizer updates; there is no early stop."""
    batch_size: int
    """Rows per update."""
    learning_rate: float
    """AdamW's, at the first update."""
    sampling: ScenarioSampling = ScenarioSampling.NATURAL
    """NATURAL takes all rows equally often, CLASS_BALANCED all classes."""
    seed: int = 0
    """Seed of the order of rows, of dropout and of data augmentation."""
    options: TrainingOptions = field(default_factory=TrainingOptions)
    """BFLOAT16 is autocast: weights and their updates stay in 32 bits. A COSINE decay brings the learning rate to 0
    along a half cosine; PLATEAU lowers it by a quarter whenever the loss (of the validation rows, or of the updates
    where there are none) has not fallen for 70 updates. Class weights are n / (classes × rows of the class)."""

    @classmethod
    def of(cls, item: TrainItem) -> TrainingConfig:
        """The configuration of one classifier of a `train` Job."""
        return cls(item.updates, item.batch_size, item.learning_rate, item.sampling, item.seed, item.training)


class LearningRateDecay:
    """Lowers an optimizer's learning rate."""

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: TrainingConfig) -> None:
        self._cosine: torch.optim.lr_scheduler.LambdaLR | None = None
        self._plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        self._losses: list[Tensor] = []
        if schedule.options.decay == ClassifierDecay.COSINE:
            self._cosine = torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda u: (1 + math.cos(math.pi * u / schedule.updates)) / 2
            )
        else:
            # Keras, which the study used, lowers the rate at the tenth check without a fall; torch after it.
            self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer,
                factor=_FACTOR,
                patience=_PATIENCE - 1,
                threshold=_LEAST_FALL,
                threshold_mode="abs",
                min_lr=_LEAST_RATE,
            )

    def needs_validation(self, update: int) -> bool:
        """Whether the decay depends on the validation loss after this update."""
        return self._plateau is not None and update % PLATEAU_EVERY == 0

    def step(self, update: int, loss: Tensor, validation_loss: float | None) -> None:
        """Record an update.

        Args:
            update: Counted from 1.
            loss: The update's.
            validation_loss: None if it was not computed.
        """
        if self._cosine:
            self._cosine.step()
        elif self._plateau:
            self._losses.append(loss)
            if self.needs_validation(update):
                mean = torch.stack(self._losses).mean().item()
                self._plateau.step(mean if validation_loss is None else validation_loss)
                self._losses.clear()


class EpochLog:
    """Mean loss of each epoch, which is as many updates as show each row about once."""

    def __init__(self, rows: int, schedule: TrainingConfig) -> None:
        self._every = max(1, math.ceil(rows / schedule.batch_size))
        self._updates = schedule.updates
        self._losses: list[Tensor] = []
        self._note = ""

    def note(self, update: int, loss: Tensor) -> str:
        """Record an update; return the note on the last whole epoch, empty before its end."""
        self._losses.append(loss)
        if update % self._every == 0 or update == self._updates:
            epoch, epochs = math.ceil(update / self._every), math.ceil(self._updates / self._every)
            mean = torch.stack(self._losses).mean().item()
            self._losses.clear()
            self._note = f"epoch {epoch} of {epochs}, loss {mean:.3f}"
            log.debug("epoch", extra={"epoch": epoch, "epochs": epochs, "update": update, "loss": round(mean, 4)})
        return self._note


def batches(targets: NDArray[np.int64], *, schedule: TrainingConfig) -> Iterator[NDArray[np.int64]]:
    """Rows of each update, [batch_size]; a function of the targets and the schedule alone.

    NATURAL runs through all rows, in a new order each time. CLASS_BALANCED runs through the classes likewise, and
    through each class's rows: over an update, counts of classes differ by one at most.
    """
    rng = np.random.default_rng(seed_of("order of rows", schedule.seed))
    if schedule.sampling == ScenarioSampling.NATURAL:
        rows = _shuffled_forever(np.arange(len(targets)), rng)
        for _ in range(schedule.updates):
            yield np.fromiter(rows, np.int64, schedule.batch_size)
        return
    present = np.unique(targets)
    classes = _shuffled_forever(present, rng)
    of_class = {int(index): _shuffled_forever(np.flatnonzero(targets == index), rng) for index in present}
    for _ in range(schedule.updates):
        yield np.array([next(of_class[next(classes)]) for _ in range(schedule.batch_size)], np.int64)


def _shuffled_forever(values: NDArray[np.int64], rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from rng.permutation(values).tolist()
