"""Low-rank adapters (Hu et al. 2021), merged into the weights: W = W₀ + scale · B·A."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

DOWN, UP = ".lora_A.weight", ".lora_B.weight"
"""Suffixes of an adapter's tensor names, as peft writes them; the module's name precedes them."""


class MergedAdapter:
    """A network with one adapter merged at a time.

    The original of each changed weight is kept: subtracting the adapter again would leave rounding errors.

    Args:
        network: A frozen network, of any number format.
    """

    def __init__(self, network: nn.Module) -> None:
        self._modules = dict(network.named_modules())
        self._originals: dict[str, Tensor] = {}
        self._changed: set[str] = set()

    @property
    def nbytes(self) -> int:
        """Bytes of the original weights."""
        # A copy: other threads may read it while an adapter is merged.
        return sum(weight.numel() * weight.element_size() for weight in list(self._originals.values()))

    def merge(self, tensors: Mapping[str, Tensor], *, scale: float) -> None:
        """Replace the merged adapter; an empty one restores the original weights.

        Args:
            tensors: Matrices by name, ending in `DOWN` [rank, in, …] and `UP` [out, rank, …].
            scale: alpha / rank.
        """
        names = {name.removesuffix(DOWN) for name in tensors if name.endswith(DOWN)}
        with torch.no_grad():
            for name in (self._changed - names) & self._originals.keys():
                self._weight(name).copy_(self._originals[name])
            # Before any change: if merging fails midway, the next call restores what was changed.
            self._changed = names
            for name in sorted(names):
                weight = self._weight(name)
                if name not in self._originals:
                    self._originals[name] = weight.clone()
                change = product(tensors[name + DOWN], tensors[name + UP]).to(weight.device)
                weight.copy_(self._originals[name].float() + scale * change)

    def _weight(self, name: str) -> Tensor:
        return cast(Tensor, self._modules[name].weight)


def product(down: Tensor, up: Tensor) -> Tensor:
    """B·A in float32, [out, in] for linear layers, [out, in, height, width] for convolutions."""
    down, up = down.float(), up.float()
    if down.ndim == 2:
        return up @ down
    return torch.einsum("or,rihw->oihw", up[:, :, 0, 0], down)


def expected_shapes(network: nn.Module, tensors: Mapping[str, Tensor], *, rank: int) -> dict[str, Tensor]:
    """Meta tensors with the shapes of an adapter of `network`, for the modules that `tensors` names.

    Names without a module are left out, so that a comparison reports them.
    """
    modules = dict(network.named_modules())
    expected: dict[str, Tensor] = {}
    for name in {key.removesuffix(DOWN).removesuffix(UP) for key in tensors}:
        module = modules.get(name)
        if isinstance(module, nn.Linear):
            expected[name + DOWN] = torch.empty(rank, module.in_features, device="meta")
            expected[name + UP] = torch.empty(module.out_features, rank, device="meta")
        elif isinstance(module, nn.Conv2d):
            expected[name + DOWN] = torch.empty(rank, module.in_channels, *module.kernel_size, device="meta")
            expected[name + UP] = torch.empty(module.out_channels, rank, 1, 1, device="meta")
    return expected
