from __future__ import annotations

import gc

import numpy as np
import pytest
from tests.shapes import SMALL, real_rows

from genaug.shared.errors import PermissionDenied
from genaug.vision.features import inputs as features
from genaug.vision.features.inputs import load_inputs
from genaug.vision.images.load_images import load_pixels
from genaug.vision.models.networks import build_network

NETWORK = build_network(SMALL, channels=1, classes=3, seed=0)


def test_inputs_are_what_the_network_prepares_in_the_order_of_rows(stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_CHUNK", 4)
    rows = real_rows(stores("assembly"), {"lies": 5, "stands": 6})
    seen: list[int] = []
    found = load_inputs(stores("train"), rows, NETWORK, advance=seen.append)
    expected = NETWORK.preprocess(load_pixels(stores("train"), rows, image_size=8, channels=1))
    np.testing.assert_array_equal(found, expected)
    assert seen == [4, 8, 11]


def test_images_are_read_once(stores, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = real_rows(stores("assembly"), {"lies": 5, "stands": 6})
    store = stores("train")
    read: list[str] = []
    get = store.get
    monkeypatch.setattr(store, "get", lambda key: (read.append(key), get(key))[1])
    first = load_inputs(store, rows[:8], NETWORK)
    again = load_inputs(store, rows[::-1], NETWORK)
    assert sorted(read) == sorted(row.uri for row in rows)
    np.testing.assert_array_equal(again[::-1][:8], first)


def test_another_size_is_another_input(stores) -> None:
    rows, store = real_rows(stores("assembly"), {"lies": 2}), stores("train")
    larger = build_network(SMALL.replace(image_size=16), channels=1, classes=3, seed=0)
    assert load_inputs(store, rows, NETWORK).shape == (2, 1, 8, 8)
    assert load_inputs(store, rows, larger).shape == (2, 1, 16, 16)


def test_what_an_identity_may_not_read_it_does_not_get_from_what_is_kept(stores) -> None:
    rows = real_rows(stores("assembly"), {"lies": 2})
    load_inputs(stores("train"), rows, NETWORK)
    with pytest.raises(PermissionDenied):
        load_inputs(stores("generation"), rows, NETWORK)


def test_the_oldest_leave_when_there_are_too_many(stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_CACHE_BYTES", 64 * 3)
    rows, store = real_rows(stores("assembly"), {"lies": 5}), stores("train")
    assert load_inputs(store, rows, NETWORK).shape == (5, 1, 8, 8)
    assert list(features._caches[store]._rows) == [(row.uri, NETWORK.input_key) for row in rows[2:]]


def test_nothing_is_kept_longer_than_its_store(stores) -> None:
    store = stores("train")
    load_inputs(store, real_rows(stores("assembly"), {"lies": 2}), NETWORK)
    before = len(features._caches)
    del store
    gc.collect()
    assert len(features._caches) < before


def test_no_rows_no_inputs(stores) -> None:
    assert load_inputs(stores("train"), [], NETWORK).shape == (0, 1, 8, 8)
