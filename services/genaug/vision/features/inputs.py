"""Network inputs of manifest rows, computed once per image and process: trainings of one Job share their images."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from genaug.shared.manifest import Row
from genaug.shared.store import Store
from genaug.vision.features.feature_index import Shelf
from genaug.vision.images.load_images import load_pixels
from genaug.vision.models.networks import Network

# Rows decoded at once: bounds the memory of large images on their way to a frozen backbone's features.
_CHUNK = 256
# Inputs kept per store identity, bytes; the oldest leave first.
_KEPT_BYTES = 2 << 30

Advance = Callable[[int], None]
"""advance(rows): how many rows are there so far."""


class _Kept:
    """Inputs by image and kind of input."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], NDArray[Any]] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[str, str]) -> NDArray[Any] | None:
        return self._rows.get(key)

    def put(self, key: tuple[str, str], row: NDArray[Any]) -> NDArray[Any]:
        with self._lock:
            if key not in self._rows:
                self._rows[key] = row
                self._bytes += row.nbytes
            while self._bytes > _KEPT_BYTES:
                self._bytes -= self._rows.pop(next(iter(self._rows))).nbytes
        return row


# By store object: what one identity may not read, it does not get from here either.
_kept: WeakKeyDictionary[Store, _Kept] = WeakKeyDictionary()


def load_inputs(
    store: Store, rows: Sequence[Row], network: Network, *, advance: Advance | None = None, shelf: Shelf | None = None
) -> NDArray[Any]:
    """What `network` takes for `rows`, in their order; images seen before in this process are not read again.

    Args:
        store: Where the images are.
        rows: The rows.
        network: What takes them.
        advance: Told how many rows are there.
        shelf: Where features of a frozen backbone may lie, and are kept.

    Raises:
        NotFound: an image is not in the store.
        PermissionDenied: the store's identity may not read it.
    """
    kept = _kept.setdefault(store, _Kept())
    result: NDArray[Any] | None = None
    done = 0
    for start in range(0, len(rows), _CHUNK):
        chunk = _chunk(store, rows[start : start + _CHUNK], network, kept, shelf)
        if result is None:
            result = np.empty((len(rows), *chunk[0].shape), chunk[0].dtype)
        for row in chunk:
            result[done] = row
            done += 1
        if advance:
            advance(done)
    if shelf and network.feature_space and result is not None:
        shelf.keep(store, network.feature_space, {row.uri: one for row, one in zip(rows, result, strict=True)})
    return result if result is not None else network.preprocess(_no_pixels(network))


def _chunk(store: Store, rows: Sequence[Row], network: Network, kept: _Kept, shelf: Shelf | None) -> list[NDArray[Any]]:
    keys = [(row.uri, network.input_key) for row in rows]
    found = [kept.get(key) for key in keys]
    if shelf and network.feature_space:
        unseen = [row.uri for row, one in zip(rows, found, strict=True) if one is None]
        shelved = shelf.features(store, network.feature_space, unseen)
        for index, (row, key) in enumerate(zip(rows, keys, strict=True)):
            if row.uri in shelved:
                # A view would keep its whole shard in memory.
                found[index] = kept.put(key, shelved[row.uri].copy())
    missing = [index for index, row in enumerate(found) if row is None]
    if missing:
        wanted = [rows[index] for index in missing]
        pixels = load_pixels(
            store, wanted, image_size=network.image_size, channels=network.channels, detail=network.detail
        )
        # Copies: a view would keep its whole chunk in memory.
        for index, row in zip(missing, network.preprocess(pixels), strict=True):
            found[index] = kept.put(keys[index], row.copy())
    return [row for row in found if row is not None]


def _no_pixels(network: Network) -> NDArray[np.uint8]:
    return np.empty((0, network.image_size, network.image_size, network.channels), np.uint8)
