from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from genaug.generation.draw import draw
from genaug.generation.receipts import Drawn, Sampler, Wanted
from genaug.shared.errors import Cancelled, InvalidArgument


class Painter:
    """A generator that paints an image's index."""

    name = "generators/" + "0" * 32
    classes = ("a",)
    bucket = 4

    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []

    def parents(self, wanted: Wanted) -> tuple[str, ...]:
        return ()

    def make(
        self, wanted: Sequence[Wanted], *, sampler: Sampler, bucket: int, active: Callable[[], bool]
    ) -> list[Drawn] | None:
        if not active():
            return None
        self.batches.append((len(wanted), bucket))
        return [Drawn(one, np.full((8, 8, 1), one.index, np.uint8), bucket) for one in wanted]


WANTED = [Wanted("a", 0, index) for index in range(10)]


def test_images_come_in_order_from_batches_of_one_shape() -> None:
    painter = Painter()
    drawn = list(draw(painter, WANTED, sampler=Sampler(), active=lambda: True))
    assert [one.wanted for one in drawn] == WANTED
    assert painter.batches == [(4, 4), (4, 4), (2, 4)]


def test_a_receipt_may_ask_for_its_own_shape() -> None:
    painter = Painter()
    list(draw(painter, WANTED, sampler=Sampler(), active=lambda: True, bucket=8))
    assert painter.batches == [(8, 8), (2, 8)]


def test_cancelling_keeps_what_was_finished() -> None:
    answers = iter([True, False])
    events = draw(Painter(), WANTED, sampler=Sampler(), active=lambda: next(answers))
    assert [next(events).wanted.index for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(Cancelled):
        next(events)


@pytest.mark.parametrize("bucket", [-1, 2000])
def test_a_shape_that_is_none_of_ours_is_refused(bucket: int) -> None:
    with pytest.raises(InvalidArgument, match=r"receipt\.bucket"):
        next(draw(Painter(), WANTED, sampler=Sampler(), active=lambda: True, bucket=bucket))
