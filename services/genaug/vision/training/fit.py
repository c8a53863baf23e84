"""The one training loop of classifiers. Counted in updates, so that scenarios of any size are trained alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from genaug.schema.classifiers import Head
from genaug.schema.common import Precision
from genaug.shared.digests import seed_of
from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.shared.manifest import Row
from genaug.shared.progress import ProgressCallback
from genaug.shared.store import Store
from genaug.vision.batching.minibatch import minibatches
from genaug.vision.features.feature_index import FeatureIndex
from genaug.vision.features.inputs import load_inputs
from genaug.vision.images.augment import augmented
from genaug.vision.models.networks import Network
from genaug.vision.training.config import EpochLog, LearningRateDecay, TrainingConfig, batches

# Validations of a training, evenly spread over the updates, the last after the last update.
VALIDATIONS = 10
WEIGHT_DECAY = 0.01
# Inverse strength of the penalty of a logistic regression: five-fold recall on fundus features is flat around it.
LOGISTIC_C = 0.003

# Rows with up to so many values are trained on one thread: distributing the work costs more than doing it, and far
# more where several processes share the cores.
_TINY_ROW = 1280


@dataclass(frozen=True)
class Labelled:
    """Inputs of a network with their classes."""

    inputs: NDArray[Any]
    """One row per image, as `Network.preprocess` gives them."""
    targets: NDArray[np.int64]
    """[n], indices into the label map."""


def load_labelled(
    store: Store,
    rows: Sequence[Row],
    network: Network,
    *,
    classes: Sequence[str],
    report: ProgressCallback,
    features: FeatureIndex | None = None,
) -> Labelled:
    """Load the inputs of `network` for `rows`, with their classes.

    Args:
        store: Source of the images.
        rows: Of classes in the label map.
        network: Its `preprocess` turns images into inputs.
        classes: The label map.
        report: Progress callback, in images.
        features: Index of stored features of a frozen backbone; new features are written to its shards.
    """
    index = {name: i for i, name in enumerate(classes)}
    targets = np.array([index[row.class_name] for row in rows], np.int64)
    inputs = load_inputs(store, rows, network, advance=lambda n: report(n, len(rows), "images"), features=features)
    return Labelled(inputs, targets)


def check_classes(training: Sequence[Row], *, classes: Sequence[str]) -> None:
    """Refuse a label map that cannot be learnt from `training`.

    Raises:
        InvalidArgument: the label map names a class twice, or fewer than two.
        FailedPrecondition: reason CLASS_WITHOUT_IMAGES.
    """
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise InvalidArgument(
            f"classes: {list(classes)}; a label map has two classes or more, each once", reason="BAD_LABEL_MAP"
        )
    present = {row.class_name for row in training}
    missing = [name for name in classes if name not in present]
    if missing:
        raise FailedPrecondition(
            f"no training images of {', '.join(missing)}; leave these classes out", reason="CLASS_WITHOUT_IMAGES"
        )


@dataclass(frozen=True)
class ValidationScore:
    """Score of a network on validation rows after some update."""

    update: int
    macro_recall: float
    """Mean over classes of their recall, 0 to 1."""
    loss: float
    """Mean cross-entropy, nats."""

    @property
    def rank(self) -> tuple[float, float, int]:
        """Sort key, larger is better: macro recall, then lower loss, then earlier."""
        return (self.macro_recall, -self.loss, -self.update)


UpdateCallback = Callable[[int, str], None]
"""Progress after each update: (updates done, note on the last epoch)."""


def train(
    network: Network,
    training: Labelled,
    *,
    schedule: TrainingConfig,
    validation: Labelled | None = None,
    advance: UpdateCallback = lambda update, note: None,
) -> list[ValidationScore]:
    """Train `network` in place, on its device; leave it in eval mode.

    With `validation` the weights of the best of `VALIDATIONS` validations stay, without it those of the last update.

    Args:
        advance: Progress callback.

    Returns:
        The validations, in order; the weights are those of the one with the highest `rank`. Empty without `validation`.
    """
    with _reproducible(training), _seeded(network.device, schedule.seed):
        inputs = torch.from_numpy(training.inputs).to(network.device)
        targets = torch.from_numpy(training.targets).to(network.device)
        network.fit_inputs(inputs)
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=schedule.learning_rate, weight_decay=WEIGHT_DECAY, fused=True
        )
        decay = LearningRateDecay(optimizer, schedule)
        weights = _class_weights(training.targets, network) if schedule.options.class_weights else None
        due = {round(schedule.updates * (i + 1) / VALIDATIONS) for i in range(VALIDATIONS)}
        epochs = EpochLog(len(training.targets), schedule)
        scores: list[ValidationScore] = []
        best: dict[str, Tensor] = {}
        network.train()
        for update, rows in enumerate(batches(training.targets, schedule=schedule), start=1):
            batch = torch.from_numpy(rows).to(network.device)
            logits = _logits(network, inputs[batch], schedule=schedule, update=update)
            loss = nn.functional.cross_entropy(logits, targets[batch], weight=weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            score: ValidationScore | None = None
            if validation is not None and (update in due or decay.needs_validation(update)):
                score = validate(network, validation, update=update)
                network.train()
            if score and update in due:
                scores.append(score)
                if score is max(scores, key=lambda score: score.rank):
                    best = {key: value.clone() for key, value in network.state_dict().items()}
            decay.step(update, loss.detach(), score.loss if score else None)
            advance(update, epochs.note(update, loss.detach()))
        if best:
            network.load_state_dict(best)
    network.eval()
    return scores


def _logits(network: Network, inputs: Tensor, *, schedule: TrainingConfig, update: int) -> Tensor:
    """Logits, float32 [n, classes], of the rows of an update, after data augmentation."""
    options = schedule.options
    if options.augment:
        inputs = augmented(inputs, options.augment, seed=schedule.seed, update=update)
    with torch.autocast(network.device.type, torch.bfloat16, enabled=options.precision == Precision.BFLOAT16):
        logits: Tensor = network(inputs)
    return logits.float()


def _class_weights(targets: NDArray[np.int64], network: Network) -> Tensor:
    """Weight n / (classes × rows of the class) of each class, float32 [classes]; 0 for a class without rows.

    Without rows, which scikit-learn's own function refuses, a class never occurs in the loss: a labeler's out-of-fold
    networks may lack one.
    """
    counts = np.bincount(targets, minlength=network.classes)
    weights = np.divide(len(targets), network.classes * counts, where=counts > 0, out=np.zeros(len(counts)))
    return torch.from_numpy(weights.astype(np.float32)).to(network.device)


def fit(
    network: Network,
    training: Labelled,
    *,
    schedule: TrainingConfig,
    validation: Labelled | None = None,
    advance: UpdateCallback = lambda update, note: None,
) -> list[ValidationScore]:
    """Train `network` by `train`, or in closed form if its head is a logistic regression.

    Returns:
        As `train`. A logistic regression is validated once, as if after the last update.
    """
    if network.spec.head != Head.LOGISTIC:
        return train(network, training, schedule=schedule, validation=validation, advance=advance)
    fit_logistic(network, training)
    advance(schedule.updates, "")
    return [validate(network, validation, update=schedule.updates)] if validation is not None else []


def fit_logistic(network: Network, training: Labelled) -> None:
    """Fit the linear head of a frozen network by logistic regression, to convergence; leave it in eval mode.

    Classes have equal weight; the penalty is L2 with scikit-learn's C = `LOGISTIC_C` on standardized features.

    Args:
        training: With rows of every class of the label map.
    """
    inputs = torch.from_numpy(training.inputs).to(network.device)
    network.fit_inputs(inputs)
    with torch.inference_mode():
        features = network.embed(inputs).double().cpu().numpy()
    model = LogisticRegression(C=LOGISTIC_C, class_weight="balanced", max_iter=5000).fit(features, training.targets)
    weight, bias = model.coef_, model.intercept_
    if network.classes == 2:
        # scikit-learn fits one logit, the difference of ours: half of it for each class, with opposite signs.
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
        parts = [
            network(batch)[:count].float().cpu().numpy() for _, count, batch in minibatches(inputs, network.device)
        ]
    return np.concatenate(parts) if parts else np.empty((0, network.classes), np.float32)


def validate(network: Network, validation: Labelled, *, update: int) -> ValidationScore:
    """Score `network` on `validation` (at least one row) after `update` updates."""
    logits = torch.from_numpy(logits_of(network, validation.inputs)).double()
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(validation.targets)).item()
    return ValidationScore(update, macro_recall(validation.targets, logits.argmax(1).numpy()), loss)


def macro_recall(targets: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Mean recall of the classes that occur in `targets`, 0 to 1."""
    return float(np.mean([(predicted[targets == index] == index).mean() for index in np.unique(targets)]))


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seed dropout; restore torch's generators afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed_of("dropout", seed))
        yield


@contextmanager
def _reproducible(training: Labelled) -> Iterator[None]:
    """Use one thread for tiny rows, and deterministic kernels on an accelerator."""
    before = torch.get_num_threads()
    if training.inputs[0].size <= _TINY_ROW:
        torch.set_num_threads(1)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(before)
