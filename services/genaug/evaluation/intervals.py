"""Intervals over subjects and seeds.

Two things vary: which subjects were sealed, and the seed of a training. For a figure averaged over S seeds

    se² = A + B,    degrees of freedom  se⁴ / (A² / df_A + B² / df_B)       (Satterthwaite 1946)

with A the variance over resampled subjects and B the variance over seeds, s² / S; the interval is value ± t · se. What
seeds do differently to different subjects is in both terms, so the interval errs on the wide side.

A: a bootstrap of whole groups (subjects, joined where they share photographs) within strata, rescaled as in Rao & Wu
(1988): its variance is unbiased for small strata, where that of the plain bootstrap is too small. A rare class may have
a dozen subjects that are all labelled alike; so that this is not taken for certainty, two pseudo-counts are added, one
for and one against, in a class at random (after Agresti & Coull 1998; for paired differences Bonett & Price 2012).
Without them a few lucky subjects could make a gain.

B: with S = 3 the variance of three numbers is often far too small by chance, and would then make a gain. So it is the
larger of the figure's own and of the pooled one of all scenarios: for differences the residual mean square of the
scenario x seed table, df_B = (scenarios - 1)(S - 1) (the two-way layout with seeds as blocks, Fisher 1925).

How often such intervals hold the truth, and what they leave out, is in docs/science.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from genaug.evaluation.metrics import Floats
from genaug.schema.evaluation import Estimate, Outcome

LEVEL = 0.95


@dataclass(frozen=True)
class Variance:
    """A variance with its degrees of freedom."""

    value: float
    freedom: float
    """0 when a class has a single subject, so that its variance is not known."""


def interval(
    value: float, *, subjects: Variance, seeds: Variance, bounds: tuple[float, float] = (0.0, 1.0), comparisons: int = 1
) -> Estimate:
    """Return `value` with its t interval over subjects and seeds; the formula is the module's.

    Args:
        value: Mean over seeds.
        subjects: Variance of `value` over resampled subjects (A).
        seeds: Variance of `value` over seeds (B).
        bounds: Lowest and highest possible value; also the interval when the variance over subjects is not known.
        comparisons: Comparisons in the family; the level is Bonferroni's, 1 - 0.05 / comparisons.
    """
    if subjects.freedom <= 0:
        return Estimate(value=value, lower=bounds[0], upper=bounds[1])
    total = subjects.value + seeds.value
    if total == 0:
        return Estimate(value=value, lower=value, upper=value)
    freedom = total**2 / (subjects.value**2 / subjects.freedom + seeds.value**2 / seeds.freedom)
    half = float(student.ppf(1 - (1 - LEVEL) / (2 * comparisons), freedom)) * total**0.5
    return Estimate(value=value, lower=max(bounds[0], value - half), upper=min(bounds[1], value + half))


def seed_variance(figures: Floats, scenario: int) -> Variance:
    """Variance over seeds of one scenario's mean.

    Args:
        figures: The figure of each training, [scenarios, S]. A single training (S = 1, such as a fit in closed form)
            is taken as it is: its interval is over subjects alone.
        scenario: Its index.
    """
    count, seeds = figures.shape
    if seeds == 1:
        return Variance(0.0, 1.0)
    own = figures.var(axis=1, ddof=1)
    return Variance(float(max(own[scenario], own.mean())) / seeds, count * (seeds - 1))


def paired_seed_variance(figures: Floats, scenario: int, reference: int) -> Variance:
    """Variance over seeds of the difference of two scenarios' means, trained with the same seeds.

    Args:
        figures: The figure of each training, [scenarios, S], S and scenarios at least 2.
        scenario: Index of the minuend.
        reference: Index of the subtrahend.
    """
    count, seeds = figures.shape
    freedom = (count - 1) * (seeds - 1)
    residuals = figures - figures.mean(1, keepdims=True) - figures.mean(0) + figures.mean()
    pooled = 2 * float((residuals**2).sum()) / freedom
    own = float(np.var(figures[scenario] - figures[reference], ddof=1))
    return Variance(max(own, pooled) / seeds, freedom)


def outcome_of(estimate: Estimate) -> Outcome:
    """HELPS when the interval lies above zero, HURTS when it lies below, else NO_EVIDENCE."""
    if estimate.lower > 0:
        return Outcome.HELPS
    return Outcome.HURTS if estimate.upper < 0 else Outcome.NO_EVIDENCE
