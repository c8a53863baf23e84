"""The engine on a real SQLite database; what survives kill -9 is tested with whole runs in tests/integration."""

from __future__ import annotations

import base64
import contextlib
import pickle
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dbos import DBOS
from tests.servers import HANG_S, wait_until

from genaug.orchestrator.engine import Engine, IsActive, Work
from genaug.orchestrator.progress_tracker import ProgressTracker
from genaug.schema.model import Model
from genaug.shared.errors import FailedPrecondition, InvalidArgument, Unavailable
from genaug.shared.progress import ProgressCallback
from genaug.shared.settings import load_settings


class Word(Model):
    word: str = ""


class Calls:
    """Calls that are counted."""

    def __init__(self) -> None:
        self.seen: list[Word] = []
        self.hold = threading.Event()

    def echo(self, request: Word, is_active: IsActive, on_progress: ProgressCallback) -> Word:
        self.seen.append(request)
        on_progress(1, 1, "words")
        return request

    def refuse(self, request: Word, is_active: IsActive, on_progress: ProgressCallback) -> Word:
        raise InvalidArgument("no such word", reason="BAD_WORD")

    def break_down(self, request: Word, is_active: IsActive, on_progress: ProgressCallback) -> Word:
        raise ZeroDivisionError("a detail of ours")

    def stay_away(self, request: Word, is_active: IsActive, on_progress: ProgressCallback) -> Word:
        self.seen.append(request)
        if len(self.seen) < 2:
            raise Unavailable("not yet")
        return Word()

    def wait(self, request: Word, is_active: IsActive, on_progress: ProgressCallback) -> Word:
        self.hold.set()
        while is_active():
            time.sleep(0.01)
        raise FailedPrecondition("stopped")


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def engine(tmp_path: Path, calls: Calls, monkeypatch) -> Iterator[Engine]:
    monkeypatch.chdir(tmp_path)
    results: dict[str, object] = {}

    def talk(work: Work) -> None:
        first = work.call(calls.echo, Word(word="hello")).word
        rest = work.chunks(calls.echo, [Word(word=str(number)) for number in range(6)], sizes=[1] * 6)
        results[work.owner] = [first, *(result.word for result in rest)]

    def one(name: str):
        return lambda work: work.call(getattr(calls, name), Word())

    engine = Engine(
        load_settings(home=str(tmp_path)),
        workflows={"talk": talk} | {name: one(name) for name in ("refuse", "break_down", "stay_away", "wait")},
        calls=[calls.echo, calls.refuse, calls.break_down, calls.stay_away, calls.wait],
        tracker=ProgressTracker(),
    )
    engine.results = results  # type: ignore[attr-defined]
    engine.launch()
    yield engine
    engine.close()


def finish(engine: Engine, kind: str, owner: str = "o") -> None:
    engine.start(kind, owner, f"{owner}.1")
    wait_until(lambda: not engine.busy(), what=owner)


def test_calls_and_chunks_come_back_in_order(engine: Engine, calls: Calls) -> None:
    finish(engine, "talk")
    assert engine.results["o"] == ["hello", *map(str, range(6))]  # type: ignore[attr-defined]
    assert engine.status("o.1") == "SUCCESS"
    assert engine.outcome("o.1") is None
    assert engine.attempts("o") == 1


def test_a_workflow_is_started_once(engine: Engine, calls: Calls) -> None:
    finish(engine, "talk")
    count = len(calls.seen)
    finish(engine, "talk")
    assert len(calls.seen) == count


def test_an_error_keeps_its_kind(engine: Engine) -> None:
    finish(engine, "refuse")
    error = engine.outcome("o.1")
    assert isinstance(error, InvalidArgument)
    assert (error.message, error.reason) == ("no such word", "BAD_WORD")


def test_an_unexpected_error_keeps_its_text(engine: Engine) -> None:
    finish(engine, "break_down")
    error = engine.outcome("o.1")
    assert error is not None
    assert error.code == "INTERNAL"
    assert "detail" not in error.message


def test_a_service_that_is_away_is_asked_again(engine: Engine, calls: Calls) -> None:
    finish(engine, "stay_away")
    assert len(calls.seen) == 2
    assert engine.status("o.1") == "SUCCESS"


def test_cancel_stops_the_call_at_work(engine: Engine, calls: Calls) -> None:
    engine.start("wait", "o", "o.1")
    assert calls.hold.wait(HANG_S)
    engine.cancel("o.1")
    wait_until(lambda: not engine.busy(), what="the end of the call")
    assert engine.status("o.1") == "CANCELLED"


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickled_row_is_never_opened(engine: Engine, tmp_path: Path) -> None:
    """DBOS opens a row by the format that the row names; a writer to the database must not run code here."""
    finish(engine, "talk")
    poison = base64.b64encode(pickle.dumps(Bomb(tmp_path / "boom"))).decode()
    with sqlite3.connect(tmp_path / "orchestrator.sqlite") as connection:
        connection.execute(
            "UPDATE workflow_status SET inputs = ?, output = ?, serialization = 'py_pickle'", (poison, poison)
        )
    connection.close()
    with contextlib.suppress(FailedPrecondition):
        DBOS.list_workflows()
    with contextlib.suppress(FailedPrecondition):
        engine.outcome("o.1")
    assert not (tmp_path / "boom").exists()
    pickle.loads(base64.b64decode(poison))
    assert (tmp_path / "boom").exists(), "the bomb works, so its silence above means something"


def test_a_database_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    settings = load_settings(home=str(tmp_path), database={"url": f"sqlite:///{tmp_path}"})
    with pytest.raises(FailedPrecondition, match=r"database\.url"):
        Engine(settings, workflows={}, calls=[], tracker=ProgressTracker()).launch()


def test_closing_leaves_work_to_be_taken_up(engine: Engine, calls: Calls) -> None:
    engine.start("wait", "o", "o.1")
    assert calls.hold.wait(HANG_S)
    engine.close()
    calls.hold.clear()
    engine._closing.clear()
    engine.launch()
    assert calls.hold.wait(HANG_S), "the call is done again"
    assert engine.status("o.1") == "PENDING"
    engine.cancel("o.1")
