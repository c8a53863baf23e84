"""Computation of many inputs in minibatches of one size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Images in a minibatch. On a CPU, fewer, so that inputs have at most so many values: larger feature maps leave the
# processor's caches, and EfficientNet-Lite0 takes three times as long for photographs by 64 as by 4.
_IMAGES, _CPU_VALUES = 64, 1 << 20


def minibatches(inputs: NDArray[Any], device: torch.device) -> Iterator[tuple[int, int, Tensor]]:
    """Cut `inputs` into minibatches of one size on `device`; the last row is repeated to fill up the last one.

    Kernels are chosen by shape, so with one shape alone an image's numbers do not depend on its neighbours.

    Yields:
        Index of the minibatch's first row, how many of its rows count, and the rows.
    """
    size = minibatch_size(inputs.shape[1:], device)
    for start in range(0, len(inputs), size):
        # Copied: a view with other strides would be computed by other kernels, with other last digits.
        rows = inputs[start : start + size].copy()
        count = len(rows)
        if count < size:
            rows = np.concatenate([rows, np.repeat(rows[-1:], size - count, axis=0)])
        yield start, count, torch.from_numpy(rows).to(device)


def minibatch_size(shape: Sequence[int], device: torch.device) -> int:
    """Rows of `shape` in one minibatch on `device`."""
    size = _IMAGES
    while device.type == "cpu" and size > 1 and size * math.prod(shape) > _CPU_VALUES:
        size //= 2
    return size
