"""Shares of images, and differences of two shares of the same draws, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from scipy.stats import binomtest, norm

from genaug.evaluation.intervals import LEVEL
from genaug.schema.evaluation import Estimate


def share(count: int, of: int) -> Estimate:
    """Share of images, `count` of `of` (at least one), with Wilson's interval (1927)."""
    interval = binomtest(count, of).proportion_ci(LEVEL, method="wilson")
    return Estimate(value=count / of, lower=float(interval.low), upper=float(interval.high))


def paired_difference(pairs: Sequence[tuple[bool, bool]]) -> Estimate:
    """Share of pairs with a true first element, less the share with a true second one.

    The interval is Bonett & Price's (2012): Wald's with one pseudo-pair won and one lost, so that a few pairs that all
    fall to one side are no certainty.
    """
    count = len(pairs)
    won, lost = (pairs.count(outcome) for outcome in ((True, False), (False, True)))
    first, second = (won + 1) / (count + 2), (lost + 1) / (count + 2)
    middle = first - second
    half = float(norm.ppf((1 + LEVEL) / 2)) * sqrt((first + second - middle**2) / (count + 2))
    return Estimate(value=(won - lost) / count, lower=max(middle - half, -1.0), upper=min(middle + half, 1.0))
