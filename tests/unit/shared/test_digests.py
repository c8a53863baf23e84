from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genaug.shared.digests import canonical_json, digest_of, seed_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_a_digest_forgets_the_order_of_keys(inputs) -> None:
    backwards = dict(reversed(list(inputs.items())))
    assert digest_of("train/1", backwards) == digest_of("train/1", inputs)
    assert digest_of("train/2", inputs) != digest_of("train/1", inputs)
    assert len(digest_of("train/1", inputs)) == 32


def test_digests_stay_what_they_are() -> None:
    """A change here renames every result in every store: bump a recipe instead."""
    assert digest_of("train/1", {"a": 1, "b": [0.5, "é"]}) == "b25bd2815e6f1b1edb3b593ee4540f0e"
    assert seed_of(0, "D", 7) == 1060302715494951531


def test_nan_has_no_digest() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json({"a": float("nan")})


@given(st.lists(st.integers() | st.text(), min_size=1, max_size=4))
def test_seeds_fit_and_tell_parts_apart(parts) -> None:
    assert 0 <= seed_of(*parts) < 2**63
    assert seed_of(*parts, "x") != seed_of(*parts)
