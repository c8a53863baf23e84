from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genaug.evaluation.report.curves import Axis, Series, around, legend, plot

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=30))
def test_every_point_lies_within_its_axes(points: list[tuple[float, float]]) -> None:
    x, y = around([p[0] for p in points], label="x"), around([p[1] for p in points], label="y")
    drawn = str(plot([Series("a", tuple(points), whiskers=tuple((p[1], p[1]) for p in points))], x=x, y=y, title="t"))
    for cx, cy in re.findall(r'cx="([-\d.]+)" cy="([-\d.]+)"', drawn):
        assert 0 <= float(cx) <= 320
        assert 0 <= float(cy) <= 240


def test_lines_differ_without_colour_and_are_named() -> None:
    series = [Series(f"<{i}>", ((0.0, 0.0), (1.0, 1.0))) for i in range(3)]
    axis = Axis("share", 0.0, 1.0)
    drawn = str(plot(series, x=axis, y=axis, title='"t"'))
    assert len(set(re.findall(r'stroke-dasharray="([^"]*)"', drawn))) == 3
    assert "&lt;0&gt;" in str(legend(series))
    assert 'aria-label="&#34;t&#34;"' in drawn
    assert "<0>" not in drawn + str(legend(series))


@pytest.mark.parametrize("values", [[0.5], [0.0, 0.0], [-3.0, 7.0]])
def test_an_axis_has_room(values: list[float]) -> None:
    axis = around(values, label="x")
    assert axis.low < min(values) <= max(values) < axis.high
