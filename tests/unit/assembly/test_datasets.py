"""Listing, exporting and deleting datasets."""

from __future__ import annotations

import pytest

from genaug.assembly.datasets import (
    delete_dataset,
    export_manifest,
    get_dataset,
    get_version,
    list_datasets,
    list_versions,
    write_version,
)
from genaug.schema.common import ClassCount
from genaug.shared.errors import InvalidArgument, NotFound
from genaug.shared.manifest import decode, read_rows, to_rows
from genaug.shared.seal_log import SealOpening


@pytest.fixture
def two(stores, sent, run_import):
    """Datasets d (images 0 to 29) and e (20 to 49), in one store; ten images are in both."""
    store = stores("assembly")
    run_import(store, [sent(n, "ab"[n % 2]) for n in range(30)], dataset="d")
    run_import(store, [sent(n, "ab"[n % 2]) for n in range(20, 50)], dataset="e", seed=9)
    return store


def images(store) -> set[str]:
    return {key for prefix in ("images/", "sealed/images/") for key, _ in store.list(prefix)}


def named(store, dataset: str) -> set[str]:
    keys = (f"datasets/{dataset}/versions/real/rows.parquet", f"sealed/datasets/{dataset}/rows.parquet")
    return {row.uri for key in keys for row in read_rows(store, key)}


def test_deleting_leaves_the_images_of_others(two) -> None:
    others = named(two, "e")
    delete_dataset(two, "d")
    assert images(two) == others
    assert list_datasets(two) == ["e"]
    for prefix in ("datasets/", "sealed/datasets/", "restricted/origins/", "restricted/sources/"):
        assert all(key.removeprefix(prefix).startswith("e") for key, _ in two.list(prefix))
    delete_dataset(two, "e")
    assert images(two) == set()


def test_a_deletion_killed_half_way_is_finished_by_another(two, monkeypatch) -> None:
    others = named(two, "e")
    with monkeypatch.context() as patch:
        left = iter(range(12))
        delete = type(two).delete
        patch.setattr(type(two), "delete", lambda self, key: (next(left), delete(self, key)))
        with pytest.raises(StopIteration):
            delete_dataset(two, "d")
    assert list_datasets(two) == ["e"]
    delete_dataset(two, "d")
    assert images(two) == others


def test_a_deleted_name_is_free_again(two, sent, run_import) -> None:
    with pytest.raises(NotFound):
        delete_dataset(two, "f")
    delete_dataset(two, "d")
    with pytest.raises(NotFound):
        get_dataset(two, "d")
    assert run_import(two, [sent(n) for n in range(60, 70)], dataset="d").subjects == 10


def test_versions_are_listed_real_first(two) -> None:
    rows = read_rows(two, "datasets/d/versions/real/rows.parquet")
    write_version(two, "d", "0" * 32, rows[:4], shortfall={"a": 2, "b": 0})
    assert list_versions(two, "d") == ["real", "0" * 32]
    assert get_version(two, "d", "0" * 32).shortfall == (ClassCount(class_name="a", count=2),)
    with pytest.raises(NotFound):
        get_version(two, "d", "1" * 32)


def test_an_export_with_the_sealed_rows_is_recorded(two) -> None:
    assert list(two.list("seal-openings/")) == []
    closed = to_rows(decode(export_manifest(two, "d", "real", include_sealed=False)))
    assert {row.split for row in closed} == {"train", "validation"}
    assert list(two.list("seal-openings/")) == []
    opened = to_rows(decode(export_manifest(two, "d", "real", include_sealed=True)))
    assert len(opened) == 30
    ((key, _),) = two.list("seal-openings/")
    record = SealOpening(**two.get_json(key))
    assert (record.dataset, record.role, record.purpose) == ("datasets/d", "assembly", "ExportManifest")
    assert record.rows == sum(row.split == "test" for row in opened) > 0


def test_sealed_rows_belong_to_no_other_version(two) -> None:
    write_version(two, "d", "0" * 32, [], shortfall={})
    with pytest.raises(InvalidArgument, match="export datasets/d"):
        export_manifest(two, "d", "0" * 32, include_sealed=True)
