"""The processes of one fine-tuning, one for each accelerator, as `torchrun` starts them and accelerate joins them."""

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
    """This process among those that share a training.

    Each draws the same batches and computes its own share; gradients are averaged, so that all hold the same weights,
    and those of one process alone but for rounding. The first one writes.

    Args:
        device: "auto", "cpu", "cuda", …: where one process alone would work.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        """This process's own."""
        self._accelerator: Any = None
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import Accelerator, InitProcessGroupKwargs

            # The others wait while the first draws a grid, or stores gigabytes.
            patience = InitProcessGroupKwargs(timeout=timedelta(days=1))
            self._accelerator = Accelerator(cpu=device.type == "cpu", kwargs_handlers=[patience])
            self.device = self._accelerator.device

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self._accelerator.num_processes) if self._accelerator else 1

    @property
    def first(self) -> bool:
        """Whether this one writes."""
        return self._accelerator is None or bool(self._accelerator.is_main_process)

    def check(self, *, batch_size: int, accumulation: int) -> None:
        """Refuse a batch that cannot be shared evenly.

        Raises:
            InvalidArgument: the message says by what it must be divisible.
        """
        if batch_size % (self.count * accumulation):
            raise InvalidArgument(
                f"generator.batch_size: {batch_size} images cannot be shared evenly by {self.count} processes, in "
                f"{accumulation} parts each; take a multiple of {self.count * accumulation}",
                reason="BAD_TRAINING",
            )

    def share(self, parts: Sequence[T]) -> T:
        """This process's part of `count`."""
        return parts[int(self._accelerator.process_index) if self._accelerator else 0]

    def wait(self) -> None:
        """Until all are here."""
        if self._accelerator:
            self._accelerator.wait_for_everyone()

    def any(self, here: bool) -> bool:
        """Whether it is so in any process."""
        if not self._accelerator:
            return here
        flag = torch.tensor([float(here)], device=self.device)
        return bool(self._accelerator.reduce(flag, reduction="sum").item())

    def mean_gradients(self, parameters: Sequence[nn.Parameter], loss: float) -> float:
        """Average the gradients, in place, and a loss, which is returned."""
        if not self._accelerator:
            return loss
        grads = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
        flat = torch.cat([*(one.flatten().float() for one in grads), torch.tensor([loss], device=self.device)])
        flat = self._accelerator.reduce(flat, reduction="mean")
        start = 0
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = flat[start : start + grad.numel()].view_as(grad).to(grad.dtype)
            start += grad.numel()
        return float(flat[-1])
