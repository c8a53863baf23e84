"""How a classifier is trained: which rows each update sees, how fast it learns, and what is told of it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genaug.shared.digests import seed_of
from genaug.shared.errors import InvalidArgument
from genaug.vision.images.augment import Ranges
from genaug.vision.models.heads import LOGISTIC
from genaug.vision.models.networks import FROZEN, Network
from genaug.vision.models.precision import BFLOAT16, FLOAT32

log = logging.getLogger(__name__)

NATURAL = "SAMPLING_NATURAL"
CLASS_BALANCED = "SAMPLING_CLASS_BALANCED"
COSINE = "DECAY_COSINE"
PLATEAU = "DECAY_PLATEAU"

# The published study's decay on a plateau, in updates: its epochs are 7 of them (842 images by 128), and its learning
# rate falls after 10 epochs in which the loss did not fall by `_LEAST_FALL`.
PLATEAU_EVERY, _PATIENCE, _FACTOR, _LEAST_FALL, _LEAST_RATE = 7, 10, 0.75, 1e-4, 1e-6


@dataclass(frozen=True)
class TrainingConfig:
    """How a classifier is trained; the same for all scenarios of a comparison."""

    updates: int
    """Optimiser updates; there is no early stop."""
    batch_size: int
    """Rows per update."""
    learning_rate: float
    """AdamW's, at the first update."""
    sampling: str = NATURAL
    """`NATURAL` takes each row alike, `CLASS_BALANCED` each class alike."""
    seed: int = 0
    """Seed of the order of rows, of dropout and of what images are changed by."""
    precision: str = FLOAT32
    """`FLOAT32`, or `BFLOAT16` for autocast: weights and their updates stay in 32 bits."""
    decay: str = COSINE
    """`COSINE`: the learning rate falls to 0 along a half cosine. `PLATEAU`: by a quarter whenever the loss (of the
    validation rows, or of the updates where there are none) has not fallen for 70 updates."""
    class_weights: bool = False
    """Whether a row's loss counts by n / (classes × the rows of its class)."""
    augment: Ranges | None = None
    """How images are changed anew at each update; None for not at all."""

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> TrainingConfig:
        """The schedule of one item of a `train` Job."""
        options = dict(item.get("training", {}))
        if options.get("augment"):
            options["augment"] = Ranges(**options["augment"])
        return cls(
            item["updates"], item["batch_size"], item["learning_rate"], item["sampling"], item["seed"], **options
        )

    def check(self, network: Network) -> None:
        """Refuse what cannot be done with `network`.

        Raises:
            InvalidArgument: reason BAD_SCHEDULE.
        """
        wrong = ""
        if network.spec["tuning"] == FROZEN and (self.augment or self.precision != FLOAT32):
            wrong = "augment and precision: a frozen backbone's features are computed once; set tuning: FINE_TUNED"
        elif network.spec["head"] == LOGISTIC and (self.class_weights or self.decay != COSINE):
            wrong = "class_weights and decay: a logistic regression is fitted in closed form, with balanced classes"
        elif self.batch_size == 1 and any(isinstance(module, nn.BatchNorm1d) for module in network.modules()):
            wrong = "batch_size: 1; the published head normalises over the batch: take 2 or more"
        if wrong:
            raise InvalidArgument(wrong, reason="BAD_SCHEDULE")

    def __post_init__(self) -> None:
        if self.updates < 1 or self.batch_size < 1 or not self.learning_rate > 0:
            raise InvalidArgument(
                "a training needs updates ≥ 1, batch_size ≥ 1 and learning_rate > 0; "
                f"got {self.updates}, {self.batch_size}, {self.learning_rate}",
                reason="BAD_SCHEDULE",
            )
        if self.sampling not in (NATURAL, CLASS_BALANCED):
            raise InvalidArgument(
                f"sampling: {self.sampling!r}; there are {NATURAL} and {CLASS_BALANCED}", reason="BAD_SAMPLING"
            )
        if self.precision not in (FLOAT32, BFLOAT16) or self.decay not in (COSINE, PLATEAU):
            raise InvalidArgument(
                f"training: precision {self.precision!r} or decay {self.decay!r} is unknown; there are {FLOAT32} and "
                f"{BFLOAT16}, {COSINE} and {PLATEAU}",
                reason="BAD_SCHEDULE",
            )
        if self.augment:
            self.augment.check("training.augment")


class Rate:
    """Brings the learning rate down."""

    def __init__(self, optimiser: torch.optim.Optimizer, schedule: TrainingConfig) -> None:
        self._cosine: torch.optim.lr_scheduler.LambdaLR | None = None
        self._plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        self._losses: list[Tensor] = []
        if schedule.decay == COSINE:
            self._cosine = torch.optim.lr_scheduler.LambdaLR(
                optimiser, lambda u: (1 + math.cos(math.pi * u / schedule.updates)) / 2
            )
        else:
            # Keras, which the study used, lowers the rate at the tenth look without a fall; torch after it.
            self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimiser,
                factor=_FACTOR,
                patience=_PATIENCE - 1,
                threshold=_LEAST_FALL,
                threshold_mode="abs",
                min_lr=_LEAST_RATE,
            )

    def asks(self, update: int) -> bool:
        """Whether the loss of the validation rows counts after this update."""
        return self._plateau is not None and update % PLATEAU_EVERY == 0

    def step(self, update: int, loss: Tensor, validation_loss: float | None) -> None:
        """After each update: its loss, and that of the validation rows if they were asked."""
        if self._cosine:
            self._cosine.step()
        elif self._plateau:
            self._losses.append(loss)
            if self.asks(update):
                mean = torch.stack(self._losses).mean().item()
                self._plateau.step(mean if validation_loss is None else validation_loss)
                self._losses.clear()


class Epochs:
    """Says once per epoch, which is as many updates as show each row about once, how training goes."""

    def __init__(self, rows: int, schedule: TrainingConfig) -> None:
        self._every = max(1, math.ceil(rows / schedule.batch_size))
        self._updates = schedule.updates
        self._losses: list[Tensor] = []
        self._note = ""

    def note(self, update: int, loss: Tensor) -> str:
        """After each update: how the last whole epoch went; empty before its end."""
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

    NATURAL runs through all rows in a new order each time round. CLASS_BALANCED runs through the classes likewise, and
    through each class's rows: over an update, counts of classes differ by one at most.
    """
    rng = np.random.default_rng(seed_of("order of rows", schedule.seed))
    if schedule.sampling == NATURAL:
        rows = _rounds(np.arange(len(targets)), rng)
        for _ in range(schedule.updates):
            yield np.fromiter(rows, np.int64, schedule.batch_size)
        return
    present = np.unique(targets)
    classes = _rounds(present, rng)
    of_class = {int(index): _rounds(np.flatnonzero(targets == index), rng) for index in present}
    for _ in range(schedule.updates):
        yield np.array([next(of_class[next(classes)]) for _ in range(schedule.batch_size)], np.int64)


def _rounds(values: NDArray[np.int64], rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from rng.permutation(values).tolist()
