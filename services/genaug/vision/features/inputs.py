"""Network inputs of manifest rows, computed once per image and process: trainings of one Job share their images."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from cachetools import FIFOCache
from numpy.typing import NDArray

from genaug.shared.manifest import Row
from genaug.shared.store import Store
from genaug.vision.features.feature_index import FeatureIndex
from genaug.vision.images.load_images import load_pixels
from genaug.vision.models.networks import Network

# Rows decoded at once: bounds the memory of large images on their way to a frozen backbone's features.
_CHUNK = 256
# Cached inputs per store identity, bytes; the oldest leave first.
_CACHE_BYTES = 2 << 30

RowCallback = Callable[[int], None]
"""Progress: (rows done)."""


class _InputCache:
    """Inputs by image and kind of input. Rows may be evicted at any time, so callers use the result of `put`."""

    def __init__(self) -> None:
        self._rows: FIFOCache[tuple[str, str], NDArray[Any]] = FIFOCache(_CACHE_BYTES, getsizeof=lambda row: row.nbytes)
        self._lock = threading.Lock()

    def get(self, key: tuple[str, str]) -> NDArray[Any] | None:
        with self._lock:
            return self._rows.get(key)

    def put(self, key: tuple[str, str], row: NDArray[Any]) -> NDArray[Any]:
        # A view would keep its whole chunk or shard in memory.
        row = row.copy()
        with self._lock:
            self._rows.setdefault(key, row)
        return row


# By store object: an identity gets nothing from the cache that it may not read from the store.
_caches: WeakKeyDictionary[Store, _InputCache] = WeakKeyDictionary()


def load_inputs(
    store: Store,
    rows: Sequence[Row],
    network: Network,
    *,
    advance: RowCallback | None = None,
    features: FeatureIndex | None = None,
) -> NDArray[Any]:
    """Load inputs of `network` for `rows`, in their order; images are read once per process.

    Args:
        store: Source of the images.
        rows: Rows of a manifest.
        network: Its `preprocess` turns images into inputs.
        advance: Progress callback.
        features: Index of stored features of a frozen backbone; new features are written to its shards.

    Raises:
        NotFound: an image is not in the store.
        PermissionDenied: the store's identity may not read it.
    """
    cache = _caches.setdefault(store, _InputCache())
    result: NDArray[Any] | None = None
    done = 0
    for start in range(0, len(rows), _CHUNK):
        chunk = _load_chunk(store, rows[start : start + _CHUNK], network, cache, features)
        if result is None:
            result = np.empty((len(rows), *chunk[0].shape), chunk[0].dtype)
        for row in chunk:
            result[done] = row
            done += 1
        if advance:
            advance(done)
    if features and network.feature_space and result is not None:
        known = {row.uri: inputs for row, inputs in zip(rows, result, strict=True)}
        features.write(store, network.feature_space, known)
    return result if result is not None else network.preprocess(_no_pixels(network))


def _load_chunk(
    store: Store, rows: Sequence[Row], network: Network, cache: _InputCache, features: FeatureIndex | None
) -> list[NDArray[Any]]:
    """Inputs of `rows`: from the cache, else from shards of features, else computed from the images."""
    keys = [(row.uri, network.input_key) for row in rows]
    inputs = [cache.get(key) for key in keys]
    if features and network.feature_space:
        uncached = [row.uri for row, cached in zip(rows, inputs, strict=True) if cached is None]
        stored = features.read(store, network.feature_space, uncached)
        for index, (row, key) in enumerate(zip(rows, keys, strict=True)):
            if row.uri in stored:
                inputs[index] = cache.put(key, stored[row.uri])
    missing = [index for index, cached in enumerate(inputs) if cached is None]
    if missing:
        pixels = load_pixels(
            store,
            [rows[index] for index in missing],
            image_size=network.image_size,
            channels=network.channels,
            pre_resize=network.pre_resize,
        )
        for index, row_inputs in zip(missing, network.preprocess(pixels), strict=True):
            inputs[index] = cache.put(keys[index], row_inputs)
    return [cached for cached in inputs if cached is not None]


def _no_pixels(network: Network) -> NDArray[np.uint8]:
    return np.empty((0, network.image_size, network.image_size, network.channels), np.uint8)
