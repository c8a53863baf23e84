"""Taking turns: one call at a time may hold a large map in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from genaug.shared.errors import Cancelled, ResourceExhausted

# Seconds between two checks that a waiting caller is still there.
_POLL = 0.2


class Turns:
    """Lets one call at a time work, and bounds how many wait.

    Args:
        limit: Calls that may work or wait; further ones are refused.
    """

    def __init__(self, *, limit: int) -> None:
        self._places = threading.BoundedSemaphore(limit)
        self._working = threading.Lock()

    @contextmanager
    def take(self, is_active: Callable[[], bool]) -> Iterator[None]:
        """Wait for the turn and hold it for the `with` block.

        Raises:
            ResourceExhausted: too many calls wait already.
            Cancelled: `is_active()` turned False while the call waited.
        """
        if not self._places.acquire(blocking=False):
            raise ResourceExhausted("too many calls wait for their turn; try again in a minute", reason="BUSY")
        try:
            while not self._working.acquire(timeout=_POLL):
                if not is_active():
                    raise Cancelled("the call was cancelled before its turn", reason="CANCELLED_BY_CALLER")
            try:
                yield
            finally:
                self._working.release()
        finally:
            self._places.release()
