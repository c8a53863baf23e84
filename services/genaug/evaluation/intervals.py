"""Intervals over subjects and seeds.

Two things vary: which subjects were sealed, and the seed of a training. For a figure averaged over S seeds

    se² = A + B,    degrees of freedom  se⁴ / (A² / df_A + B² / df_B)       (Satterthwaite 1946)

with A the variance over resampled subjects and B the variance over seeds, s² / S; the interval is value ± t · se. What
seeds do differently to different subjects is in both terms, so the interval errs on the wide side.

A: a bootstrap of whole groups (subjects, joined where they share photographs) within strata, rescaled as in Rao & Wu
(1988): its variance is unbiased for small strata, where that of the plain bootstrap is too small. A rare class may have
a dozen subjects that are all labelled alike; so that this is not taken for certainty, two subjects are imagined, one
for and one against, in a class at random (after Agresti & Coull 1998; for paired differences Bonett & Price 2012).
Without them a few lucky subjects could make a gain.

B: with S = 3 the variance of three numbers is often far too small by chance, and would then make a gain. So it is the
larger of the figure's own and of the pooled one of all scenarios: for differences the residual mean square of the
scenario x seed table, df_B = (scenarios - 1)(S - 1) (the two-way layout with seeds as blocks, Fisher 1925).

How often such intervals hold the truth, and what they leave out, is in docs/science.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import t as student

from genaug.evaluation.metrics import Floats

LEVEL = 0.95
Outcome = Literal["HELPS", "NO_EVIDENCE", "HURTS"]


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Spread:
    """A variance with its degrees of freedom."""

    variance: float
    freedom: float
    """0 when a class has a single subject: then nothing is known."""


def interval(
    value: float, *, subjects: Spread, seeds: Spread, bounds: tuple[float, float] = (0.0, 1.0), comparisons: int = 1
) -> Estimate:
    """Value with a t interval over subjects and seeds; the formula is the module's.

    Args:
        value: Mean over seeds.
        subjects: Variance of `value` over resampled subjects (A).
        seeds: Variance of `value` over seeds (B).
        bounds: Where the figure can lie; also the interval when nothing is known of the variance over subjects.
        comparisons: Comparisons in the family; the level is Bonferroni's, 1 - 0.05 / comparisons.
    """
    if subjects.freedom <= 0:
        return Estimate(value, *bounds)
    total = subjects.variance + seeds.variance
    if total == 0:
        return Estimate(value, value, value)
    freedom = total**2 / (subjects.variance**2 / subjects.freedom + seeds.variance**2 / seeds.freedom)
    half = float(student.ppf(1 - (1 - LEVEL) / (2 * comparisons), freedom)) * total**0.5
    return Estimate(value, max(bounds[0], value - half), min(bounds[1], value + half))


def seed_spread(figures: Floats, scenario: int) -> Spread:
    """Variance over seeds of one scenario's mean.

    Args:
        figures: The figure of each training, [scenarios, S]. A single training (S = 1, such as a fit in closed form)
            is taken as it is: its interval is over subjects alone.
        scenario: Which.
    """
    count, seeds = figures.shape
    if seeds == 1:
        return Spread(0.0, 1.0)
    own = figures.var(axis=1, ddof=1)
    return Spread(float(max(own[scenario], own.mean())) / seeds, count * (seeds - 1))


def paired_seed_spread(figures: Floats, scenario: int, reference: int) -> Spread:
    """Variance over seeds of the difference of two scenarios' means, trained with the same seeds.

    Args:
        figures: The figure of each training, [scenarios, S], S and scenarios at least 2.
        scenario: The one.
        reference: The other.
    """
    count, seeds = figures.shape
    freedom = (count - 1) * (seeds - 1)
    residuals = figures - figures.mean(1, keepdims=True) - figures.mean(0) + figures.mean()
    pooled = 2 * float((residuals**2).sum()) / freedom
    own = float(np.var(figures[scenario] - figures[reference], ddof=1))
    return Spread(max(own, pooled) / seeds, freedom)


def outcome_of(estimate: Estimate) -> Outcome:
    """HELPS when the interval lies above zero, HURTS when it lies below, else NO_EVIDENCE."""
    if estimate.lower > 0:
        return "HELPS"
    return "HURTS" if estimate.upper < 0 else "NO_EVIDENCE"
