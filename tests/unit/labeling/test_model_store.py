from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.labeling.test_torchserve import trained

from genaug.cli.model_server import is_whole
from genaug.labeling import model_requests, model_store
from genaug.labeling.export import model_name
from genaug.labeling.model_requests import ModelRequests, read_requests
from genaug.labeling.model_store import Labelers, ModelStore
from genaug.schema.classifiers import Classifier, Role
from genaug.schema.common import Precision
from genaug.shared.errors import Unavailable
from genaug.vision.batching.dynamic_batcher import ModelKey
from genaug.vision.models.classifiers import save

MODELS = [ModelKey("classifiers/" + digit * 32, Precision.FLOAT32) for digit in "ab"]


class Server:
    """A TorchServe that loads all models except `broken` ones."""

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
        record = Classifier(role=Role.LABELER, create_time=str(index))
        save(stores("train"), trained(), name=model.name, record=record)
    return stores("labeling")


def test_it_is_in_sync_once_all_requested_models_are_loaded(saved, tmp_path: Path) -> None:
    server = Server()
    synced = ModelStore(saved, tmp_path, server, linger_s=0)  # type: ignore[arg-type]
    assert synced.sync(MODELS)
    assert server.loaded == {model_name(model) for model in MODELS}
    assert synced.sync(MODELS[:1])
    assert server.loaded == {model_name(MODELS[0])}
    assert [folder.name for folder in tmp_path.iterdir()] == [model_name(MODELS[0])]


def test_a_model_that_does_not_load_is_waited_for_and_then_not(saved, tmp_path: Path, monkeypatch) -> None:
    server, broken = Server(), model_name(MODELS[0])
    server.broken = {broken}
    synced = ModelStore(saved, tmp_path, server, linger_s=0)  # type: ignore[arg-type]
    assert not synced.sync(MODELS)
    assert server.loaded == {model_name(MODELS[1])}
    assert not synced.sync(MODELS)
    assert server.tried.count(broken) == 1, "it is not tried every two seconds"
    monkeypatch.setattr(model_store, "_AGAIN", 0.0)
    assert not synced.sync(MODELS)
    assert synced.sync(MODELS), "after three attempts nobody waits for it"
    server.broken = set()
    assert synced.sync(MODELS)
    assert broken in server.loaded


def test_a_half_written_model_is_neither_loaded_nor_kept(saved, tmp_path: Path) -> None:
    half = tmp_path / f".{model_name(MODELS[0])}.part"
    (half / "MAR-INF").mkdir(parents=True)
    assert not is_whole(half)
    ModelStore(saved, tmp_path, Server(), linger_s=0).sync(MODELS[:1])  # type: ignore[arg-type]
    assert [is_whole(folder) for folder in tmp_path.iterdir()] == [True]


def test_records_are_read_once(saved, monkeypatch: pytest.MonkeyPatch) -> None:
    labelers = Labelers(saved)
    assert [model.name for model in labelers.newest(9, Precision.FLOAT32)] == [MODELS[1].name, MODELS[0].name]
    monkeypatch.setattr(saved, "get_json", lambda key: pytest.fail(f"{key} is read again"))
    assert labelers.newest(1, Precision.FLOAT32) == [MODELS[1]]


def test_requests_of_labeling_are_known_for_a_while(saved, monkeypatch: pytest.MonkeyPatch) -> None:
    requests, half = ModelRequests(saved), ModelKey(MODELS[0].name, Precision.BFLOAT16)
    for model in (*MODELS, MODELS[0], half):
        requests(model)
    assert set(read_requests(saved, within_s=60)) == {*MODELS, half}
    now = model_requests.time.time
    monkeypatch.setattr(model_requests.time, "time", lambda: now() + 100)
    assert read_requests(saved, within_s=60) == []
    monkeypatch.setattr(model_requests, "_INTERVAL", 0.0)
    requests(MODELS[1])
    assert read_requests(saved, within_s=60) == [MODELS[1]]


def test_a_store_that_is_away_does_not_stop_labelling(saved, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(key: str, value: object) -> None:
        raise Unavailable("away", reason="STORE_UNAVAILABLE")

    monkeypatch.setattr(saved, "put_json", away)
    ModelRequests(saved)(MODELS[0])
