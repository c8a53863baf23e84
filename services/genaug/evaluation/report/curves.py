"""Line plots as inline SVG. Colors come from the style sheet; lines differ by their dashes too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from genaug.evaluation.report.figures import ticks

_WIDTH, _HEIGHT = 320, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 10, 10, 40
_DASHES = ("", "7 4", "2 3", "9 3 2 3")


@dataclass(frozen=True)
class Series:
    """One line of a plot."""

    label: str
    points: tuple[tuple[float, float], ...]
    kind: str = "real"
    """A class of the style sheet: real, synthetic, transformed."""
    whiskers: tuple[tuple[float, float], ...] = ()
    """Lower and upper end at each point; empty for none."""
    mark: int | None = None
    """Index of a highlighted point."""


@dataclass(frozen=True)
class Axis:
    """Label and range of an axis."""

    label: str
    low: float
    high: float

    def share(self, value: float) -> float:
        """Return the position of `value` on the axis, 0 to 1."""
        return (value - self.low) / ((self.high - self.low) or 1.0)


def around(values: Sequence[float], *, label: str, pad: float = 0.06) -> Axis:
    """Return an axis around `values`, with a margin."""
    low, high = min(values), max(values)
    margin = max((high - low) * pad, abs(high) * 0.01, 1e-6)
    return Axis(label, low - margin, high + margin)


def plot(series: Sequence[Series], *, x: Axis, y: Axis, title: str, diagonal: bool = False) -> Markup:
    """Plot lines over two axes.

    Args:
        series: The lines; the first is drawn full, the next dashed.
        x: The horizontal axis.
        y: The vertical axis.
        title: Description of the figure, for screen readers.
        diagonal: Whether a pale line joins the corners.
    """
    parts = [_grid(x, y)]
    if diagonal:
        parts.append(_line(((x.low, y.low), (x.high, y.high)), x, y, css="mark", dash="3 3"))
    parts += [_series(line, x, y, dash=_DASHES[index % len(_DASHES)]) for index, line in enumerate(series)]
    # Every piece is built from numbers and escaped text.
    head = f'<svg class="plot" role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-label="{escape(title)}">'
    return Markup(f"{head}{''.join(parts)}</svg>")  # noqa: S704


def legend(series: Sequence[Series]) -> Markup:
    """Return the legend of a plot."""
    items = ""
    for index, line in enumerate(series):
        key = f'<path d="M1 4H27" stroke-dasharray="{_DASHES[index % len(_DASHES)]}"/>'
        items += f'<li class="{escape(line.kind)}"><svg class="key" viewBox="0 0 28 8" aria-hidden="true">{key}</svg>'
        items += f"<span>{escape(line.label)}</span></li>"
    return Markup(f'<ul class="legend">{items}</ul>')  # noqa: S704


def _place(point: tuple[float, float], x: Axis, y: Axis) -> tuple[float, float]:
    return (
        _LEFT + x.share(point[0]) * (_WIDTH - _LEFT - _RIGHT),
        _HEIGHT - _BOTTOM - y.share(point[1]) * (_HEIGHT - _TOP - _BOTTOM),
    )


def _line(points: Sequence[tuple[float, float]], x: Axis, y: Axis, *, css: str, dash: str) -> str:
    places = [_place(point, x, y) for point in points]
    path = " ".join(f"{'ML'[index > 0]}{px:.1f} {py:.1f}" for index, (px, py) in enumerate(places))
    return f'<path class="{css}" d="{path}" stroke-dasharray="{dash}"/>'


def _grid(x: Axis, y: Axis) -> str:
    parts = []
    for value in ticks(y.low, y.high):
        _, py = _place((x.low, value), x, y)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{py:.1f}" y2="{py:.1f}"/>')
        parts.append(f'<text class="tick end" x="{_LEFT - 6}" y="{py + 3.5:.1f}">{_number(value)}</text>')
    for value in ticks(x.low, x.high):
        px, _ = _place((value, y.low), x, y)
        bottom = _HEIGHT - _BOTTOM
        parts.append(f'<line class="grid" x1="{px:.1f}" x2="{px:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(f'<text class="tick" x="{px:.1f}" y="{bottom + 16}">{_number(value)}</text>')
    middle = _LEFT + (_WIDTH - _LEFT - _RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle:.0f}" y="{_HEIGHT - 6}">{escape(x.label)}</text>')
    turned = f"translate(9 {(_HEIGHT - _BOTTOM) / 2:.0f}) rotate(-90)"
    parts.append(f'<text class="axis" transform="{turned}">{escape(y.label)}</text>')
    return "".join(parts)


def _series(line: Series, x: Axis, y: Axis, *, dash: str) -> str:
    parts = [_line(line.points, x, y, css="curve", dash=dash)] if len(line.points) > 1 else []
    for (value, _), (lower, upper) in zip(line.points, line.whiskers, strict=False):
        (px, low), (_, high) = _place((value, lower), x, y), _place((value, upper), x, y)
        parts.append(f'<line class="whisker" x1="{px:.1f}" x2="{px:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
    if line.whiskers or len(line.points) == 1:
        for index, point in enumerate(line.points):
            px, py = _place(point, x, y)
            css = "point best" if index == line.mark else "point"
            parts.append(f'<circle class="{css}" cx="{px:.1f}" cy="{py:.1f}" r="{6 if index == line.mark else 4}"/>')
    return f'<g class="{escape(line.kind)}">{"".join(parts)}</g>'


def _number(value: float) -> str:
    return f"{value:g}".replace("-", "−")
