from __future__ import annotations

import pytest

from genaug.orchestrator.progress import Live
from genaug.orchestrator.records import CANCELLED, FAILED, PENDING, RUNNING, STEPS, SUCCEEDED, Records
from genaug.shared.errors import Cancelled, InvalidArgument, NotFound, Unavailable
from genaug.shared.settings import StoreSettings
from genaug.shared.store import Store


@pytest.fixture
def live() -> Live:
    return Live()


@pytest.fixture
def records(stores, live) -> Records:
    records = Records(stores("orchestrator"), live)
    records.create("r-00000000", {"name": "r"})
    return records


def step(records: Records, name: str) -> dict:
    return next(step for step in records.now("r-00000000")["steps"] if step["name"] == name)


def test_a_step_is_recorded_as_it_goes(records: Records, live: Live) -> None:
    with records.stage("r-00000000", "finetune") as stage:
        assert records.get("r-00000000")["state"] == RUNNING
        live.update("r-00000000", "a", 3, 10, "updates")
        live.expect("r-00000000", "b", 5)
        found = step(records, "finetune")["progress"]
        assert found == {
            "step": "finetune",
            "done": 3,
            "total": 15,
            "unit": "updates",
            "note": "",
            "seconds_left": 0.0,
        }
        stage.results.append("generators/x")
        stage.reused = 1
    found = step(records, "finetune")
    assert found["state"] == SUCCEEDED
    assert found["results"] == ["generators/x"]
    assert found["seconds"] >= 0
    assert step(records, "labeler")["state"] == PENDING
    assert [s["name"] for s in records.get("r-00000000")["steps"]] == list(STEPS)


def test_a_replay_keeps_what_was_recorded(records: Records) -> None:
    with records.stage("r-00000000", "view") as stage:
        stage.results.append("v")
    before = step(records, "view")
    with records.stage("r-00000000", "view") as stage:
        stage.reused = 99
    assert step(records, "view") == before


def test_a_failed_step_says_so(records: Records) -> None:
    with pytest.raises(InvalidArgument), records.stage("r-00000000", "view"):
        raise InvalidArgument("bad")
    assert step(records, "view")["state"] == FAILED


def test_a_cancelled_run_starts_no_further_step(records: Records) -> None:
    records.update("r-00000000", state=CANCELLED)
    with pytest.raises(Cancelled, match="cancelled"):
        records.stage("r-00000000", "finetune").__enter__()
    assert records.get("r-00000000")["state"] == CANCELLED
    assert step(records, "finetune")["state"] == PENDING


def test_an_unknown_run_is_named(records: Records) -> None:
    with pytest.raises(NotFound, match="genaug run list"):
        records.get("x-00000000")
    assert records.ids() == ["r-00000000"]


def test_a_workflows_note_waits_for_a_store_that_is_away() -> None:
    store = Store.open(StoreSettings(url="memory://"), "orchestrator")
    records = Records(store, Live())
    records.create("r", {})
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
    assert records.get("r")["error"] == "x"
    away[0] = 1
    with pytest.raises(Unavailable):
        records.update("r", error="y")
