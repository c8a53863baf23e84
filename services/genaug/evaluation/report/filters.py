"""Filters of the report's templates: numbers and outcomes as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from genaug.evaluation.verdict import points
from genaug.schema.evaluation import Estimate, Outcome

_OUTCOMES = {
    Outcome.HELPS: ("helps", "Helps"),
    Outcome.NO_EVIDENCE: ("no-evidence", "No evidence"),
    Outcome.HURTS: ("hurts", "Hurts"),
    Outcome.UNSPECIFIED: ("unspecified", "Nothing to say"),
}


def percent(share: float) -> str:
    """Format a share in percent, one digit, without the sign."""
    return f"{100 * share:.1f}"


def percent0(share: float) -> str:
    """Format a share in percent, no digit."""
    return f"{100 * share:.0f}"


def small(value: float) -> str:
    """Format a small number: two significant digits, in positional notation."""
    return "0" if abs(value) < 5e-6 else f"{value:.5f}" if abs(value) < 0.001 else f"{value:.4f}"


def thousands(count: int) -> str:
    """Format a count with thin spaces between thousands."""
    return f"{count:,}".replace(",", "\u202f")


def points_interval(estimate: Estimate) -> str:
    """Format the interval of a difference in percentage points."""
    return f"{points(estimate.lower)} to {points(estimate.upper)}"


def tone(outcome: Outcome) -> str:
    """CSS class of an outcome."""
    return _OUTCOMES[outcome][0]


def outcome_text(outcome: Outcome) -> str:
    """Outcome in words."""
    return _OUTCOMES[outcome][1]


def headline(sentence: str) -> tuple[str, str]:
    """Split a verdict into its claim, up to the colon, and its numbers."""
    head, colon, rest = sentence.partition(":")
    return head + colon, rest.strip()


FILTERS: Mapping[str, Callable[..., Any]] = {
    "percent": percent,
    "percent0": percent0,
    "points": points,
    "points_interval": points_interval,
    "small": small,
    "thousands": thousands,
    "tone": tone,
    "outcome": outcome_text,
    "headline": headline,
}
