"""Many inputs through a network: in passes of one size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Images in one pass. On a CPU at most so many values, or maps leave its caches: EfficientNet-Lite0 takes three times as
# long for photographs in passes of 64 as in passes of 4.
_PASS, _CPU_VALUES = 64, 1 << 20


def passes(inputs: NDArray[Any], device: torch.device) -> Iterator[tuple[int, int, Tensor]]:
    """`inputs` cut into passes of one size, on `device`; the last row is repeated to fill up the last pass.

    An image's numbers do not depend on who shares its pass.

    Yields:
        The index of the pass's first row, how many of its rows count, and the rows.
    """
    size = pass_size(inputs.shape[1:], device)
    for start in range(0, len(inputs), size):
        # Copied: a view with other strides would be computed by other kernels, with other last digits.
        some = inputs[start : start + size].copy()
        kept = len(some)
        if kept < size:
            some = np.concatenate([some, np.repeat(some[-1:], size - kept, axis=0)])
        yield start, kept, torch.from_numpy(some).to(device)


def pass_size(shape: Sequence[int], device: torch.device) -> int:
    """Rows of `shape` in one pass on `device`."""
    size = _PASS
    while device.type == "cpu" and size > 1 and size * math.prod(shape) > _CPU_VALUES:
        size //= 2
    return size
