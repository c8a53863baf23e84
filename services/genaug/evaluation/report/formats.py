"""How numbers are written in a report."""

from __future__ import annotations


def percent(share: float) -> str:
    """A share in percent, one digit, without the sign."""
    return f"{100 * share:.1f}"


def percent0(share: float) -> str:
    """A share in percent, no digit."""
    return f"{100 * share:.0f}"


def small(value: float) -> str:
    """A small figure: two significant digits, in positional notation."""
    return "0" if abs(value) < 5e-6 else f"{value:.5f}" if abs(value) < 0.001 else f"{value:.4f}"


def thousands(count: int) -> str:
    """A count with thin spaces between thousands."""
    return f"{count:,}".replace(",", "\u202f")
