"""Resampling of groups: subjects, joined where they share photographs, drawn whole and within strata."""

from __future__ import annotations

import numpy as np

from genaug.evaluation.metrics import Floats, Ints


def strata(membership: Floats) -> Ints:
    """Stratum of each group, [g]: the rarest of its classes, so that a resample holds every class.

    A stratum of one group cannot be resampled and joins the next rarest.

    Args:
        membership: Images by group and class, [g, k].
    """
    present = membership > 0
    sizes = present.sum(0)
    order = np.argsort(sizes, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    stratum: Ints = np.where(present, rank, len(order)).min(1)
    for level in np.unique(stratum):
        alone = stratum == level
        others = np.unique(stratum[~alone])
        if alone.sum() == 1 and len(others):
            stratum[alone] = others[min(int(np.searchsorted(others, level)), len(others) - 1)]
    return stratum


def resample(stratum: Ints, *, resamples: int, seed: int) -> Floats:
    """Weights of groups, float32 [resamples, g]: of n groups of a stratum, n-1 drawn with return, times n/(n-1)."""
    rng = np.random.default_rng(seed)
    weights = np.ones((resamples, len(stratum)), np.float32)
    for level in np.unique(stratum):
        members = np.flatnonzero(stratum == level)
        size = len(members)
        if size > 1:
            draws = rng.multinomial(size - 1, np.full(size, 1.0 / size), size=resamples)
            weights[:, members] = draws * (size / (size - 1))
    return weights


def draws_of(weights: Floats, stratum: Ints) -> Ints:
    """Draws of each group, [b, g], for weights as `resample` gives them: for metrics that take no weights."""
    sizes = np.bincount(stratum)[stratum]
    draws: Ints = np.rint(weights * np.where(sizes > 1, (sizes - 1) / sizes, 1.0)).astype(np.int64)
    return draws
