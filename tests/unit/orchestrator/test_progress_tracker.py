from __future__ import annotations

import pytest

from genaug.orchestrator import progress_tracker
from genaug.orchestrator.progress_tracker import ProgressTracker


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress_tracker.time, "monotonic", lambda: now[0])
    return now


def test_time_left_does_not_count_units_found_in_the_store(clock: list[float]) -> None:
    tracker = ProgressTracker()
    tracker.begin("run")
    tracker.expect("run", "b", 100)
    # 50 images lay in the store; ten more took five seconds.
    tracker.update("run", "a", 50, 100, "images")
    clock[0] += 5
    tracker.update("run", "a", 60, 100, "images")
    progress = tracker.progress("run")
    assert (progress.done, progress.total, progress.unit, progress.seconds_left) == (60, 200, "images", 70.0)


def test_another_unit_is_timed_anew(clock: list[float]) -> None:
    tracker = ProgressTracker()
    tracker.begin("run")
    tracker.update("run", "a", 0, 10, "images")
    clock[0] += 60
    tracker.update("run", "a", 0, 100, "updates")
    clock[0] += 2
    tracker.update("run", "a", 10, 100, "updates")
    assert tracker.progress("run").seconds_left == 18.0


def test_a_part_that_counts_something_else_is_counted_anew() -> None:
    tracker = ProgressTracker()
    tracker.begin("run")
    tracker.update("run", "a", 637, 637, "images")
    tracker.update("run", "a", 3, 40, "updates")
    progress = tracker.progress("run")
    assert (progress.done, progress.total, progress.unit) == (3, 40, "updates")


def test_a_note_lasts_until_the_next_update() -> None:
    tracker = ProgressTracker()
    tracker.update("run", "a", 3, 40, "updates", "reading images, 7 of 9")
    assert tracker.progress("run").note == "reading images, 7 of 9"
    tracker.update("run", "a", 4, 40, "updates")
    assert tracker.progress("run").note == ""


def test_nothing_is_promised_before_there_is_a_rate(clock: list[float]) -> None:
    tracker = ProgressTracker()
    assert tracker.progress("run").seconds_left == 0
    tracker.update("run", "a", 5, 10, "images")
    clock[0] += 9
    assert tracker.progress("run").seconds_left == 0
