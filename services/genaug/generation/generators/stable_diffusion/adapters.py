"""Low-rank adapters (Hu et al. 2021), put into the weights they adapt: W = W₀ + scale · B·A, and taken out again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

DOWN, UP = ".lora_A.weight", ".lora_B.weight"
"""Ends of the names of an adapter's tensors, as peft writes them; before them, the adapted module's name."""


class Merged:
    """A network whose weights are those of one adapter at a time, without a trace of the one before.

    Weights that any adapter has touched are kept as they were, so that coming back to them is exact.

    Args:
        network: Frozen; in whatever number format.
    """

    def __init__(self, network: nn.Module) -> None:
        self._modules = dict(network.named_modules())
        self._originals: dict[str, Tensor] = {}
        self._touched: set[str] = set()

    @property
    def nbytes(self) -> int:
        """Bytes of the weights that are kept as they were."""
        # A copy: others ask while the first adapter is put in.
        return sum(one.numel() * one.element_size() for one in list(self._originals.values()))

    def put_in(self, tensors: Mapping[str, Tensor], *, scale: float) -> None:
        """Make the weights those of an adapter; an empty one gives the base's own.

        Args:
            tensors: Matrices by name, ending in `DOWN` [rank, in, …] and `UP` [out, rank, …].
            scale: alpha / rank.
        """
        wanted = {name.removesuffix(DOWN) for name in tensors if name.endswith(DOWN)}
        with torch.no_grad():
            for name in (self._touched - wanted) & self._originals.keys():
                self._weight(name).copy_(self._originals[name])
            # Before anything is changed: what fails half-way is restored by the next.
            self._touched = wanted
            for name in sorted(wanted):
                weight = self._weight(name)
                if name not in self._originals:
                    self._originals[name] = weight.clone()
                change = product(tensors[name + DOWN], tensors[name + UP]).to(weight.device)
                weight.copy_(self._originals[name].float() + scale * change)

    def _weight(self, name: str) -> Tensor:
        return cast(Tensor, self._modules[name].weight)


def product(down: Tensor, up: Tensor) -> Tensor:
    """B·A in float32: of linear layers [out, in], of convolutions [out, in, height, width]."""
    down, up = down.float(), up.float()
    if down.ndim == 2:
        return up @ down
    return torch.einsum("or,rihw->oihw", up[:, :, 0, 0], down)


def expected_shapes(network: nn.Module, tensors: Mapping[str, Tensor], *, rank: int) -> dict[str, Tensor]:
    """Tensors of the shapes that an adapter of `network` must have, for the modules that `tensors` names.

    Names that are no module's are left out, so that a comparison finds them.
    """
    modules = dict(network.named_modules())
    found: dict[str, Tensor] = {}
    for name in {key.removesuffix(DOWN).removesuffix(UP) for key in tensors}:
        module = modules.get(name)
        if isinstance(module, nn.Linear):
            found[name + DOWN] = torch.empty(rank, module.in_features, device="meta")
            found[name + UP] = torch.empty(module.out_features, rank, device="meta")
        elif isinstance(module, nn.Conv2d):
            found[name + DOWN] = torch.empty(rank, module.in_channels, *module.kernel_size, device="meta")
            found[name + UP] = torch.empty(module.out_channels, rank, 1, 1, device="meta")
    return found
