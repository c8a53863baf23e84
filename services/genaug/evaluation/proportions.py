"""Shares of images, and differences of two shares of the same draws, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from scipy.stats import binomtest, norm

from genaug.evaluation.intervals import LEVEL, Estimate


def share(count: int, of: int) -> Estimate:
    """`count` of `of` images (at least one), with Wilson's interval (1927)."""
    interval = binomtest(count, of).proportion_ci(LEVEL, method="wilson")
    return Estimate(count / of, float(interval.low), float(interval.high))


def paired_difference(pairs: Sequence[tuple[bool, bool]]) -> Estimate:
    """Share of pairs whose first is true less that of those whose second is, over at least one pair.

    The interval is Bonett & Price's (2012): Wald's with one imagined pair won and one lost, so that a few pairs that
    all fall to one side are no certainty.
    """
    count = len(pairs)
    won, lost = (sum(pair == one for pair in pairs) for one in ((True, False), (False, True)))
    first, second = (won + 1) / (count + 2), (lost + 1) / (count + 2)
    middle = first - second
    half = float(norm.ppf((1 + LEVEL) / 2)) * sqrt((first + second - middle**2) / (count + 2))
    return Estimate((won - lost) / count, max(middle - half, -1.0), min(middle + half, 1.0))
