from __future__ import annotations

import threading

import pytest

from genaug.selection.turns import Turns
from genaug.shared.errors import Cancelled, ResourceExhausted


def test_one_call_works_at_a_time():
    turns, entered = Turns(limit=2), []

    def second():
        with turns.take(lambda: True):
            entered.append("second")

    with turns.take(lambda: True):
        thread = threading.Thread(target=second)
        thread.start()
        # Longer than the call polls: it has looked at least once.
        thread.join(0.5)
        entered.append("first")
    thread.join()

    assert entered == ["first", "second"]


def test_calls_beyond_the_limit_are_refused():
    turns = Turns(limit=1)

    with turns.take(lambda: True), pytest.raises(ResourceExhausted, match="too many calls"):
        turns.take(lambda: True).__enter__()


def test_a_caller_that_left_gives_up_its_place():
    turns = Turns(limit=2)

    with turns.take(lambda: True):
        for _ in range(3):
            with pytest.raises(Cancelled):
                turns.take(lambda: False).__enter__()


def test_a_failed_call_ends_its_turn():
    turns = Turns(limit=1)

    with pytest.raises(ValueError, match="a fault"), turns.take(lambda: True):
        raise ValueError("a fault")

    with turns.take(lambda: True):
        pass
