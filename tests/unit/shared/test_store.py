from __future__ import annotations

import threading
from pathlib import Path

import pytest

from genaug.shared.errors import FailedPrecondition, NotFound, PermissionDenied, Unavailable
from genaug.shared.settings import StoreSettings
from genaug.shared.store import ROLES, Store


@pytest.fixture(params=["memory", "file"])
def open_store(request, stores, tmp_path):
    if request.param == "memory":
        return stores
    settings = StoreSettings(url=f"file://{tmp_path / 'store'}")
    return lambda role: Store.open(settings, role)


def test_the_stored_object_wins(open_store) -> None:
    store = open_store("generation")
    assert store.put_new("draws/aa/x", b"first")
    assert not store.put_new("draws/aa/x", b"second")
    assert store.get("draws/aa/x") == b"first"


def test_one_of_many_writers_wins(open_store) -> None:
    wins = []

    def write(number: int) -> None:
        if open_store("generation").put_new("draws/aa/race", bytes([number])):
            wins.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert open_store("generation").get("draws/aa/race") == bytes(wins)


def test_a_missing_object_is_named(open_store) -> None:
    with pytest.raises(NotFound, match="draws/aa/none"):
        open_store("generation").get("draws/aa/none")


def test_damaged_json_is_named(open_store) -> None:
    store = open_store("assembly")
    store.put_new("datasets/d/dataset.json", b'{"name": "data')
    with pytest.raises(
        FailedPrecondition, match=r"^datasets/d/dataset\.json is damaged \(no JSON\); restore it"
    ) as error:
        store.get_json("datasets/d/dataset.json")
    assert error.value.reason == "DAMAGED_OBJECT"


def test_lists_keys_and_children(open_store) -> None:
    store = open_store("finetune")
    for name in ("b/1", "a/1", "a/2"):
        store.put_new(f"generators/{name}", b"12")
    assert sorted(store.list("generators/")) == [("generators/a/1", 2), ("generators/a/2", 2), ("generators/b/1", 2)]
    assert list(store.children("generators/")) == ["a", "b"]


def test_deleting_twice_is_quiet(open_store) -> None:
    store = open_store("assembly")
    store.put_new("datasets/x", b"")
    store.delete("datasets/x")
    store.delete("datasets/x")
    assert not store.exists("datasets/x")


@pytest.mark.parametrize("role", sorted(set(ROLES) - {"assembly", "evaluate"}))
@pytest.mark.parametrize("key", ["sealed/images/aa/x", "sealed/datasets/d/rows.parquet", "restricted/subjects.key"])
def test_what_learns_never_reads_the_seal(stores, role: str, key: str) -> None:
    for act in (stores(role).get, stores(role).exists, stores(role).delete):
        with pytest.raises(PermissionDenied):
            act(key)
    with pytest.raises(PermissionDenied):
        stores(role).put(key, b"")


def test_what_reads_the_seal_never_learns() -> None:
    evaluate = ROLES["evaluate"]
    assert "sealed/" in evaluate.reads
    assert not {"classifiers/", "generators/", "draws/"} & set(evaluate.writes)


def test_a_store_without_conditional_put_is_refused(stores, monkeypatch) -> None:
    import obstore

    put = obstore.put
    monkeypatch.setattr(obstore, "put", lambda store, key, data, mode=None: put(store, key, data))
    with pytest.raises(FailedPrecondition, match="conditional put"):
        stores("assembly").check()


def test_check_leaves_nothing_behind(tmp_path: Path) -> None:
    store = Store.open(StoreSettings(url=f"file://{tmp_path}"), "assembly")
    store.check()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("url", ["ftp://x", "nonsense", ""])
def test_an_unknown_scheme_is_refused(url: str) -> None:
    with pytest.raises(FailedPrecondition, match="file://"):
        Store.open(StoreSettings(url=url), "assembly")


def test_an_unreachable_store_says_what_to_check() -> None:
    settings = StoreSettings(
        url="s3://bucket", endpoint="http://127.0.0.1:9", access_key_id="a", secret_access_key="s3cret"
    )
    store = Store.open(settings, "assembly")
    with pytest.raises(Unavailable, match="genaug doctor") as caught:
        store.get("datasets/x")
    assert "s3cret" not in str(caught.value)
