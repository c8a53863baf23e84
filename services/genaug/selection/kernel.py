"""The Gaussian kernel over the images of a class, for herding and for the maximum mean discrepancy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genaug.shared.digests import seed_of

Indices = NDArray[np.int64]
Reals = NDArray[np.float64]

# Rows beyond which a seeded sample stands for all: the cost of means grows with the square of the rows.
_SAMPLE = 5_000
# Rows whose distances give the bandwidth.
_MEDIAN_SAMPLE = 2_000
# Rows of a kernel matrix held at once: means need memory for these, not for the square.
_BLOCK = 512


@dataclass(frozen=True)
class Gaussian:
    """The kernel k(a, b) = exp(-|a-b|²/(2 m²)) over n rows, m the median distance between different rows."""

    rows: Reals
    """[n, d], centred: distances of large, near numbers would lose their digits."""
    scale: float
    """-1/(2 m²); 0 where all rows are equal, so that the kernel is 1."""
    means: Reals
    """[n]: the mean of k between each row and all rows, or a sample of 5,000 of them."""

    @classmethod
    def of(cls, features: NDArray[np.floating], *, seed: int = 0) -> Gaussian:
        """The kernel over `features` [n, d], n ≥ 1. Takes O(n²d) time and O(n) memory."""
        rng = np.random.default_rng(seed_of("discrepancy sample", seed))
        rows = features.astype(np.float64)
        rows -= rows.mean(axis=0)
        scale = _scale(rows[_sampled(len(rows), _MEDIAN_SAMPLE, rng)])
        sample = rows[_sampled(len(rows), _SAMPLE, rng)]
        means = np.empty(len(rows))
        for start in range(0, len(rows), _BLOCK):
            block = slice(start, start + _BLOCK)
            means[block] = np.exp(squared_distances(rows[block], sample) * scale).mean(axis=1)
        return cls(rows, scale, means)

    def column(self, index: int) -> Reals:
        """Kernel between every row and the row `index`, [n]."""
        column: Reals = np.exp(squared_distances(self.rows, self.rows[index : index + 1])[:, 0] * self.scale)
        return column

    def squared_mmd(self, chosen: Indices) -> float:
        """Squared maximum mean discrepancy between the rows `chosen`, at least one, and all rows.

        The biased estimate of Gretton et al. 2012 (equation 5), which is never negative; 0 for all rows.
        """
        rng = np.random.default_rng(seed_of("chosen sample", len(chosen)))
        sample = self.rows[chosen[_sampled(len(chosen), _SAMPLE, rng)]]
        blocks = (sample[start : start + _BLOCK] for start in range(0, len(sample), _BLOCK))
        total = sum(float(np.exp(squared_distances(block, sample) * self.scale).sum()) for block in blocks)
        return max(0.0, total / len(sample) ** 2 - 2 * float(self.means[chosen].mean()) + float(self.means.mean()))


def squared_distances(a: Reals, b: Reals) -> Reals:
    """Squared Euclidean distances, [len(a), len(b)]."""
    result: Reals = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None, :] - 2.0 * (a @ b.T)
    np.maximum(result, 0.0, out=result)
    return result


def _sampled(count: int, most: int, rng: np.random.Generator) -> Indices:
    """Draw `most` of `count` indices, ascending; all of them if there are no more."""
    return np.arange(count) if count <= most else np.sort(rng.choice(count, most, replace=False))


def _scale(rows: Reals) -> float:
    gaps = squared_distances(rows, rows)[np.triu_indices(len(rows), 1)]
    # Rounding leaves equal rows at a tiny distance above zero, which must not count as one.
    positive = gaps[gaps > 1e-12 * max(1.0, float(gaps.max(initial=0.0)))]
    return -1.0 / (2.0 * float(np.median(positive))) if positive.size else 0.0
