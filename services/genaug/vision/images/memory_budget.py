"""Memory that all decoders of a process share."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from genaug.shared.container_limits import memory_limit


class MemoryBudget:
    """Semaphore counted in bytes. Threads are admitted in the order of their arrival, so that large images get a turn.

    Args:
        total: Bytes. A reservation above it waits until nothing else is reserved.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Hold `size` bytes; waits until they are free. A thread must not reserve twice at a time."""
        size, ticket = min(size, self._total), object()
        with self._changed:
            self._queue.append(ticket)
            self._changed.wait_for(lambda: self._queue[0] is ticket and self._free >= size)
            self._queue.popleft()
            self._free -= size
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


# A quarter: the rest is for models, messages and the encoded images that wait.
DECODING = MemoryBudget(min(memory_limit() // 4, 2 << 30))
"""Budget of decoded images, with what their decoders need on the way."""
