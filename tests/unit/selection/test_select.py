from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.shapes import VERSION, put_version

from genaug.schema.common import Precision
from genaug.schema.model import parse
from genaug.schema.requests import SelectRequest
from genaug.schema.selection import Selection, SelectionMethod, SelectionSpec
from genaug.schema.wire import from_proto, to_proto
from genaug.selection.embed import Embedding, SelectionProgress, read_embedding, write_embedding
from genaug.selection.select import check_request, read_selected_csv, read_selection, result_name, select
from genaug.shared.digests import digest_of
from genaug.shared.errors import Cancelled, FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import Row, decode
from genaug.v1 import selection_pb2

COUNTS = {"many": 30, "more": 50, "few": 9}
EMBEDDING = "embeddings/" + "e" * 32
CLASSIFIER = "classifiers/" + "c" * 32


def bare_rows() -> list[Row]:
    """Rows without images."""
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
    write_embedding(stores("selection"), Embedding(EMBEDDING, VERSION, CLASSIFIER, Precision.FLOAT32, ids, features))
    return VERSION


def request_of(*, dataset_version: str = VERSION, embedding: str = EMBEDDING, **spec: Any) -> SelectRequest:
    spec = {"classes": ("many",), "kept": 9, **spec}
    return SelectRequest(dataset_version=dataset_version, embedding=embedding, spec=parse(SelectionSpec, spec))


def selected(store, request: SelectRequest) -> tuple[Selection, list[dict[str, Any]]]:
    """The record, and the rows of the manifest."""
    *_, record = select(request, store)
    assert isinstance(record, Selection)
    return record, decode(store.get(record.manifest)).to_pylist()


def test_dominant_classes_are_reduced_and_others_are_whole(stores, version) -> None:
    record, rows = selected(stores("selection"), request_of(classes=("more", "many")))
    assert [row["image_id"] for row in rows] == [row.image_id for row in bare_rows()]
    for column in ("chosen", "random"):
        assert Counter(row["class"] for row in rows if row[column]) == {"many": 9, "more": 9, "few": 9}
    assert any(row["chosen"] != row["random"] for row in rows)
    assert len({(row["x"], row["y"]) for row in rows}) == len(rows)
    qualities = {quality.class_name: quality for quality in record.qualities}
    assert (qualities["many"].available, qualities["many"].kept) == (30, 9)
    assert qualities["more"].coverage >= qualities["more"].random_coverage


def test_the_record_is_a_selection_message(stores, version) -> None:
    record, _ = selected(stores("selection"), request_of())
    assert from_proto(Selection, to_proto(selection_pb2.Selection, record)) == record
    assert read_selection(stores("report"), record.name) == record


@given(kept=st.integers(1, 60), seed=st.integers(0, 2**53), method=st.sampled_from(SelectionMethod))
@settings(max_examples=8)
def test_exactly_as_many_as_there_can_be(stores, version, kept: int, seed: int, method: SelectionMethod) -> None:
    _, rows = selected(stores("selection"), request_of(kept=kept, seed=seed, method=method, classes=("many",)))
    for column in ("chosen", "random"):
        assert Counter(row["class"] for row in rows if row[column]) == {**COUNTS, "many": min(kept, 30)}


def test_a_selection_is_made_once_and_alike(stores, version) -> None:
    store = stores("selection")
    first, rows = selected(store, request_of())
    assert list(select(request_of(), store)) == [first]
    for key in ("selection.json", "manifest.parquet"):
        store.delete(f"{first.name}/{key}")
    assert selected(store, request_of())[1] == rows


@given(order=st.permutations(range(sum(COUNTS.values()))), method=st.sampled_from(SelectionMethod))
@settings(max_examples=8)
def test_the_order_of_rows_changes_nothing(stores, version, order: list[int], method: SelectionMethod) -> None:
    rows = bare_rows()
    other, embedding = f"{VERSION}-{digest_of('order', {'order': order})}", f"embeddings/{digest_of('o', {'o': order})}"
    put_version(stores("assembly"), [rows[index] for index in order], name=other)
    store = stores("selection")
    features = read_embedding(store, EMBEDDING).features[order]
    ids = tuple(rows[index].image_id for index in order)
    write_embedding(store, Embedding(embedding, other, CLASSIFIER, Precision.FLOAT32, ids, features))
    before, plain = selected(store, request_of(method=method))
    after, turned = selected(store, request_of(method=method, dataset_version=other, embedding=embedding))
    assert [row["image_id"] for row in turned] == [rows[index].image_id for index in order]
    assert sorted(turned, key=lambda row: row["image_id"]) == plain
    assert after.qualities == before.qualities


def test_the_record_shows_every_method(stores, version) -> None:
    record, _ = selected(stores("selection"), request_of(method=SelectionMethod.HERDING, kept=9))
    (quality,) = record.qualities
    alternatives = {alternative.method: alternative for alternative in quality.alternatives}
    assert list(alternatives) == list(SelectionMethod)
    assert alternatives[SelectionMethod.HERDING].mmd2 == quality.mmd2 < quality.random_mmd2


def test_kept_images_are_listed_in_a_table(stores, version) -> None:
    record, rows = selected(stores("selection"), request_of())
    table = read_selected_csv(stores("selection"), record.name).decode().splitlines()
    assert table[0] == "image_id,label,x,y"
    kept = [row for row in rows if row["chosen"]]
    assert [line.split(",")[0] for line in table[1:]] == [f'"{row["image_id"]}"' for row in kept]
    with pytest.raises(NotFound):
        read_selected_csv(stores("selection"), "selections/" + "0" * 32)
    stores("selection").delete(f"{record.name}/selected.csv")
    with pytest.raises(NotFound, match="select again"):
        read_selected_csv(stores("selection"), record.name)


def test_the_order_of_classes_changes_nothing() -> None:
    assert result_name(request_of(classes=("many", "more"))) == result_name(request_of(classes=("more", "many")))
    others = request_of(kept=8), request_of(seed=1), request_of(method=SelectionMethod.RANDOM)
    assert len({result_name(request) for request in (request_of(), *others)}) == 4


def test_selections_keep_their_names() -> None:
    """Selections of earlier releases are found again: names are digests of the same JSON."""
    spec = {"classes": ["many", "more"], "method": "METHOD_TSNE_GRID", "kept": 9, "seed": 0}
    digest = digest_of("select/2", {"dataset_version": VERSION, "embedding": EMBEDDING, "spec": spec})
    name = result_name(request_of(classes=("more", "many")))
    assert name == f"selections/{digest}" == "selections/5029a725d935f05d49fb5614d509d734"


def test_a_random_choice_is_not_its_own_control(stores, version) -> None:
    _, rows = selected(stores("selection"), request_of(method=SelectionMethod.RANDOM))
    assert [row["chosen"] for row in rows] != [row["random"] for row in rows]


def test_another_versions_embedding_is_refused(stores, version) -> None:
    other = Embedding(
        "embeddings/" + "f" * 32, VERSION, CLASSIFIER, Precision.FLOAT32, ("0" * 32,), np.zeros((1, 6), np.float32)
    )
    write_embedding(stores("selection"), other)
    with pytest.raises(FailedPrecondition) as caught:
        list(select(request_of(embedding="embeddings/" + "f" * 32), stores("selection")))
    assert caught.value.reason == "EMBEDDING_MISMATCH"
    with pytest.raises(NotFound):
        list(select(request_of(embedding="embeddings/" + "0" * 32), stores("selection")))


def test_a_missing_class_is_refused(stores, version) -> None:
    with pytest.raises(FailedPrecondition, match="none-such"):
        list(select(request_of(classes=("many", "none-such")), stores("selection")))


def test_a_caller_who_left_gets_nothing_written(stores, version) -> None:
    events = select(request_of(), stores("selection"), is_active=lambda: False)
    assert next(events) == SelectionProgress("projecting", 0, 89)
    with pytest.raises(Cancelled):
        next(events)
    with pytest.raises(NotFound):
        read_selection(stores("selection"), result_name(request_of()))


@pytest.mark.parametrize("wrong", [{"classes": ()}, {"classes": ("many", "many")}, {"kept": 0}, {"kept": -1}])
def test_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        check_request(request_of(**wrong))
