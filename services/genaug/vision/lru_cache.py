"""LRU cache of loaded models, bounded by their memory."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from cachetools import Cache, LRUCache, cached


class Sized(Protocol):
    """Value that knows its memory."""

    @property
    def nbytes(self) -> int:
        """Memory that the value holds, bytes; may grow after it was loaded."""


K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Sized)


class LoadingCache(Generic[K, V]):
    """Thread-safe LRU cache that loads missing values, each once however many threads ask.

    The last value loaded is kept whatever its size.

    Args:
        load: Loads the value of a key; runs outside the lock, so that other keys are answered meanwhile.
        memory_bytes: Memory budget; memory that several values share counts for each.
    """

    def __init__(self, load: Callable[[K], V], *, memory_bytes: int) -> None:
        self._values = _MemoryBoundCache[K, V](memory_bytes)
        self._changed = threading.Condition()
        self._get = cached(self._values, key=lambda key: key, condition=self._changed)(load)

    def peek(self, key: K) -> V | None:
        """Return the value if it is loaded; counts as a use."""
        with self._changed:
            return self._values.get(key)

    def get(self, key: K) -> V:
        """Return the value, loaded now if it is missing; errors of loading are raised."""
        return self._get(key)


class _MemoryBoundCache(LRUCache[K, V]):
    def __init__(self, memory_bytes: int) -> None:
        super().__init__(math.inf)
        self._memory_bytes = memory_bytes

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        # cachetools' `getsizeof` is asked once, at insertion; a pipeline grows with its first adapter. `Cache`'s own
        # lookup leaves the order of use as it is.
        while len(self) > 1 and sum(Cache.__getitem__(self, kept).nbytes for kept in self) > self._memory_bytes:
            self.popitem()
