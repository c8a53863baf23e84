"""The training of a diffusion network: resumable, and the same whether it was interrupted or not."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from genaug.generation.generators import class_conditional
from genaug.generation.generators.class_conditional import Config
from genaug.generation.shown import Batches, HeldOut, Noised
from genaug.shared.errors import Cancelled, NotFound
from genaug.shared.requests import Report
from genaug.shared.store import Store
from genaug.shared.tensors import notes_of

INTERVALS = 20
"""Even intervals over the updates, at most, of which losses are kept."""

# Seconds between two checkpoints, and as many times what writing one takes.
_CHECKPOINT_EVERY = 10.0
_CHECKPOINT_SHARE = 20.0
_WARM_UP = 50
_LARGEST_GRADIENT = 1.0

Drawing = Callable[[int, nn.Module], None]
"""drawing(update, network): draw a grid of samples."""


@dataclass(frozen=True)
class Course:
    """How a network is trained."""

    updates: int
    learning_rate: float
    ema_decay: float
    bfloat16: bool
    """Whether the forward pass is computed in bfloat16 where that is safe."""
    grids: int
    """Grids of samples, evenly over the updates, the last at the end."""

    def learning_rate_at(self, update: int) -> float:
        """A short rise, then half a cosine down to a twentieth."""
        fall = 0.5 * (1 + math.cos(math.pi * update / self.updates))
        return self.learning_rate * min(1.0, (update + 1) / _WARM_UP) * (0.05 + 0.95 * fall)

    def draws_at(self) -> set[int]:
        """The updates after which a grid is drawn."""
        return {max(1, round(self.updates * (i + 1) / self.grids)) for i in range(self.grids)}

    def intervals(self) -> list[int]:
        """The updates at which intervals end."""
        count = min(INTERVALS, self.updates)
        return [round(self.updates * (i + 1) / count) for i in range(count)]


class Training:
    """A network on its way.

    Args:
        config: The network's.
        network: With its initial weights, on its device.
        batches: What it is shown.
        held_out: What it is never shown, where there is any.
        course: How it is trained.
    """

    def __init__(
        self, config: Config, network: nn.Module, batches: Batches, held_out: HeldOut | None, course: Course
    ) -> None:
        self._config = config
        self._network = network.train()
        self._batches = batches
        self._held_out = held_out
        self._course = course
        self._device = next(network.parameters()).device
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        """The exponential moving average of the weights: what is kept."""
        self._optimiser = torch.optim.AdamW(network.parameters(), lr=1.0, weight_decay=0.01, fused=True)
        self._update = 0
        self._sum, self._count = 0.0, 0
        self.losses: list[float] = []
        """Mean training loss of each interval."""
        self.held_out_losses: list[float] = []
        """Loss of the average on what was held out, at the end of each interval."""

    def run(self, report: Report, *, checkpoint: Checkpoint, drawing: Drawing) -> None:
        """Train to the end, from where `checkpoint` left off.

        Raises:
            Cancelled: `report` said so; what was done is in the checkpoint.
        """
        state = checkpoint.read()
        if state is not None:
            self._restore(*state)
        course, due = self._course, time.monotonic() + _CHECKPOINT_EVERY
        draws, ends = course.draws_at(), set(course.intervals())
        with class_conditional.fitting_threads(self._config):
            while self._update < course.updates:
                self._sum += self._step(self._batches.draw())
                self._count += 1
                self._update += 1
                if self._update in ends:
                    self._close_interval()
                if self._update in draws:
                    drawing(self._update, self.average)
                if time.monotonic() > due:
                    start = time.monotonic()
                    checkpoint.write(*self._state())
                    taken = time.monotonic() - start
                    due = start + taken + max(_CHECKPOINT_EVERY, _CHECKPOINT_SHARE * taken)
                try:
                    report(self._update, course.updates, "updates")
                except Cancelled:
                    checkpoint.write(*self._state())
                    raise

    def _step(self, batch: Noised) -> float:
        for group in self._optimiser.param_groups:
            group["lr"] = self._course.learning_rate_at(self._update)
        loss = self._loss(self._network, batch)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        clip_grad_norm_(self._network.parameters(), _LARGEST_GRADIENT)
        self._optimiser.step()
        decay = min(self._course.ema_decay, (1 + self._update) / (10 + self._update))
        with torch.no_grad():
            # The network has no buffers that learn.
            torch._foreach_lerp_(list(self.average.parameters()), list(self._network.parameters()), 1 - decay)
        return loss.item()

    def _loss(self, network: nn.Module, batch: Noised) -> Tensor:
        """Weighted mean squared error of what the network predicts."""
        parts = (batch.noisy, batch.times, batch.labels, batch.target, batch.weights)
        noisy, times, labels, target, weights = (part.to(self._device) for part in parts)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._course.bfloat16):
            predicted = network(noisy, times, class_labels=labels).sample
        error: Tensor = (weights * (predicted.float() - target).square()).mean()
        return error

    def _close_interval(self) -> None:
        self.losses.append(round(self._sum / self._count, 6))
        self._sum, self._count = 0.0, 0
        if self._held_out is not None:
            batches = self._held_out.batches(64)
            with torch.inference_mode():
                total = sum(self._loss(self.average, one).item() * len(one.times) for one in batches)
            self.held_out_losses.append(round(total / sum(len(one.times) for one in batches), 6))

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {"source": self._batches.source.get_state()}
        tensors |= {f"network.{key}": value for key, value in self._network.state_dict().items()}
        tensors |= {f"average.{key}": value for key, value in self.average.state_dict().items()}
        for index, parameter in enumerate(self._network.parameters()):
            for key, value in self._optimiser.state[parameter].items():
                tensors[f"optimiser.{index}.{key}"] = value
        notes = {
            "update": self._update,
            "sum": self._sum,
            "count": self._count,
            "losses": self.losses,
            "held_out_losses": self.held_out_losses,
        }
        return tensors, notes

    def _restore(self, tensors: dict[str, Tensor], notes: dict[str, Any]) -> None:
        self._batches.source.set_state(tensors["source"])
        for prefix, network in (("network.", self._network), ("average.", self.average)):
            network.load_state_dict({key: tensors[prefix + key] for key in network.state_dict()})
        state = {
            index: {key: tensors[f"optimiser.{index}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
            for index, _ in enumerate(self._network.parameters())
        }
        # Through its own door, so that each tensor lands on its parameter's device.
        self._optimiser.load_state_dict({"state": state, "param_groups": self._optimiser.state_dict()["param_groups"]})
        self._update, self._sum, self._count = notes["update"], notes["sum"], notes["count"]
        self.losses, self.held_out_losses = notes["losses"], notes["held_out_losses"]


class Checkpoint:
    """A training's state in the store: one object, replaced whole, so that a kill at any moment leaves one.

    Args:
        store: As the identity "finetune".
        name: "generators/{digest}".
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._key = f"{name}/checkpoint.safetensors"

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What was written last; None when nothing was."""
        try:
            data = self._store.get(self._key)
        except NotFound:
            return None
        notes = json.loads(notes_of(data, key=self._key)["notes"])
        return safetensors.torch.load(data), notes

    def write(self, tensors: dict[str, Tensor], notes: dict[str, Any]) -> None:
        """Replace it."""
        ready = {key: value.cpu().contiguous() for key, value in tensors.items()}
        self._store.put(self._key, safetensors.torch.save(ready, metadata={"notes": json.dumps(notes)}))

    def delete(self) -> None:
        """Once the generator is written."""
        self._store.delete(self._key)
