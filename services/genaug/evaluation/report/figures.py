"""Figures as inline SVG. Colors come from the style sheet, which has a light and a dark scheme.

Forest plots use lengths in percent instead of a viewBox: they stretch with the page, while dots and type keep size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

_ROW = 58
_AXIS = 34
_TICKS = 5


@dataclass(frozen=True)
class Line:
    """One row of a forest plot."""

    label: str
    value: float
    lower: float
    upper: float
    text: str
    """The numbers, in words."""
    kind: str
    """A class of the style sheet: real, synthetic, transformed, helps, no-evidence, hurts."""
    dots: tuple[float, ...] = ()
    """Single trainings."""


@dataclass(frozen=True)
class Points:
    """Positions of one class's images on the t-SNE map."""

    kept: tuple[tuple[float, float], ...]
    left_out: tuple[tuple[float, float], ...]


def ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers between `low` and `high`."""
    raw = (high - low) / _TICKS
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 5, 10) if size * m >= raw)
    return [round(i * step, 10) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def forest(lines: Sequence[Line], *, title: str, mark: float | None = None, signed: bool = False) -> Markup:
    """Plot values with their intervals, one under the other.

    Args:
        lines: The rows, in percent or percentage points.
        title: Description of the figure, for screen readers; the numbers are appended.
        mark: Position of a vertical line, such as zero or the reference.
        signed: Whether ticks carry their sign.
    """
    ends = [e for line in lines for e in (line.lower, line.upper, *line.dots)] + ([] if mark is None else [mark])
    low, high = min(ends), max(ends)
    pad = max((high - low) * 0.06, 0.5)
    low, high = low - pad, high + pad
    height = _ROW * len(lines) + _AXIS

    def x(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.2f}%"

    bottom = height - _AXIS + 6
    parts = [_grid(x, ticks(low, high), bottom=bottom, signed=signed)]
    if mark is not None:
        parts.append(f'<line class="mark" x1="{x(mark)}" x2="{x(mark)}" y1="0" y2="{bottom}"/>')
    parts += [_line(line, x, top=_ROW * i) for i, line in enumerate(lines)]
    words = f"{title} " + " ".join(f"{line.label}: {line.text}." for line in lines)
    # Every piece is built from numbers and escaped text above.
    return Markup(  # noqa: S704
        f'<svg class="forest" role="img" width="100%" height="{height}" aria-label="{escape(words)}">'
        f"{''.join(parts)}</svg>"
    )


def scatter(points: Points, *, title: str) -> Markup:
    """Plot the map of one class, selected images over the others; x and y share one scale."""
    everything = points.kept + points.left_out
    xs, ys = [p[0] for p in everything], [p[1] for p in everything]
    span = max(max(xs) - min(xs), max(ys) - min(ys), 1e-9)
    middle = ((max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2)

    def path(some: Sequence[tuple[float, float]]) -> str:
        return "".join(
            f"M{100 + 188 * (px - middle[0]) / span:.1f} {100 - 188 * (py - middle[1]) / span:.1f}h0" for px, py in some
        )

    return Markup(  # noqa: S704
        f'<svg class="map" role="img" viewBox="0 0 200 200" aria-label="{escape(title)}">'
        f'<path class="left-out" d="{path(points.left_out)}"/><path class="kept" d="{path(points.kept)}"/></svg>'
    )


def _grid(x: Callable[[float], str], at: Sequence[float], *, bottom: int, signed: bool) -> str:
    parts = []
    for value in at:
        text = (f"{value:+g}" if signed and value else f"{value:g}").replace("-", "−")
        parts.append(
            f'<line class="grid" x1="{x(value)}" x2="{x(value)}" y1="0" y2="{bottom}"/>'
            f'<text class="tick" x="{x(value)}" y="{bottom + 18}">{text}</text>'
        )
    return "".join(parts)


def _line(line: Line, x: Callable[[float], str], *, top: int) -> str:
    """Return one row: name and numbers above, the interval below."""
    y = top + 34
    dots = "".join(f'<circle class="dot" cx="{x(dot)}" cy="{y + 12}" r="2.5"/>' for dot in line.dots)
    ends = "".join(f'<line x1="{x(end)}" x2="{x(end)}" y1="{y - 5}" y2="{y + 5}"/>' for end in (line.lower, line.upper))
    return (
        f'<g class="line {escape(line.kind)}"><text class="label" x="0" y="{top + 15}">{escape(line.label)}</text>'
        f'<text class="said" x="100%" y="{top + 15}">{escape(line.text)}</text>'
        f'<line class="whisker" x1="{x(line.lower)}" x2="{x(line.upper)}" y1="{y}" y2="{y}"/>{ends}'
        f'<circle class="value" cx="{x(line.value)}" cy="{y}" r="6"/>{dots}</g>'
    )
