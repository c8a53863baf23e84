"""The processes of one fine-tuning, one per accelerator, as `torchrun` starts them and accelerate joins them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import nn

from genaug.shared.errors import InvalidArgument

T = TypeVar("T")


class Processes:
    """The processes of one training, and this one among them.

    Every process draws the same batches and computes its own share of each; gradients are averaged, so that all hold
    the same weights: those of a single process, but for rounding. The first process writes.

    Not torch's DistributedDataParallel: it wraps the network's forward pass, while grids are drawn by the first process
    alone; and adapters leave parameters without gradients, which it would have to search for after each pass.

    Args:
        device: Device of a single process.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        """This process's own."""
        self._accelerator: Any = None
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import Accelerator, InitProcessGroupKwargs

            # The others wait while the first draws a grid or stores gigabytes.
            options = InitProcessGroupKwargs(timeout=timedelta(days=1))
            self._accelerator = Accelerator(cpu=device.type == "cpu", kwargs_handlers=[options])
            self.device = self._accelerator.device

    @property
    def count(self) -> int:
        """Number of processes."""
        return int(self._accelerator.num_processes) if self._accelerator else 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self._accelerator is None or bool(self._accelerator.is_main_process)

    def check(self, *, batch_size: int, accumulation: int, path: str) -> None:
        """Refuse a batch that cannot be split evenly.

        Args:
            batch_size: Images of a batch.
            accumulation: Parts in which a process computes its share.
            path: Path of the settings in the run file, such as "generator.stable_diffusion".

        Raises:
            InvalidArgument: the message names the number that must divide it.
        """
        if batch_size % (self.count * accumulation):
            raise InvalidArgument(
                f"{path}.batch_size: {batch_size} images cannot be shared evenly by {self.count} processes, in "
                f"{accumulation} parts each; take a multiple of {self.count * accumulation}",
                reason="BAD_TRAINING",
            )

    def share(self, parts: Sequence[T]) -> T:
        """This process's part of `count`."""
        return parts[int(self._accelerator.process_index) if self._accelerator else 0]

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self._accelerator:
            self._accelerator.wait_for_everyone()

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if not self._accelerator:
            return flag
        total = torch.tensor([float(flag)], device=self.device)
        return bool(self._accelerator.reduce(total, reduction="sum").item())

    def mean_gradients(self, parameters: Sequence[nn.Parameter], loss: float) -> float:
        """Average the gradients over the processes, in place, and the loss, which is returned."""
        if not self._accelerator:
            return loss
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        # One vector, so that there is one collective operation instead of one per tensor.
        vector = torch.cat([*(gradient.flatten() for gradient in gradients), torch.tensor([loss], device=self.device)])
        vector = self._accelerator.reduce(vector, reduction="mean")
        sizes = [gradient.numel() for gradient in gradients]
        for parameter, values in zip(parameters, vector[:-1].split(sizes), strict=True):
            parameter.grad = values.view_as(parameter)
        return float(vector[-1])
