"""Garbage: what no manifest names, and is old enough."""

from __future__ import annotations

from datetime import timedelta

import pytest

from genaug.assembly.garbage import GRACE, collect_garbage
from genaug.shared.manifest import Row, write_rows
from genaug.shared.store import Store

AT_ONCE = timedelta(0)


def made(number: int) -> Row:
    return Row(f"{number:032x}", f"draws/00/{number:032x}", "c", "p", "a", "train", source="synthetic")


@pytest.fixture
def store(stores, sent, run_import) -> Store:
    """A dataset; four draws of which a batch names one and a labelled manifest another; a staged and a stray image."""
    store: Store = stores("assembly")
    run_import(store, [sent(n) for n in range(10)])
    for number in range(4):
        store.put_new(made(number).uri, b"12345")
    write_rows(stores("generation"), "batches/b/manifest.parquet", [made(0)])
    write_rows(stores("labeling"), "labels/l/manifest.parquet", [made(1)])
    store.put_new("uploads/ab/abc", b"123")
    store.put_new("images/ab/abc", b"1234")
    return store


def everything(store: Store) -> set[str]:
    prefixes = ("uploads/", "draws/", "images/", "sealed/", "datasets/", "restricted/")
    return {key for prefix in prefixes for key, _ in store.list(prefix)}


def test_only_what_no_manifest_names_goes(store) -> None:
    before = everything(store)
    foretold = collect_garbage(store, validate_only=True, grace=AT_ONCE)
    assert everything(store) == before
    assert collect_garbage(store, validate_only=False, grace=AT_ONCE) == foretold
    assert before - everything(store) == {made(2).uri, made(3).uri, "uploads/ab/abc", "images/ab/abc"}
    assert (foretold.objects, foretold.size_bytes) == (4, 17)
    assert collect_garbage(store, validate_only=False, grace=AT_ONCE).objects == 0


def test_what_was_just_written_stays(store) -> None:
    assert timedelta(minutes=30) <= GRACE
    assert collect_garbage(store, validate_only=False).objects == 0


def test_images_of_an_unfinished_import_stay(store) -> None:
    store.delete("datasets/d/dataset.json")
    found = everything(store)
    collect_garbage(store, validate_only=False, grace=AT_ONCE)
    assert sum(key.startswith(("images/", "sealed/images/")) for key in found - everything(store)) == 1
