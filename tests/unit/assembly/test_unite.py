"""Unions of sealed datasets: sides are kept, photographs lie on one."""

from __future__ import annotations

import io
from datetime import timedelta

import pyarrow.parquet as pq
import pytest
from obstore.store import MemoryStore

from genaug.assembly.datasets import delete_dataset, list_datasets
from genaug.assembly.garbage import collect_garbage
from genaug.assembly.unite import UnionRecord, unite_datasets
from genaug.schema.common import Progress
from genaug.schema.model import read
from genaug.shared.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import read_rows
from genaug.shared.store import Store

SIDES = ["train"] * 12 + ["validation"] * 4 + ["test"] * 4
FOREVER = timedelta(0)


def rows_of(store, dataset: str):
    keys = (f"datasets/{dataset}/versions/real/rows.parquet", f"sealed/datasets/{dataset}/rows.parquet")
    return [row for key in keys for row in read_rows(store, key)]


def unite(store, *parents: str, name: str = "u"):
    *progress, last = unite_datasets(name, parents, store)
    assert all(isinstance(event, Progress) for event in progress)
    return last


def fill(store, sent, run_import) -> None:
    """Dataset d of classes a and b, dataset e of class c; the same subject names, no image in both."""
    run_import(store, [sent(n, "ab"[n % 2], f"p{n // 2}", SIDES[n], eye="l") for n in range(20)], dataset="d")
    run_import(store, [sent(100 + n, "c", f"p{n // 2}", SIDES[n], eye="r") for n in range(20)], dataset="e")


@pytest.fixture
def two(stores, sent, run_import):
    store = stores("assembly")
    fill(store, sent, run_import)
    return store


def test_every_image_keeps_its_side_and_subjects_stay_apart(two) -> None:
    union = unite(two, "d", "e")
    sides = {row.image_id: (row.split, row.fold) for name in "de" for row in rows_of(two, name)}
    rows = rows_of(two, "u")
    assert {row.image_id: (row.split, row.fold) for row in rows} == sides
    assert (union.format, union.subjects, union.subjects_on_two_sides, union.dropped) == (
        "union",
        20,
        0,
        (),
    )
    assert union.own_split
    assert [count.class_name for count in union.training] == ["a", "b", "c"]
    assert [parent.name for parent in read(two, "datasets/u/dataset.json", UnionRecord).parents] == [
        "datasets/d",
        "datasets/e",
    ]
    parents = {row.subject_id for name in "de" for row in rows_of(two, name)}
    assert parents.isdisjoint(row.subject_id for row in rows)
    assert all(row.uri.startswith("sealed/") == (row.split == "test") for row in rows)
    assert {two.get_json(key)["purpose"] for key, _ in two.list("seal-openings/")} == {"UniteDatasets"}
    origins = pq.read_table(io.BytesIO(two.get("restricted/origins/u.parquet"))).to_pylist()
    assert {line["subject"] for line in origins} >= {"d/p0", "e/p0"}
    assert len(origins) == 40


@pytest.mark.parametrize("near", [False, True], ids=["identical", "near"])
def test_a_photograph_of_two_datasets_stays_on_the_most_protected_side(
    stores, sent, photograph, encode, run_import, near: bool
) -> None:
    """Image 18 is sealed in d; e has it, or a copy, in training, with another image of the same subject."""
    store = stores("assembly")
    run_import(store, [sent(n, "a", f"p{n // 2}", SIDES[n]) for n in range(20)], dataset="d")
    rows = [sent(100 + n, "a", f"q{n // 2}", SIDES[n]) for n in range(20)]
    rows[0] = sent(encode(photograph(18), compress_level=1) if near else 18, "a", "q0", "train")
    run_import(store, rows, dataset="e")
    union = unite(store, "e", "d")
    sealed = [row for row in rows_of(store, "u") if row.split == "test"]
    assert len(sealed) == 8
    gone = {rows[0][0].image_id, rows[1][0].image_id}
    assert {image.image_id for image in union.dropped} == gone
    assert all(image.reason == "DUPLICATE" and "datasets/e" in image.detail for image in union.dropped)
    learnt = {row.image_id for row in rows_of(store, "u") if row.split != "test"}
    assert gone.isdisjoint(learnt)
    assert union.subjects_on_two_sides == 0


def test_the_same_content_on_one_side_is_kept_once_and_joins_its_subjects(stores, sent, run_import) -> None:
    store = stores("assembly")
    run_import(store, [sent(n, "a", f"p{n // 2}", SIDES[n]) for n in range(20)], dataset="d")
    run_import(store, [sent(n if n < 2 else 100 + n, "a", f"q{n // 2}", SIDES[n]) for n in range(20)], dataset="e")
    union = unite(store, "d", "e")
    assert len(union.dropped) == 2
    assert len(rows_of(store, "u")) == 38
    groups: dict[str, set[int]] = {}
    for row in rows_of(store, "u"):
        groups.setdefault(row.group_id, set()).add(row.fold)
    assert all(len(folds) == 1 for folds in groups.values())


def test_the_same_content_with_two_classes_is_not_kept(stores, sent, run_import) -> None:
    store = stores("assembly")
    run_import(store, [sent(n, "a", "", SIDES[n]) for n in range(20)], dataset="d")
    run_import(store, [sent(n if n == 0 else 100 + n, "b", "", SIDES[n]) for n in range(20)], dataset="e")
    union = unite(store, "d", "e")
    assert ["another class" in image.detail for image in union.dropped] == [True, True]
    assert len(rows_of(store, "u")) == 38


def test_order_means_nothing_and_asking_again_decodes_nothing(two, monkeypatch) -> None:
    first = unite(two, "d", "e")
    monkeypatch.setattr("genaug.assembly.unite.with_pixels", lambda *_: pytest.fail("decoded again"))
    assert unite(two, "e", "d") == first


def test_another_union_of_the_same_name_is_refused(two, sent, run_import) -> None:
    unite(two, "d", "e")
    run_import(two, [sent(200 + n, "c", f"p{n // 2}", SIDES[n], eye="r") for n in range(20)], dataset="f")
    for name, parents in (("u", ("d", "f")), ("f", ("d", "e"))):
        with pytest.raises(AlreadyExists) as caught:
            unite(two, *parents, name=name)
        assert caught.value.reason == "DATASET_EXISTS"


@pytest.mark.parametrize("deleted", ["d", "e"])
def test_a_parents_end_leaves_the_unions_images(two, deleted: str) -> None:
    union = unite(two, "d", "e")
    delete_dataset(two, deleted)
    collect_garbage(two, validate_only=False, grace=FOREVER)
    assert all(two.exists(row.uri) for row in rows_of(two, "u"))
    assert unite(two, "d", "e") == union
    delete_dataset(two, "u")
    rest = ({"d", "e"} - {deleted}).pop()
    images = {key for prefix in ("images/", "sealed/images/") for key, _ in two.list(prefix)}
    assert images == {row.uri for row in rows_of(two, rest)}


@pytest.mark.parametrize("at", ["restricted/sources/u.json", "sealed/datasets/u/rows.parquet"])
def test_a_parent_deleted_meanwhile_leaves_nothing(two, at: str, monkeypatch) -> None:
    put = Store.put_new
    writing = at.startswith("sealed/")
    events = unite_datasets("u", ["d", "e"], two)
    for event in events:
        if event.step == "writing":
            break
    if writing:

        def deleting(self, key: str, data: bytes) -> bool:
            if key == at:
                delete_dataset(two, "e")
            return put(self, key, data)

        monkeypatch.setattr(Store, "put_new", deleting)
    else:
        delete_dataset(two, "e")
    with pytest.raises(FailedPrecondition, match="datasets/e was deleted"):
        list(events)
    assert list_datasets(two) == ["d"]
    for prefix in ("datasets/u/", "sealed/datasets/u/", "restricted/sources/u"):
        assert [key for key, _ in two.list("/".join(prefix.split("/")[:-1]) + "/") if key.startswith(prefix)] == []


class _Killed(BaseException):
    """Nothing in the code catches it: as final as kill -9."""


def test_a_union_killed_at_any_write_finishes_when_asked_again(sent, run_import, monkeypatch) -> None:
    put = Store.put_new
    expected = ""
    for allowed in (99, *range(6)):
        store = Store(MemoryStore(), "assembly", url="memory://")
        fill(store, sent, run_import)
        left = iter(range(allowed))
        with monkeypatch.context() as patch:

            def dying(self, key: str, data: bytes, *, left=left) -> bool:
                if next(left, None) is None:
                    raise _Killed
                return put(self, key, data)

            patch.setattr(Store, "put_new", dying)
            if allowed == 99:
                expected = unite(store, "d", "e").digest
            else:
                with pytest.raises(_Killed):
                    unite(store, "d", "e")
                assert "u" not in list_datasets(store)
        collect_garbage(store, validate_only=False, grace=FOREVER)
        assert unite(store, "d", "e").digest == expected


@pytest.mark.parametrize(
    ("change", "field"),
    [({"attribute": {"age": "5"}}, "attributes"), ({"folds": 3}, "folds"), ({"grey": True}, "channels")],
)
def test_schemas_that_differ_are_refused_by_both_names(
    stores, sent, photograph, encode, run_import, change, field: str
) -> None:
    store = stores("assembly")
    run_import(store, [sent(n, "a", "", SIDES[n]) for n in range(20)], dataset="d")
    grey = change.get("grey")
    content = [encode(photograph(100 + n)[:, :, 0]) if grey else 100 + n for n in range(20)]
    rows = [sent(content[n], "a", "", SIDES[n], **change.get("attribute", {})) for n in range(20)]
    run_import(store, rows, dataset="e", folds=change.get("folds", 5))
    with pytest.raises(InvalidArgument) as caught:
        unite(store, "d", "e")
    assert (caught.value.reason, caught.value.metadata["field"]) == ("SCHEMA_MISMATCH", field)
    assert caught.value.message.startswith(f"{field}: datasets/d has ")
    assert "datasets/e" in caught.value.message


@pytest.mark.parametrize(
    ("parents", "error", "reason"),
    [
        (["d"], InvalidArgument, "TOO_FEW_DATASETS"),
        (["d", "d"], InvalidArgument, "DATASET_TWICE"),
        (["d", "u"], InvalidArgument, "DATASET_TWICE"),
        (["d", "x"], NotFound, "DATASET_NOT_FOUND"),
    ],
)
def test_wrong_unions_are_refused(two, parents, error, reason: str) -> None:
    with pytest.raises(error) as caught:
        unite(two, *parents)
    assert caught.value.reason == reason
    assert list_datasets(two) == ["d", "e"]
