from __future__ import annotations

import pytest

from genaug.orchestrator.progress_tracker import ProgressTracker
from genaug.orchestrator.records import Records
from genaug.schema.common import Progress
from genaug.schema.run import STEPS, RunSpec, RunState, Step
from genaug.shared.errors import Cancelled, InvalidArgument, NotFound, Unavailable
from genaug.shared.settings import StoreSettings
from genaug.shared.store import Store

SPEC = RunSpec(name="r")


@pytest.fixture
def tracker() -> ProgressTracker:
    return ProgressTracker()


@pytest.fixture
def records(stores, tracker) -> Records:
    records = Records(stores("orchestrator"), tracker)
    records.create("r-00000000", SPEC)
    return records


def step(records: Records, name: str) -> Step:
    return records.now("r-00000000").step(name)


def test_a_step_is_recorded_as_it_goes(records: Records, tracker: ProgressTracker) -> None:
    with records.step("r-00000000", "finetune") as results:
        assert records.get("r-00000000").state == RunState.RUNNING
        tracker.update("r-00000000", "a", 3, 10, "updates")
        tracker.expect("r-00000000", "b", 5)
        assert step(records, "finetune").progress == Progress(step="finetune", done=3, total=15, unit="updates")
        results.results.append("generators/x")
        results.reused = 1
    finetune = step(records, "finetune")
    assert (finetune.state, finetune.results, finetune.reused) == (RunState.SUCCEEDED, ("generators/x",), 1)
    assert finetune.seconds >= 0
    assert step(records, "labeler").state == RunState.PENDING
    assert [entry.name for entry in records.get("r-00000000").steps] == list(STEPS)


def test_a_replay_keeps_what_was_recorded(records: Records) -> None:
    with records.step("r-00000000", "view") as results:
        results.results.append("v")
    before = step(records, "view")
    with records.step("r-00000000", "view") as results:
        results.reused = 99
    assert step(records, "view") == before


def test_a_failed_step_says_so(records: Records) -> None:
    with pytest.raises(InvalidArgument), records.step("r-00000000", "view"):
        raise InvalidArgument("bad")
    assert step(records, "view").state == RunState.FAILED


def test_a_cancelled_run_starts_no_further_step(records: Records) -> None:
    records.update("r-00000000", state=RunState.CANCELLED)
    with pytest.raises(Cancelled, match="cancelled"):
        records.step("r-00000000", "finetune").__enter__()
    assert records.get("r-00000000").state == RunState.CANCELLED
    assert step(records, "finetune").state == RunState.PENDING


def test_an_unknown_run_is_named(records: Records) -> None:
    with pytest.raises(NotFound, match="genaug run list"):
        records.get("x-00000000")
    assert records.ids() == ["r-00000000"]


def test_a_workflows_note_waits_for_a_store_that_is_away() -> None:
    store = Store.open(StoreSettings(url="memory://"), "orchestrator")
    records = Records(store, ProgressTracker())
    records.create("r", SPEC)
    away = [2]
    waited: list[float] = []
    put = store.put_json

    def refuse(key: str, value: object) -> None:
        if away[0]:
            away[0] -= 1
            raise Unavailable("away", reason="STORE_UNAVAILABLE")
        put(key, value)

    store.put_json = refuse  # type: ignore[method-assign]
    records.patient(waited.append).update("r", error="x")
    assert waited == [1, 2]
    assert records.get("r").error == "x"
    away[0] = 1
    with pytest.raises(Unavailable):
        records.update("r", error="y")
