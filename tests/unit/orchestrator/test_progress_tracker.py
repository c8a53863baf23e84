from __future__ import annotations

import pytest

from genaug.orchestrator import progress
from genaug.orchestrator.progress import Live


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_time_left_follows_what_was_made_not_what_was_found(clock: list[float]) -> None:
    live = Live()
    live.begin("run")
    live.expect("run", "b", 100)
    # 50 images lay in the store; ten more took five seconds.
    live.update("run", "a", 50, 100, "images")
    clock[0] += 5
    live.update("run", "a", 60, 100, "images")
    far = live.now("run")
    assert (far.done, far.total, far.unit, far.seconds_left) == (60, 200, "images", 70.0)


def test_another_unit_is_timed_anew(clock: list[float]) -> None:
    live = Live()
    live.begin("run")
    live.update("run", "a", 0, 10, "images")
    clock[0] += 60
    live.update("run", "a", 0, 100, "updates")
    clock[0] += 2
    live.update("run", "a", 10, 100, "updates")
    assert live.now("run").seconds_left == 18.0


def test_a_part_that_counts_something_else_is_counted_anew() -> None:
    live = Live()
    live.begin("run")
    live.update("run", "a", 637, 637, "images")
    live.update("run", "a", 3, 40, "updates")
    far = live.now("run")
    assert (far.done, far.total, far.unit) == (3, 40, "updates")


def test_what_is_done_aside_is_said_as_long_as_it_is_done() -> None:
    live = Live()
    live.update("run", "a", 3, 40, "updates", "reading images, 7 of 9")
    assert live.now("run").note == "reading images, 7 of 9"
    live.update("run", "a", 4, 40, "updates")
    assert live.now("run").note == ""


def test_nothing_is_promised_before_there_is_a_rate(clock: list[float]) -> None:
    live = Live()
    assert live.now("run").seconds_left == 0
    live.update("run", "a", 5, 10, "images")
    clock[0] += 9
    assert live.now("run").seconds_left == 0
