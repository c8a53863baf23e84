from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.shapes import VERSION, put_version

from genaug.selection.choose import METHODS
from genaug.selection.embed import Doing, Embedding, read_embedding, write_embedding
from genaug.selection.select import Wanted, method_of, read_selected_csv, read_selection, select
from genaug.shared.digests import digest_of
from genaug.shared.errors import Cancelled, FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import Row, decode
from genaug.shared.protojson import to_dict
from genaug.v1 import selection_pb2
from genaug.vision.models.precision import FLOAT32

COUNTS = {"many": 30, "more": 50, "few": 9}
EMBEDDING = "embeddings/" + "e" * 32
CLASSIFIER = "classifiers/" + "c" * 32


def bare_rows() -> list[Row]:
    """Rows whose images nobody looks at."""
    return [
        Row(f"{number:032x}", "", "", "", kind, split="train", fold=0)
        for number, kind in enumerate(kind for kind, count in COUNTS.items() for _ in range(count))
    ]


@pytest.fixture
def version(stores) -> str:
    rows = bare_rows()
    put_version(stores("assembly"), rows)
    features = np.random.default_rng(0).normal(size=(len(rows), 6)).astype(np.float32)
    ids = tuple(row.image_id for row in rows)
    write_embedding(stores("selection"), Embedding(EMBEDDING, VERSION, CLASSIFIER, FLOAT32, ids, features))
    return VERSION


def wanted(**changes: Any) -> Wanted:
    return Wanted(**{"dataset_version": VERSION, "embedding": EMBEDDING, "classes": ("many",), "kept": 9, **changes})


def made(store, what: Wanted) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    *_, record = select(what, store)
    assert isinstance(record, dict)
    return record, decode(store.get(record["manifest"])).to_pylist()


def test_dominant_classes_are_reduced_and_others_are_whole(stores, version) -> None:
    record, rows = made(stores("selection"), wanted(classes=("more", "many")))
    assert [row["image_id"] for row in rows] == [row.image_id for row in bare_rows()]
    for column in ("chosen", "random"):
        assert Counter(row["class"] for row in rows if row[column]) == {"many": 9, "more": 9, "few": 9}
    assert any(row["chosen"] != row["random"] for row in rows)
    assert len({(row["x"], row["y"]) for row in rows}) == len(rows)
    found = {one["class_name"]: one for one in record["qualities"]}
    assert (found["many"]["available"], found["many"]["kept"]) == (30, 9)
    assert found["more"]["coverage"] >= found["more"]["random_coverage"]


def test_the_record_is_a_selection_message(stores, version) -> None:
    record, _ = made(stores("selection"), wanted())
    message = json_format.ParseDict(record, selection_pb2.Selection())
    (found,) = to_dict(message)["qualities"]
    # What is zero is left out of a message.
    assert found == {key: value for key, value in record["qualities"][0].items() if value}
    assert to_dict(message)["spec"] == record["spec"]
    assert read_selection(stores("report"), record["name"]) == record


@given(kept=st.integers(1, 60), seed=st.integers(0, 2**53), method=st.sampled_from(METHODS))
@settings(max_examples=8)
def test_exactly_as_many_as_there_can_be(stores, version, kept: int, seed: int, method: Any) -> None:
    _, rows = made(stores("selection"), wanted(kept=kept, seed=seed, method=method, classes=("many",)))
    for column in ("chosen", "random"):
        assert Counter(row["class"] for row in rows if row[column]) == {**COUNTS, "many": min(kept, 30)}


def test_a_selection_is_made_once_and_alike(stores, version) -> None:
    store = stores("selection")
    first, rows = made(store, wanted())
    assert list(select(wanted(), store)) == [first]
    for key in ("selection.json", "manifest.parquet"):
        store.delete(f"{first['name']}/{key}")
    assert made(store, wanted())[1] == rows


@given(order=st.permutations(range(sum(COUNTS.values()))), method=st.sampled_from(METHODS))
@settings(max_examples=8)
def test_the_order_of_rows_changes_nothing(stores, version, order: list[int], method: Any) -> None:
    rows = bare_rows()
    other, embedding = f"{VERSION}-{digest_of('order', {'order': order})}", f"embeddings/{digest_of('o', {'o': order})}"
    put_version(stores("assembly"), [rows[index] for index in order], name=other)
    store = stores("selection")
    features = read_embedding(store, EMBEDDING).features[order]
    ids = tuple(rows[index].image_id for index in order)
    write_embedding(store, Embedding(embedding, other, CLASSIFIER, FLOAT32, ids, features))
    before, plain = made(store, wanted(method=method))
    after, turned = made(store, wanted(method=method, dataset_version=other, embedding=embedding))
    assert [row["image_id"] for row in turned] == [rows[index].image_id for index in order]
    assert sorted(turned, key=lambda row: row["image_id"]) == plain
    assert after["qualities"] == before["qualities"]


def test_the_record_shows_every_method(stores, version) -> None:
    record, _ = made(stores("selection"), wanted(method="METHOD_HERDING", kept=9))
    (found,) = record["qualities"]
    alternatives = {one["method"]: one for one in found["alternatives"]}
    assert list(alternatives) == list(METHODS)
    assert alternatives["METHOD_HERDING"]["mmd2"] == found["mmd2"] < found["random_mmd2"]


def test_kept_images_are_listed_in_a_table(stores, version) -> None:
    record, rows = made(stores("selection"), wanted())
    table = read_selected_csv(stores("selection"), record["name"]).decode().splitlines()
    assert table[0] == "image_id,label,x,y"
    kept = [row for row in rows if row["chosen"]]
    assert [line.split(",")[0] for line in table[1:]] == [f'"{row["image_id"]}"' for row in kept]
    with pytest.raises(NotFound):
        read_selected_csv(stores("selection"), "selections/" + "0" * 32)
    stores("selection").delete(f"{record['name']}/selected.csv")
    with pytest.raises(NotFound, match="select again"):
        read_selected_csv(stores("selection"), record["name"])


def test_the_order_of_classes_changes_nothing() -> None:
    assert wanted(classes=("many", "more")).name == wanted(classes=("more", "many")).name
    assert len({wanted().name, wanted(kept=8).name, wanted(seed=1).name, wanted(method="METHOD_RANDOM").name}) == 4


def test_a_random_choice_is_not_its_own_control(stores, version) -> None:
    _, rows = made(stores("selection"), wanted(method="METHOD_RANDOM"))
    assert [row["chosen"] for row in rows] != [row["random"] for row in rows]


def test_another_versions_embedding_is_refused(stores, version) -> None:
    other = Embedding("embeddings/" + "f" * 32, VERSION, CLASSIFIER, FLOAT32, ("0" * 32,), np.zeros((1, 6), np.float32))
    write_embedding(stores("selection"), other)
    with pytest.raises(FailedPrecondition) as caught:
        list(select(wanted(embedding="embeddings/" + "f" * 32), stores("selection")))
    assert caught.value.reason == "EMBEDDING_MISMATCH"
    with pytest.raises(NotFound):
        list(select(wanted(embedding="embeddings/" + "0" * 32), stores("selection")))


def test_a_class_that_is_not_there_is_refused(stores, version) -> None:
    with pytest.raises(FailedPrecondition, match="none-such"):
        list(select(wanted(classes=("many", "none-such")), stores("selection")))


def test_a_caller_who_left_gets_nothing_written(stores, version) -> None:
    events = select(wanted(), stores("selection"), until=lambda: False)
    assert next(events) == Doing("projecting", 0, 89)
    with pytest.raises(Cancelled):
        next(events)
    with pytest.raises(NotFound):
        read_selection(stores("selection"), wanted().name)


@pytest.mark.parametrize("wrong", [{"classes": ()}, {"classes": ("many", "many")}, {"kept": 0}, {"kept": -1}])
def test_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        wanted(**wrong)


def test_methods_are_known_by_name() -> None:
    assert method_of("METHOD_RANDOM") == "METHOD_RANDOM"
    with pytest.raises(InvalidArgument, match="METHOD_TSNE_GRID"):
        method_of("9")
