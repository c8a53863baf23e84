from __future__ import annotations

from pathlib import Path

import pytest
from genaug.labeling.wanted import Wanted, read_wanted
from tests.unit.labeling.test_torchserve import classifier

from genaug.cli.model_server import is_whole
from genaug.labeling import model_store, wanted
from genaug.labeling.export import model_name
from genaug.labeling.model_store import Labelers, ModelStore
from genaug.shared.errors import Unavailable
from genaug.vision.batching.dynamic_batcher import Model
from genaug.vision.models.classifiers import save
from genaug.vision.models.precision import BFLOAT16, FLOAT32

MODELS = [Model("classifiers/" + digit * 32, FLOAT32) for digit in "ab"]


class Server:
    """A TorchServe that does not load what is `broken`."""

    def __init__(self) -> None:
        self.loaded: set[str] = set()
        self.tried: list[str] = []
        self.broken: set[str] = set()

    def models(self) -> set[str]:
        return set(self.loaded)

    def waiting(self, name: str) -> int:
        return 0

    def load(self, name: str) -> None:
        self.tried.append(name)
        if name in self.broken:
            raise Unavailable("no worker", reason="MODEL_SERVER_REFUSES")
        self.loaded.add(name)

    def unload(self, name: str) -> None:
        self.loaded.remove(name)


@pytest.fixture
def saved(stores):
    for index, model in enumerate(MODELS):
        save(stores("train"), classifier(), name=model.name, record={"role": "ROLE_LABELER", "create_time": str(index)})
    return stores("labeling")


def test_it_is_in_line_once_all_that_is_wanted_is_there(saved, tmp_path: Path) -> None:
    server = Server()
    kept = ModelStore(saved, tmp_path, server, linger_s=0)  # type: ignore[arg-type]
    assert kept.sync(MODELS)
    assert server.loaded == {model_name(model) for model in MODELS}
    assert kept.sync(MODELS[:1])
    assert server.loaded == {model_name(MODELS[0])}
    assert [one.name for one in tmp_path.iterdir()] == [model_name(MODELS[0])]


def test_one_that_does_not_load_is_waited_for_and_then_not(saved, tmp_path: Path, monkeypatch) -> None:
    server, broken = Server(), model_name(MODELS[0])
    server.broken = {broken}
    kept = ModelStore(saved, tmp_path, server, linger_s=0)  # type: ignore[arg-type]
    assert not kept.sync(MODELS)
    assert server.loaded == {model_name(MODELS[1])}
    assert not kept.sync(MODELS)
    assert server.tried.count(broken) == 1, "it is not tried every two seconds"
    monkeypatch.setattr(model_store, "_AGAIN", 0.0)
    assert not kept.sync(MODELS)
    assert kept.sync(MODELS), "after three attempts nobody waits for it"
    server.broken = set()
    assert kept.sync(MODELS)
    assert broken in server.loaded


def test_what_was_half_written_is_neither_loaded_nor_kept(saved, tmp_path: Path) -> None:
    half = tmp_path / f".{model_name(MODELS[0])}.part"
    (half / "MAR-INF").mkdir(parents=True)
    assert not is_whole(half)
    ModelStore(saved, tmp_path, Server(), linger_s=0).sync(MODELS[:1])  # type: ignore[arg-type]
    assert [is_whole(one) for one in tmp_path.iterdir()] == [True]


def test_records_are_read_once(saved, monkeypatch: pytest.MonkeyPatch) -> None:
    labelers = Labelers(saved)
    assert [one.name for one in labelers.newest(9, FLOAT32)] == [MODELS[1].name, MODELS[0].name]
    monkeypatch.setattr(saved, "get_json", lambda key: pytest.fail(f"{key} is read again"))
    assert labelers.newest(1, FLOAT32) == [MODELS[1]]


def test_what_labeling_asks_for_is_known_for_a_while(saved, monkeypatch: pytest.MonkeyPatch) -> None:
    name = Wanted(saved)
    for model in (*MODELS, MODELS[0], Model(MODELS[0].name, BFLOAT16)):
        name(model)
    assert set(read_wanted(saved, within_s=60)) == {*MODELS, Model(MODELS[0].name, BFLOAT16)}
    now = wanted.time.time
    monkeypatch.setattr(wanted.time, "time", lambda: now() + 100)
    assert read_wanted(saved, within_s=60) == []
    monkeypatch.setattr(wanted, "_AGAIN", 0.0)
    name(MODELS[1])
    assert read_wanted(saved, within_s=60) == [MODELS[1]]


def test_a_store_that_is_away_keeps_nobody_from_labelling(saved, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(key: str, value: object) -> None:
        raise Unavailable("away", reason="STORE_UNAVAILABLE")

    monkeypatch.setattr(saved, "put_json", away)
    Wanted(saved)(MODELS[0])
