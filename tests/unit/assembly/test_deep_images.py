"""Imports of images with more than 8 bits per value: one window for all, originals kept."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest
from numpy.typing import NDArray
from obstore.store import MemoryStore
from PIL import Image

from genaug.assembly.assemble import assemble
from genaug.assembly.datasets import delete_dataset
from genaug.assembly.garbage import collect_garbage
from genaug.assembly.unite import unite_datasets
from genaug.assembly.upload_decoder import missing_contents
from genaug.schema.datasets import View, Window
from genaug.schema.requests import AssembleRequest
from genaug.schema.run import Scenario
from genaug.shared.digests import sha256
from genaug.shared.errors import AlreadyExists, InvalidArgument
from genaug.shared.manifest import Row, read_rows
from genaug.shared.store import Store
from genaug.vision.images import decode

Values = NDArray[np.generic]


def encoded(values: Values) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(values).save(sink, "PNG" if values.dtype in (np.uint8, np.uint16) else "TIFF")
    return sink.getvalue()


@pytest.fixture
def grey(photograph) -> Callable[[int], NDArray[np.uint8]]:
    """grey(seed): a grey photograph that uses all 256 levels."""

    def make(seed: int) -> NDArray[np.uint8]:
        values = photograph(seed)[:, :, 0].astype(float)
        return np.rint((values - values.min()) / np.ptp(values) * 255).astype(np.uint8)

    return make


@pytest.fixture
def twelve(grey, sent):
    """20 12-bit images in 16-bit PNGs, of 20 subjects; their highest values differ."""
    return [sent(encoded(grey(n).astype(np.uint16) * 16 // (1 + n % 3)), "ab"[n % 2], f"p{n}") for n in range(20)]


def rows_of(store: Store, dataset: str = "d") -> list[Row]:
    keys = (f"datasets/{dataset}/versions/real/rows.parquet", f"sealed/datasets/{dataset}/rows.parquet")
    return [row for key in keys for row in read_rows(store, key)]


def keys_of(store: Store) -> set[str]:
    return {key for prefix in ("uploads/", "images/", "sources/", "sealed/") for key, _ in store.list(prefix)}


VERSIONS: dict[str, Callable[[NDArray[np.float64]], Values]] = {
    **{f"{bits} bits": lambda g, top=2**bits - 1: np.rint(g * top).astype(np.uint16) for bits in (8, 10, 12, 14, 16)},
    "0 to 1": lambda g: g.astype(np.float32),
    "0 to 255": lambda g: (g * 255).astype(np.float32),
    "signed: lowest to highest": lambda g: np.rint(g * 3000 - 1000).astype(np.int32),
}


@pytest.mark.parametrize("rule", VERSIONS)
def test_every_version_of_a_set_has_the_grey_levels_of_the_8_bit_one(stores, sent, grey, run_import, rule: str) -> None:
    store = stores("assembly")
    originals = {}
    uploads = []
    for number in range(12):
        # A third, and two thirds, of the scale: a scale of its own would make these images alike.
        image = grey(number) // (1 + number % 3)
        upload = sent(encoded(VERSIONS[rule](image / 255)), "ab"[number % 2], f"p{number}")
        originals[upload[0].image_id] = image
        uploads.append(upload)
    dataset = run_import(store, uploads)
    assert dataset.window is not None
    assert dataset.window.rule == rule
    assert (dataset.dropped, dataset.notes) == ((), ())
    for row in rows_of(store):
        image = originals[row.image_id].astype(int)
        stored = decode(store.get(row.uri))[:, :, 0].astype(int)
        assert np.abs(stored - image).max() <= 1
        assert abs(stored.mean() - image.mean()) < 0.5
        assert abs(len(np.unique(stored)) - len(np.unique(image))) <= 1


def test_originals_are_kept_on_the_images_side_of_the_seal(stores, twelve, run_import) -> None:
    store = stores("assembly")
    run_import(store, twelve)
    contents = {row.image_id: content for row, content in twelve}
    rows = rows_of(store)
    assert len(rows) == 20
    for row in rows:
        sealed = "sealed/" if row.split == "test" else ""
        assert row.uri.startswith(f"{sealed}images/")
        assert sha256(store.get(row.uri)) == row.content_sha256
        assert store.get(f"{sealed}sources/{row.image_id[:2]}/{row.image_id}") == contents[row.image_id]
    assert len(keys_of(store)) == 2 * 20 + 1, "images, originals and the sealed rows alone"
    assert missing_contents(store, [row.content_sha256 for row, _ in twelve]) == []


def test_the_same_import_again_needs_no_contents(stores, twelve, run_import) -> None:
    store = stores("assembly")
    first = run_import(store, twelve)
    again = [(row, b"") for row, _ in reversed(twelve)]
    assert run_import(store, again) == first
    with pytest.raises(AlreadyExists):
        run_import(store, again, bits=12)
    other = run_import(store, again, dataset="e", bits=12)
    assert other.window == Window(low=0, high=4095, rule="given")
    assert other.digest == first.digest, "the same grey levels"
    assert run_import(store, again, dataset="e", bits=12) == other
    assert run_import(store, again, dataset="f", window=(0, 1000)).digest != first.digest


def test_a_dataset_takes_its_originals_along_unless_another_uses_them(stores, twelve, run_import) -> None:
    store = stores("assembly")
    run_import(store, twelve)
    run_import(store, [(row, b"") for row, _ in twelve], dataset="e")
    before = keys_of(store)
    delete_dataset(store, "e")
    assert before - keys_of(store) == {"sealed/datasets/e/rows.parquet"}
    assert collect_garbage(store, validate_only=False, grace=timedelta(-1)).objects == 0
    delete_dataset(store, "d")
    assert keys_of(store) == set()


def test_an_original_that_no_row_names_is_garbage(stores, twelve, run_import) -> None:
    store = stores("assembly")
    run_import(store, twelve)
    store.put_new("sources/ab/abc", b"1")
    store.put_new("sealed/sources/ab/abc", b"1")
    assert collect_garbage(store, validate_only=False, grace=timedelta(-1)).objects == 2


def test_views_name_the_originals(stores, twelve, run_import) -> None:
    """A version outlives nothing here, but its rows are made from those of the dataset."""
    store = stores("assembly")
    run_import(store, twelve)
    assemble(AssembleRequest(parent="datasets/d", view=View(fold=1), scenario=Scenario(), seed=1), store)
    assert collect_garbage(store, validate_only=False, grace=timedelta(-1)).objects == 0


class _Killed(BaseException):
    pass


def test_an_import_killed_at_any_write_finishes_when_asked_again(twelve, run_import, monkeypatch) -> None:
    expected = run_import(Store(MemoryStore(), "assembly", url="memory://"), twelve)
    put = Store.put_new
    for allowed in (0, 19, 20, 30, 41, 45, 60, 83, 84, 85):
        store = Store(MemoryStore(), "assembly", url="memory://")
        written: list[str] = []

        def dying(self, key: str, data: bytes, *, written=written, allowed=allowed) -> bool:
            if len(written) >= allowed:
                raise _Killed
            written.append(key)
            return put(self, key, data)

        monkeypatch.setattr(Store, "put_new", dying)
        with pytest.raises(_Killed):
            run_import(store, twelve)
        monkeypatch.setattr(Store, "put_new", put)
        again = run_import(store, twelve)
        assert (again.digest, again.window) == (expected.digest, expected.window)
        assert len(keys_of(store)) == 2 * 20 + 1


def test_a_mix_of_depths_is_refused_unless_a_window_is_given(stores, sent, twelve, run_import) -> None:
    mixed = [*twelve, *(sent(n, "ab"[n % 2], f"q{n}") for n in range(4))]
    with pytest.raises(InvalidArgument, match="4 images have 8 bits per value and 20 more, 0 to 4080") as caught:
        run_import(stores("assembly"), mixed)
    assert caught.value.reason == "MIXED_DEPTHS"
    dataset = run_import(stores("assembly"), mixed, window=(0, 4080))
    assert dataset.window == Window(low=0, high=4080, rule="given")
    assert dataset.notes == ("4 images have 8 bits per value and are kept as they are",)
    photographs = {row.image_id: content for row, content in mixed[20:]}
    kept = {row.image_id: row for row in rows_of(stores("assembly")) if row.image_id in photographs}
    assert all(stores("assembly").get(kept[name].uri) == data for name, data in photographs.items())


def test_damage_constants_and_darkness_are_dropped_by_name(stores, sent, grey, twelve, run_import) -> None:
    values = grey(90).astype(np.float32)
    values[0, 0] = np.nan
    dark = grey(91).astype(np.uint16) // 20
    extra = [encoded(values), encoded(np.full((20, 20), 999, np.uint16)), encoded(dark)]
    dataset = run_import(stores("assembly"), [*twelve, *(sent(data, "a", f"q{n}") for n, data in enumerate(extra))])
    dropped = [(image.row, image.reason) for image in dataset.dropped]
    assert dropped == [(20, "UNREADABLE"), (21, "CONSTANT"), (22, "CONSTANT")]
    assert "in the window 0 to 4095" in dataset.dropped[2].detail


def test_a_window_without_deep_images_is_noted(stores, sent, run_import) -> None:
    rows = [sent(n, "ab"[n % 2], f"p{n}") for n in range(12)]
    dataset = run_import(stores("assembly"), rows, bits=12)
    assert dataset.window is None
    assert "changes nothing" in dataset.notes[0]


def test_unions_have_one_window(stores, twelve, grey, sent, run_import) -> None:
    store = stores("assembly")
    run_import(store, twelve)
    others = [sent(encoded(grey(50 + n).astype(np.uint16) * 4), "ab"[n % 2], f"q{n}") for n in range(12)]
    run_import(store, others, dataset="e")
    with pytest.raises(InvalidArgument, match="datasets/d has 0 to 4095, datasets/e has 0 to 1023") as caught:
        list(unite_datasets("u", ["d", "e"], store))
    assert caught.value.reason == "SCHEMA_MISMATCH"
    delete_dataset(store, "e")
    run_import(store, others, dataset="e", bits=12)
    *_, union = unite_datasets("u", ["d", "e"], store)
    assert union.window is not None
    assert union.window.high == 4095
    for parent in ("d", "e"):
        delete_dataset(store, parent)
    assert len(keys_of(store)) == 2 * 32 + 1
