from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genaug.evaluation.proportions import paired_difference, share


def test_a_share_has_wilsons_interval() -> None:
    found = share(9, 10)
    assert (found.value, found.lower, found.upper) == pytest.approx((0.9, 0.5958, 0.9821), abs=1e-4)


def test_a_difference_of_pairs_by_hand() -> None:
    """Ten won, four lost of forty: (11 - 5) / 42 ± 1.96 √((16/42 - (6/42)²) / 42)."""
    pairs = [(True, False)] * 10 + [(False, True)] * 4 + [(True, True)] * 20 + [(False, False)] * 6
    found = paired_difference(pairs)
    half = 1.959964 * sqrt((16 / 42 - (6 / 42) ** 2) / 42)
    assert found.value == pytest.approx(6 / 40)
    assert (found.lower, found.upper) == pytest.approx((6 / 42 - half, 6 / 42 + half), abs=1e-6)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_exchanging_both_turns_the_difference_round(pairs) -> None:
    one, other = paired_difference(pairs), paired_difference([(b, a) for a, b in pairs])
    assert (one.value, one.lower, one.upper) == pytest.approx((-other.value, -other.upper, -other.lower))
    assert -1 <= one.lower <= one.upper <= 1


def test_four_won_and_none_lost_are_no_evidence() -> None:
    assert paired_difference([(True, False)] * 4 + [(True, True)] * 20).lower < 0


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        noise = rng.random(64)
        # The same noise makes both likely to be accepted; the second less so by 10 points.
        found = paired_difference([(bool(a < 0.6), bool(b < 0.5)) for a, b in zip(noise, noise, strict=True)])
        held += found.lower <= 0.1 <= found.upper
    assert held >= 0.93 * 400
