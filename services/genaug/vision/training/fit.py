"""The one training loop of classifiers. Counted in updates, so that scenarios of any size are trained alike."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from genaug.shared.digests import seed_of
from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.shared.manifest import Row
from genaug.shared.progress import ProgressCallback
from genaug.shared.store import Store
from genaug.vision.batching.minibatch import passes
from genaug.vision.features.feature_index import Shelf
from genaug.vision.features.inputs import load_inputs
from genaug.vision.images.augment import augmented
from genaug.vision.models.heads import LOGISTIC
from genaug.vision.models.networks import Network
from genaug.vision.models.precision import BFLOAT16
from genaug.vision.training.config import Epochs, Rate, TrainingConfig, batches

log = logging.getLogger(__name__)


# Looks at the validation rows, evenly spread over the updates, the last after the last update.
VALIDATIONS = 10
WEIGHT_DECAY = 0.01
# Inverse strength of the penalty of a logistic regression: five-fold recall on fundus features is flat around it.
LOGISTIC_C = 0.003

# Rows this small are trained on one thread: handing work to another costs more than doing it, and far more where
# several processes share the cores.
_TINY_ROW = 1280


@dataclass(frozen=True)
class Labelled:
    """Inputs of a network with their classes."""

    inputs: NDArray[Any]
    """One row per image, as `Network.prepare` gives them."""
    targets: NDArray[np.int64]
    """[n], indices into the label map."""


def load_labelled(
    store: Store,
    rows: Sequence[Row],
    network: Network,
    *,
    classes: Sequence[str],
    report: ProgressCallback,
    shelf: Shelf | None = None,
) -> Labelled:
    """The images of `rows`, whose classes are all in the label map `classes`, as `network` takes them.

    Args:
        store: Where the images are.
        rows: The rows.
        network: What takes them.
        classes: The label map.
        report: Told of images.
        shelf: Where features of a frozen backbone may lie.
    """
    index = {name: i for i, name in enumerate(classes)}
    targets = np.array([index[row.class_name] for row in rows], np.int64)
    inputs = load_inputs(store, rows, network, advance=lambda n: report(n, len(rows), "images"), shelf=shelf)
    return Labelled(inputs, targets)


def check_classes(training: Sequence[Row], *, classes: Sequence[str]) -> None:
    """Refuse a label map that cannot be learned from `training`.

    Raises:
        InvalidArgument: the label map names a class twice, or fewer than two.
        FailedPrecondition: reason CLASS_WITHOUT_IMAGES.
    """
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise InvalidArgument(
            f"classes: {list(classes)}; a label map has two classes or more, each once", reason="BAD_LABEL_MAP"
        )
    there = {row.class_name for row in training}
    missing = [name for name in classes if name not in there]
    if missing:
        raise FailedPrecondition(
            f"no training images of {', '.join(missing)}; leave these classes out", reason="CLASS_WITHOUT_IMAGES"
        )


@dataclass(frozen=True)
class Validated:
    """How a network did on validation rows after some update."""

    update: int
    macro_recall: float
    """Mean over classes of the share of their rows that are recognised, 0 to 1."""
    loss: float
    """Mean cross-entropy, nats."""

    @property
    def rank(self) -> tuple[float, float, int]:
        """Larger is better: macro recall, then lower loss, then earlier."""
        return (self.macro_recall, -self.loss, -self.update)


Advance = Callable[[int, str], None]
"""advance(updates done, how the last epoch went)."""


def train(
    network: Network,
    training: Labelled,
    *,
    schedule: TrainingConfig,
    validation: Labelled | None = None,
    advance: Advance = lambda update, note: None,
) -> list[Validated]:
    """Train `network` in place, on its device; leave it in eval mode.

    With `validation` the weights of the best of `VALIDATIONS` looks stay, without it those of the last update.

    Args:
        advance: Called after each update with the number of updates done, and with how the last epoch went.

    Returns:
        The looks, in order; the weights are those of the one with the highest `rank`. Empty without `validation`.

    Raises:
        InvalidArgument: the schedule asks for what this network cannot do.
    """
    schedule.check(network)
    with _steady(training), _seeded(network.device, schedule.seed):
        inputs = torch.from_numpy(training.inputs).to(network.device)
        targets = torch.from_numpy(training.targets).to(network.device)
        network.fit_inputs(inputs)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=schedule.learning_rate, weight_decay=WEIGHT_DECAY, fused=True
        )
        rate = Rate(optimiser, schedule)
        weights = _class_weights(training.targets, network) if schedule.class_weights else None
        due = {round(schedule.updates * (i + 1) / VALIDATIONS) for i in range(VALIDATIONS)}
        epoch = Epochs(len(training.targets), schedule)
        looks: list[Validated] = []
        best: dict[str, Tensor] = {}
        network.train()
        for update, rows in enumerate(batches(training.targets, schedule=schedule), start=1):
            chosen = torch.from_numpy(rows).to(network.device)
            logits = _logits(network, inputs[chosen], schedule=schedule, update=update)
            loss = nn.functional.cross_entropy(logits, targets[chosen], weight=weights)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            looked: Validated | None = None
            if validation is not None and (update in due or rate.asks(update)):
                looked = validate(network, validation, update=update)
                network.train()
            if looked and update in due:
                looks.append(looked)
                if looked is max(looks, key=lambda look: look.rank):
                    best = {key: value.clone() for key, value in network.state_dict().items()}
            rate.step(update, loss.detach(), looked.loss if looked else None)
            advance(update, epoch.note(update, loss.detach()))
        if best:
            network.load_state_dict(best)
    network.eval()
    return looks


def _logits(network: Network, inputs: Tensor, *, schedule: TrainingConfig, update: int) -> Tensor:
    """Logits, float32 [n, classes], of the rows of an update, changed and computed as the schedule has it."""
    if schedule.augment:
        inputs = augmented(inputs, schedule.augment, seed=schedule.seed, update=update)
    with torch.autocast(network.device.type, torch.bfloat16, enabled=schedule.precision == BFLOAT16):
        logits: Tensor = network(inputs)
    return logits.float()


def _class_weights(targets: NDArray[np.int64], network: Network) -> Tensor:
    """Of each class n / (classes × its rows), float32 [classes]; 0 for one without rows, whose loss never comes up."""
    counts = np.bincount(targets, minlength=network.classes)
    found = np.divide(len(targets), network.classes * counts, where=counts > 0, out=np.zeros(len(counts)))
    return torch.from_numpy(found.astype(np.float32)).to(network.device)


def fit(
    network: Network,
    training: Labelled,
    *,
    schedule: TrainingConfig,
    validation: Labelled | None = None,
    advance: Advance = lambda update, note: None,
) -> list[Validated]:
    """Train `network` as its head wants it: by `train`, or in closed form where the head is a logistic regression.

    Returns:
        As `train`. A logistic regression is looked at once, after what counts as the last update.
    """
    if network.spec["head"] != LOGISTIC:
        return train(network, training, schedule=schedule, validation=validation, advance=advance)
    schedule.check(network)
    fit_logistic(network, training)
    advance(schedule.updates, "")
    return [validate(network, validation, update=schedule.updates)] if validation is not None else []


def fit_logistic(network: Network, training: Labelled) -> None:
    """Fit the linear head of a frozen network by logistic regression, to convergence; leave it in eval mode.

    Classes weigh alike; the penalty is L2 with scikit-learn's C = `LOGISTIC_C` on standardised features.

    Args:
        training: Every class of the label map occurs in it.
    """
    inputs = torch.from_numpy(training.inputs).to(network.device)
    network.fit_inputs(inputs)
    with torch.inference_mode():
        features = network.embed(inputs).double().cpu().numpy()
    found = LogisticRegression(C=LOGISTIC_C, class_weight="balanced", max_iter=5000).fit(features, training.targets)
    weight, bias = found.coef_, found.intercept_
    if network.classes == 2:
        # One row says both classes: the other's logit is its opposite.
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    head = cast(nn.Linear, network.head)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
    network.eval()


def logits_of(network: Network, inputs: NDArray[Any]) -> NDArray[np.float32]:
    """Logits, float32 [n, classes], in eval mode."""
    network.eval()
    with torch.inference_mode():
        parts = [network(some)[:kept].float().cpu().numpy() for _, kept, some in passes(inputs, network.device)]
    return np.concatenate(parts) if parts else np.empty((0, network.classes), np.float32)


def validate(network: Network, validation: Labelled, *, update: int) -> Validated:
    """How `network` does on `validation` (at least one row) after `update` updates."""
    logits = torch.from_numpy(logits_of(network, validation.inputs)).double()
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(validation.targets)).item()
    return Validated(update, macro_recall(validation.targets, logits.argmax(1).numpy()), loss)


def macro_recall(targets: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Mean over the classes that occur in `targets` of the share of their rows that are recognised, 0 to 1."""
    return float(np.mean([(predicted[targets == index] == index).mean() for index in np.unique(targets)]))


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Dropout from a seed; torch's generators are afterwards as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed_of("dropout", seed))
        yield


@contextmanager
def _steady(training: Labelled) -> Iterator[None]:
    """Few threads for tiny rows, and the same result each time on an accelerator."""
    before = torch.get_num_threads()
    if training.inputs[0].size <= _TINY_ROW:
        torch.set_num_threads(1)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(before)
