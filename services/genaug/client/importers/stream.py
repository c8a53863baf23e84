"""Random access to items that can only be read one after the other, such as the rows of a compressed array."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K")

# An import reads 500 images, then those again that the server lacks: with images up to half a megabyte, nothing is
# read anew.
_WINDOW_BYTES = 256_000_000


class Streams(Generic[K]):
    """Items of several streams, of which one is open at a time.

    The last items are held in memory; for an earlier one, its stream is begun anew.

    Args:
        start: Begins the stream of a key; its items, as bytes, come in their order.
        window_bytes: Bytes of items that are held.
    """

    def __init__(self, start: Callable[[K], Iterator[bytes]], *, window_bytes: int = _WINDOW_BYTES) -> None:
        self._start, self._limit = start, window_bytes
        self._open: K | None = None
        self._items: Iterator[bytes] = iter(())
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        self._next = 0
        """Number of the item that the stream gives next; those before it are at the end of `_held`."""

    def item(self, key: K, number: int) -> bytes:
        """Return an item of the stream of `key`; number 0 is its first.

        Raises:
            IndexError: the stream has fewer items.
        """
        if key != self._open or number < self._next - len(self._held):
            self._items, self._open, self._next = self._start(key), key, 0
            self._held.clear()
            self._held_bytes = 0
        while self._next <= number:
            item = next(self._items, None)
            if item is None:
                self._open = None
                raise IndexError(f"item {number} of {self._next}")
            self._next += 1
            self._held.append(item)
            self._held_bytes += len(item)
            while self._held_bytes > self._limit and len(self._held) > 1:
                self._held_bytes -= len(self._held.popleft())
        return self._held[number - self._next]
