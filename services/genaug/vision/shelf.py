"""What is loaded: the things that were used last, within a budget of memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """What can be kept."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it holds."""


K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Sized)


class Shelf(Generic[K, V]):
    """Loaded things, those that were used last, within a budget of memory; one is always kept.

    Args:
        load: Loads one.
        memory_bytes: The budget; what several stand on counts for each.
    """

    def __init__(self, load: Callable[[K], V], *, memory_bytes: int) -> None:
        self._load = load
        self._memory = memory_bytes
        self._loaded: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()
        self._loading: dict[K, threading.Lock] = {}

    def peek(self, key: K) -> V | None:
        """The thing, if it is loaded."""
        return self._loaded.get(key)

    def get(self, key: K) -> V:
        """The thing, loaded now if it is not; others are answered meanwhile."""
        with self._lock:
            if key in self._loaded:
                self._loaded.move_to_end(key)
                return self._loaded[key]
            loading = self._loading.setdefault(key, threading.Lock())
        with loading:
            with self._lock:
                if key in self._loaded:
                    return self._loaded[key]
            try:
                found = self._load(key)
                with self._lock:
                    self._loaded[key] = found
                    while len(self._loaded) > 1 and sum(one.nbytes for one in self._loaded.values()) > self._memory:
                        self._loaded.popitem(last=False)
            finally:
                with self._lock:
                    self._loading.pop(key, None)
            return found
