"""Training of a diffusion network: resumable with the same result, on one process or several."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

import safetensors.torch
import torch
from pydantic import Field, TypeAdapter
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from genaug.generation.training.distributed import Processes
from genaug.shared.errors import Cancelled, FailedPrecondition, NotFound
from genaug.shared.progress import ProgressCallback
from genaug.shared.store import Store
from genaug.shared.tensors import notes_of

INTERVALS = 20
"""Largest number of even intervals over the updates for which losses are recorded."""

# Seconds between two checkpoints, and the same as a multiple of the time that writing one takes.
_CHECKPOINT_EVERY = 10.0
_CHECKPOINT_SHARE = 20.0
_WARM_UP = 50
_MAX_GRADIENT_NORM = 1.0
# Held-out images per forward pass.
_VALIDATION_BATCH = 64


@dataclass(frozen=True)
class DiffusionBatch:
    """Noised images in the network's shape, with their training targets."""

    noisy: Tensor
    times: Tensor
    labels: Tensor
    """Label or caption number of each image."""
    target: Tensor
    """The prediction that is right."""
    weights: Tensor
    """Weight of each image's squared error, [n, 1, 1, 1]."""

    def split(self, size: int) -> list[DiffusionBatch]:
        """Consecutive batches of `size` images."""
        parts = (tensor.split(size) for tensor in self._tensors())
        return [DiffusionBatch(*part) for part in zip(*parts, strict=True)]

    def interleaved(self, other: DiffusionBatch) -> DiffusionBatch:
        """Images of this batch and of another of the same size, in turn."""
        pairs = zip(self._tensors(), other._tensors(), strict=True)
        return DiffusionBatch(*(torch.stack(pair, 1).flatten(0, 1) for pair in pairs))

    def to(self, device: torch.device) -> DiffusionBatch:
        """The batch on a device."""
        return DiffusionBatch(*(tensor.to(device) for tensor in self._tensors()))

    def _tensors(self) -> Iterator[Tensor]:
        return (getattr(self, entry.name) for entry in fields(self))


@dataclass(frozen=True)
class TrainingProblem:
    """Network, data and loss of a training."""

    network: nn.Module
    """Its parameters that require gradients are trained."""
    predict: Callable[[DiffusionBatch], Tensor]
    """The network's prediction for a batch on its device."""
    next_batch: Callable[[], DiffusionBatch]
    """The next batch, the same in every process."""
    random: torch.Generator
    """Source of the batches' randomness; checkpoints hold its state."""
    validation: DiffusionBatch | None
    """Fixed validation batch: held-out images at fixed timesteps and noise."""
    context: Callable[[], AbstractContextManager[None]] = nullcontext
    """Entered around the training."""


@dataclass(frozen=True)
class TrainingConfig:
    """Hyperparameters of a training."""

    updates: int
    learning_rate: float
    ema_decay: float
    """Decay of the exponential moving average of the weights, which is the result."""
    bfloat16: bool
    """Whether the forward pass runs under autocast."""
    grids: int
    """Number of sample grids, evenly over the updates, the last at the end."""
    constant: bool = False
    """Whether the learning rate is constant."""
    accumulation: int = 1
    """Parts in which a batch's gradients are computed."""
    eight_bit: bool = False
    """Whether the optimizer's state has 8 bits."""

    def learning_rate_at(self, update: int) -> float:
        """Learning rate: a short linear warm-up, then half a cosine down to a twentieth."""
        if self.constant:
            return self.learning_rate
        fall = 0.5 * (1 + math.cos(math.pi * update / self.updates))
        return self.learning_rate * min(1.0, (update + 1) / _WARM_UP) * (0.05 + 0.95 * fall)

    def grid_updates(self) -> set[int]:
        """Updates after which a grid is drawn."""
        return {max(1, round(self.updates * (i + 1) / self.grids)) for i in range(self.grids)}

    def intervals(self) -> list[int]:
        """Updates at which intervals end."""
        count = min(INTERVALS, self.updates)
        return [round(self.updates * (i + 1) / count) for i in range(count)]


GridCallback = Callable[[int], bool]
"""Draws a grid after an update, with the average in the network; returns whether to stop because of memorization."""


@dataclass
class TrainingLog:
    """Losses of a training."""

    losses: list[float] = field(default_factory=list)
    """Mean training loss of each interval."""
    held_out_losses: list[float] = field(default_factory=list)
    """Loss of the average on the validation batch, at the end of each interval."""
    stopped_at: int = 0
    """Update after which training stopped because samples were memorized; 0 if it did not."""


@dataclass
class TrainingState:
    """Position of a training, which a checkpoint holds beside its tensors."""

    update: int = 0
    """Updates done."""
    # Keys of checkpoints that exist: a training may go on with another release of this code.
    loss_sum: Annotated[float, Field(alias="sum")] = 0.0
    """Sum of the losses of the current interval."""
    loss_count: Annotated[int, Field(alias="count")] = 0
    log: Annotated[TrainingLog, Field(alias="told")] = field(default_factory=TrainingLog)


_STATE = TypeAdapter(TrainingState)


class Training:
    """A training in progress.

    Args:
        problem: Network, data and loss.
        config: Hyperparameters.
        processes: Processes that share the work; each has a `Training` of the same problem.

    Raises:
        FailedPrecondition: reason NO_EIGHT_BIT_ADAM.
    """

    def __init__(self, problem: TrainingProblem, config: TrainingConfig, processes: Processes) -> None:
        self._problem = problem
        self._config = config
        self._processes = processes
        self._parameters = [parameter for parameter in problem.network.parameters() if parameter.requires_grad]
        self._device = self._parameters[0].device
        self._average = _copies(self._parameters)
        # The average at the last grid without memorization: the result if training stops early.
        self._best: list[Tensor] = []
        self._optimizer = _optimizer(self._parameters, eight_bit=config.eight_bit)
        self._state = TrainingState()

    @property
    def log(self) -> TrainingLog:
        """Losses so far."""
        return self._state.log

    def run(self, report: ProgressCallback, *, checkpoint: Checkpoint, draw_grid: GridCallback) -> None:
        """Train from the checkpoint to the end, or until `draw_grid` stops it. The network then holds the average.

        Raises:
            Cancelled: raised by `report`; the checkpoint holds the work done.
        """
        saved = checkpoint.read()
        if saved is not None:
            self._restore(*saved)
        config, due = self._config, time.monotonic() + _CHECKPOINT_EVERY
        grid_updates, interval_ends = config.grid_updates(), set(config.intervals())
        cancelled: Cancelled | None = None
        with self._problem.context():
            while self._state.update < config.updates and not self.log.stopped_at:
                self._state.loss_sum += self._step()
                self._state.loss_count += 1
                self._state.update += 1
                if self._state.update in interval_ends:
                    self._close_interval()
                if self._state.update in grid_updates:
                    self._draw_grid(draw_grid)
                if self._processes.first and time.monotonic() > due:
                    start = time.monotonic()
                    self.save(checkpoint)
                    seconds = time.monotonic() - start
                    due = start + seconds + max(_CHECKPOINT_EVERY, _CHECKPOINT_SHARE * seconds)
                try:
                    report(self._state.update, config.updates, "updates")
                except Cancelled as error:
                    cancelled = error
                # All processes stop at the same update, or one would wait for the others' gradients.
                if self._processes.any(cancelled is not None):
                    if self._processes.first:
                        self.save(checkpoint)
                    raise cancelled or Cancelled("another process ended", reason="CANCELLED")
        self._load_weights(self._average)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint."""
        tensors = {"source": self._problem.random.get_state()}
        for index, parameter in enumerate(self._parameters):
            tensors[f"learning.{index}"] = parameter.detach()
            tensors[f"average.{index}"] = self._average[index]
            if self._best:
                tensors[f"kept.{index}"] = self._best[index]
            for key, value in self._optimizer.state[parameter].items():
                tensors[f"optimiser.{index}.{key}"] = torch.as_tensor(value)
        checkpoint.write(tensors, self._state)

    def _step(self) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = self._config.learning_rate_at(self._state.update)
        self._problem.network.train()
        self._optimizer.zero_grad(set_to_none=True)
        batch = self._problem.next_batch()
        share = self._processes.share(batch.split(len(batch.times) // self._processes.count))
        total = 0.0
        for part in share.split(-(-len(share.times) // self._config.accumulation)):
            loss = self._loss(part) * (len(part.times) / len(share.times))
            loss.backward()
            total += loss.item()
        total = self._processes.mean_gradients(self._parameters, total)
        clip_grad_norm_(self._parameters, _MAX_GRADIENT_NORM)
        self._optimizer.step()
        decay = min(self._config.ema_decay, (1 + self._state.update) / (10 + self._state.update))
        with torch.no_grad():
            # Parameters alone: the networks have no buffers that training changes.
            torch._foreach_lerp_(self._average, [parameter.detach() for parameter in self._parameters], 1 - decay)
        return total

    def _loss(self, batch: DiffusionBatch) -> Tensor:
        """Weighted mean squared error of the network's prediction."""
        batch = batch.to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._config.bfloat16):
            predicted = self._problem.predict(batch)
        error: Tensor = (batch.weights * (predicted.float() - batch.target).square()).mean()
        return error

    def _close_interval(self) -> None:
        state, validation = self._state, self._problem.validation
        self.log.losses.append(round(state.loss_sum / state.loss_count, 6))
        state.loss_sum, state.loss_count = 0.0, 0
        if validation is not None:
            with self._averaged(), torch.inference_mode():
                total = sum(self._loss(part).item() * len(part.times) for part in validation.split(_VALIDATION_BATCH))
            self.log.held_out_losses.append(round(total / len(validation.times), 6))

    def _draw_grid(self, draw_grid: GridCallback) -> None:
        """Draw a grid; if it is memorized, return to the average at the previous grid and stop."""
        memorized = False
        if self._processes.first:
            with self._averaged():
                memorized = draw_grid(self._state.update)
        if self._processes.any(memorized):
            self.log.stopped_at = self._state.update
            if self._best:
                self._average = _copies(self._best)
        else:
            self._best = _copies(self._average)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Swap the average into the network for a time."""
        trained = _copies(self._parameters)
        self._load_weights(self._average)
        try:
            yield
        finally:
            self._load_weights(trained)

    def _load_weights(self, weights: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for parameter, weight in zip(self._parameters, weights, strict=True):
                parameter.copy_(weight)
        self._problem.network.eval()

    def _restore(self, tensors: dict[str, Tensor], state: TrainingState) -> None:
        self._state = state
        self._problem.random.set_state(tensors["source"])
        count = len(self._parameters)
        self._load_weights([tensors[f"learning.{index}"] for index in range(count)])
        self._average = [tensors[f"average.{index}"].to(self._device) for index in range(count)]
        if "kept.0" in tensors:
            self._best = [tensors[f"kept.{index}"].to(self._device) for index in range(count)]
        optimizer: dict[int, dict[str, Any]] = {index: {} for index in range(count)}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "optimiser":
                index, _, key = rest.partition(".")
                # bitsandbytes counts steps in plain integers, and would convert a tensor of them to floats.
                plain = self._config.eight_bit and key == "step"
                optimizer[int(index)][key] = value.item() if plain else value
        # `load_state_dict` moves each tensor to its parameter's device.
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": optimizer, "param_groups": groups})


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def _optimizer(parameters: Sequence[nn.Parameter], *, eight_bit: bool) -> torch.optim.Optimizer:
    if not eight_bit:
        return torch.optim.AdamW(parameters, lr=1.0, weight_decay=0.01, fused=True)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise FailedPrecondition(
            "generator.stable_diffusion.eight_bit_adam needs the package bitsandbytes, and CUDA: pip install "
            "bitsandbytes; or set it to false",
            reason="NO_EIGHT_BIT_ADAM",
        ) from None
    optimizer: torch.optim.Optimizer = AdamW8bit(parameters, lr=1.0, weight_decay=0.01)
    return optimizer


class Checkpoint:
    """Checkpoint of a training: one object in the store, replaced whole, so that a kill at any moment leaves one.

    Args:
        store: As the identity "finetune".
        name: "generators/{digest}".
        part: Name of the training, if the generator has several.
    """

    def __init__(self, store: Store, name: str, part: str = "") -> None:
        self._store = store
        self.key = f"{name}/checkpoint{f'-{part}' if part else ''}.safetensors"
        """Key of the object."""

    def read(self) -> tuple[dict[str, Tensor], TrainingState] | None:
        """The checkpoint that was written last; None if there is none."""
        try:
            data = self._store.get(self.key)
        except NotFound:
            return None
        return safetensors.torch.load(data), _STATE.validate_json(notes_of(data, key=self.key)["notes"])

    def write(self, tensors: dict[str, Tensor], state: TrainingState) -> None:
        """Replace the checkpoint."""
        ready = {key: value.cpu().contiguous() for key, value in tensors.items()}
        # Python's own JSON, which writes floats so that they are read back exactly.
        notes = json.dumps(_STATE.dump_python(state, by_alias=True))
        self._store.put(self.key, safetensors.torch.save(ready, metadata={"notes": notes}))
