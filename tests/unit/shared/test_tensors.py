from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from genaug.shared.errors import FailedPrecondition
from genaug.shared.tensors import notes_of

WHOLE = safetensors.numpy.save({"a": np.arange(6.0), "b": np.zeros(3, np.uint8)}, metadata={"about": "it"})


def test_what_was_noted_is_read_back() -> None:
    assert notes_of(WHOLE, key="k") == {"about": "it"}


@given(st.integers(0, len(WHOLE) - 1))
def test_a_file_cut_anywhere_is_damaged(end: int) -> None:
    with pytest.raises(FailedPrecondition, match=r"^x/model\.safetensors is damaged") as error:
        notes_of(WHOLE[:end], key="x/model.safetensors")
    assert error.value.reason == "DAMAGED_OBJECT"


@given(st.binary(max_size=40))
def test_anything_else_is_damaged_too(data: bytes) -> None:
    with pytest.raises(FailedPrecondition):
        notes_of(data, key="k")
