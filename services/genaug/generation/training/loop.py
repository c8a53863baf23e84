"""The training of a diffusion network: resumable, the same whether it was interrupted or not; on several processes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, fields
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from genaug.generation.training.distributed import Processes
from genaug.shared.errors import Cancelled, FailedPrecondition, NotFound
from genaug.shared.progress import ProgressCallback
from genaug.shared.store import Store
from genaug.shared.tensors import notes_of

INTERVALS = 20
"""Even intervals over the updates, at most, of which losses are kept."""

# Seconds between two checkpoints, and as many times what writing one takes.
_CHECKPOINT_EVERY = 10.0
_CHECKPOINT_SHARE = 20.0
_WARM_UP = 50
_LARGEST_GRADIENT = 1.0
# Held-out images whose loss is computed at once.
_PASS = 64


@dataclass(frozen=True)
class Noised:
    """Images at some moment of their diffusion, in the network's shape."""

    noisy: Tensor
    times: Tensor
    labels: Tensor
    """Which label, or caption, the network is told."""
    target: Tensor
    """What the network is to predict."""
    weights: Tensor
    """Of each image's squared error, [n, 1, 1, 1]."""

    def split(self, size: int) -> list[Noised]:
        """All of it, `size` images at a time."""
        parts = (getattr(self, one.name).split(size) for one in fields(self))
        return [Noised(*cut) for cut in zip(*parts, strict=True)]

    def between(self, other: Noised) -> Noised:
        """With the images of another, equally many, each after one of these."""
        pairs = ((getattr(self, one.name), getattr(other, one.name)) for one in fields(self))
        return Noised(*(torch.stack(pair, 1).flatten(0, 1) for pair in pairs))

    def to(self, device: torch.device) -> Noised:
        """On a device."""
        return Noised(*(getattr(self, one.name).to(device) for one in fields(self)))


@dataclass(frozen=True)
class Task:
    """What is learnt."""

    network: nn.Module
    """Its parameters that require gradients learn."""
    predict: Callable[[Noised], Tensor]
    """What the network predicts of a batch that is on its device."""
    draw: Callable[[], Noised]
    """The next batch, the same in every process."""
    source: torch.Generator
    """Of the batches' chance; its state is theirs."""
    held_out: Noised | None
    """Images that are never trained on, at fixed times under fixed noise."""
    around: Callable[[], AbstractContextManager[None]] = nullcontext


@dataclass(frozen=True)
class Course:
    """How a network is trained."""

    updates: int
    learning_rate: float
    ema_decay: float
    """Decay of the exponential moving average of the weights: what is kept."""
    bfloat16: bool
    """Whether the forward pass is computed in bfloat16 where that is safe."""
    grids: int
    """Grids of samples, evenly over the updates, the last at the end."""
    constant: bool = False
    """Whether the learning rate stays as it is."""
    accumulation: int = 1
    """Parts that a batch is computed in."""
    eight_bit: bool = False
    """Whether the optimiser's state has 8 bits."""

    def learning_rate_at(self, update: int) -> float:
        """A short rise, then half a cosine down to a twentieth."""
        if self.constant:
            return self.learning_rate
        fall = 0.5 * (1 + math.cos(math.pi * update / self.updates))
        return self.learning_rate * min(1.0, (update + 1) / _WARM_UP) * (0.05 + 0.95 * fall)

    def draws_at(self) -> set[int]:
        """The updates after which a grid is drawn."""
        return {max(1, round(self.updates * (i + 1) / self.grids)) for i in range(self.grids)}

    def intervals(self) -> list[int]:
        """The updates at which intervals end."""
        count = min(INTERVALS, self.updates)
        return [round(self.updates * (i + 1) / count) for i in range(count)]


Looking = Callable[[int], bool]
"""looking(update): draw a grid with the average in place; whether its images are too near to training images."""


@dataclass
class Told:
    """What a training says of itself."""

    losses: list[float] = field(default_factory=list)
    """Mean training loss of each interval."""
    held_out_losses: list[float] = field(default_factory=list)
    """Loss of the average on what was held out, at the end of each interval."""
    stopped_at: int = 0
    """The update after which images were too near to training images; 0 for none."""


class Training:
    """A network on its way.

    Args:
        task: What it learns.
        course: How.
        processes: Those that share the work; every one holds a `Training` of the same task.

    Raises:
        FailedPrecondition: reason NO_EIGHT_BIT_ADAM.
    """

    def __init__(self, task: Task, course: Course, processes: Processes) -> None:
        self._task = task
        self._course = course
        self._processes = processes
        self._learning = [one for one in task.network.parameters() if one.requires_grad]
        self._device = self._learning[0].device
        self._average = [one.detach().clone() for one in self._learning]
        # What is kept where training stops early: the average when a grid was last looked at.
        self._kept: list[Tensor] = []
        self._optimiser = _optimiser(self._learning, eight_bit=course.eight_bit)
        self._update = 0
        self._sum, self._count = 0.0, 0
        self.told = Told()

    def run(self, report: ProgressCallback, *, checkpoint: Checkpoint, looking: Looking) -> None:
        """Train to the end, or until a look says stop, from where `checkpoint` left off. The average is then in place.

        Raises:
            Cancelled: `report` said so; what was done is in the checkpoint.
        """
        state = checkpoint.read()
        if state is not None:
            self._restore(*state)
        course, due = self._course, time.monotonic() + _CHECKPOINT_EVERY
        looks, ends = course.draws_at(), set(course.intervals())
        told_to_end: Cancelled | None = None
        with self._task.around():
            while self._update < course.updates and not self.told.stopped_at:
                self._sum += self._step()
                self._count += 1
                self._update += 1
                if self._update in ends:
                    self._close_interval()
                if self._update in looks:
                    self._look(looking)
                if self._processes.first and time.monotonic() > due:
                    start = time.monotonic()
                    self.save(checkpoint)
                    taken = time.monotonic() - start
                    due = start + taken + max(_CHECKPOINT_EVERY, _CHECKPOINT_SHARE * taken)
                try:
                    report(self._update, course.updates, "updates")
                except Cancelled as error:
                    told_to_end = error
                if self._processes.any(told_to_end is not None):
                    if self._processes.first:
                        self.save(checkpoint)
                    raise told_to_end or Cancelled("another process was told to end", reason="CANCELLED")
        self._put_in_place(self._average)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write where it is."""
        checkpoint.write(*self._state())

    def _step(self) -> float:
        for group in self._optimiser.param_groups:
            group["lr"] = self._course.learning_rate_at(self._update)
        self._task.network.train()
        self._optimiser.zero_grad(set_to_none=True)
        batch = self._task.draw()
        own = self._processes.share(batch.split(len(batch.times) // self._processes.count))
        parts = own.split(-(-len(own.times) // self._course.accumulation))
        total = 0.0
        for part in parts:
            loss = self._loss(part) * (len(part.times) / len(own.times))
            loss.backward()
            total += loss.item()
        total = self._processes.mean_gradients(self._learning, total)
        clip_grad_norm_(self._learning, _LARGEST_GRADIENT)
        self._optimiser.step()
        decay = min(self._course.ema_decay, (1 + self._update) / (10 + self._update))
        with torch.no_grad():
            # Networks here have no buffers that learn.
            torch._foreach_lerp_(self._average, [one.detach() for one in self._learning], 1 - decay)
        return total

    def _loss(self, batch: Noised) -> Tensor:
        """Weighted mean squared error of what the network predicts."""
        there = batch.to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._course.bfloat16):
            predicted = self._task.predict(there)
        error: Tensor = (there.weights * (predicted.float() - there.target).square()).mean()
        return error

    def _close_interval(self) -> None:
        self.told.losses.append(round(self._sum / self._count, 6))
        self._sum, self._count = 0.0, 0
        if self._task.held_out is not None:
            batches = self._task.held_out.split(_PASS)
            with self._averaged(), torch.inference_mode():
                total = sum(self._loss(one).item() * len(one.times) for one in batches)
            self.told.held_out_losses.append(round(total / len(self._task.held_out.times), 6))

    def _look(self, looking: Looking) -> None:
        """Draw a grid; where it remembers training images, go back to the look before and stop."""
        remembers = False
        if self._processes.first:
            with self._averaged():
                remembers = looking(self._update)
        if self._processes.any(remembers):
            self.told.stopped_at = self._update
            if self._kept:
                self._average = [one.clone() for one in self._kept]
        else:
            self._kept = [one.clone() for one in self._average]

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The average in place of the weights that learn."""
        learning = [one.detach().clone() for one in self._learning]
        self._put_in_place(self._average)
        self._task.network.eval()
        try:
            yield
        finally:
            self._put_in_place(learning)

    def _put_in_place(self, weights: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for parameter, weight in zip(self._learning, weights, strict=True):
                parameter.copy_(weight)
        self._task.network.eval()

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {"source": self._task.source.get_state()}
        for index, parameter in enumerate(self._learning):
            tensors[f"learning.{index}"] = parameter.detach()
            tensors[f"average.{index}"] = self._average[index]
            if self._kept:
                tensors[f"kept.{index}"] = self._kept[index]
            for key, value in self._optimiser.state[parameter].items():
                tensors[f"optimiser.{index}.{key}"] = torch.as_tensor(value)
        notes = {"update": self._update, "sum": self._sum, "count": self._count, "told": vars(self.told)}
        return tensors, notes

    def _restore(self, tensors: dict[str, Tensor], notes: dict[str, Any]) -> None:
        self._task.source.set_state(tensors["source"])
        count = len(self._learning)
        self._put_in_place([tensors[f"learning.{index}"] for index in range(count)])
        self._average = [tensors[f"average.{index}"].to(self._device) for index in range(count)]
        if "kept.0" in tensors:
            self._kept = [tensors[f"kept.{index}"].to(self._device) for index in range(count)]
        state: dict[int, dict[str, Any]] = {index: {} for index in range(count)}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "optimiser":
                index, _, key = rest.partition(".")
                # bitsandbytes counts in plain integers, and would make tensors of them floats.
                plain = self._course.eight_bit and key == "step"
                state[int(index)][key] = value.item() if plain else value
        # Through its own door, so that each tensor lands on its parameter's device.
        self._optimiser.load_state_dict({"state": state, "param_groups": self._optimiser.state_dict()["param_groups"]})
        self._update, self._sum, self._count = notes["update"], notes["sum"], notes["count"]
        self.told = Told(**notes["told"])


def _optimiser(learning: Sequence[nn.Parameter], *, eight_bit: bool) -> torch.optim.Optimizer:
    if not eight_bit:
        return torch.optim.AdamW(learning, lr=1.0, weight_decay=0.01, fused=True)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise FailedPrecondition(
            "generator.eight_bit_adam needs the package bitsandbytes, and CUDA: pip install bitsandbytes; or set it to "
            "false",
            reason="NO_EIGHT_BIT_ADAM",
        ) from None
    optimiser: torch.optim.Optimizer = AdamW8bit(learning, lr=1.0, weight_decay=0.01)
    return optimiser


class Checkpoint:
    """A training's state in the store: one object, replaced whole, so that a kill at any moment leaves one.

    Args:
        store: As the identity "finetune".
        name: "generators/{digest}".
        part: Which of several trainings.
    """

    def __init__(self, store: Store, name: str, part: str = "") -> None:
        self._store = store
        self.key = f"{name}/checkpoint{f'-{part}' if part else ''}.safetensors"
        """Of the object."""

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What was written last; None when nothing was."""
        try:
            data = self._store.get(self.key)
        except NotFound:
            return None
        notes = json.loads(notes_of(data, key=self.key)["notes"])
        return safetensors.torch.load(data), notes

    def write(self, tensors: dict[str, Tensor], notes: dict[str, Any]) -> None:
        """Replace it."""
        ready = {key: value.cpu().contiguous() for key, value in tensors.items()}
        self._store.put(self.key, safetensors.torch.save(ready, metadata={"notes": json.dumps(notes)}))
