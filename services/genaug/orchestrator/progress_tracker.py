"""Progress of the work at hand, in memory: finished work is in the store, running work is here."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from genaug.schema.common import Progress


@dataclass
class _Parts:
    done: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)
    unit: dict[str, str] = field(default_factory=dict)
    latest: str = ""
    """Unit of the latest update."""
    note: str = ""
    since: float = 0.0
    """Time of the first update in the unit `latest`."""
    done_before: int = 0
    """Units that were done at that time: mostly found in the store."""

    def counted(self) -> tuple[int, int]:
        """Sum (done, total) over the parts that count the latest unit."""
        same = [part for part in self.total if self.unit.get(part, self.latest) == self.latest]
        return sum(self.done.get(part, 0) for part in same), sum(self.total[part] for part in same)


class ProgressTracker:
    """Progress of each owner's step, summed over its parts. Thread-safe."""

    def __init__(self) -> None:
        self._owners: dict[str, _Parts] = {}
        self._lock = threading.Lock()

    def begin(self, owner: str) -> None:
        """Start a new step: forget the parts of the previous one."""
        with self._lock:
            self._owners[owner] = _Parts()

    def expect(self, owner: str, part: str, total: int) -> None:
        """Announce a part that has not begun."""
        with self._lock:
            self._owners.setdefault(owner, _Parts()).total.setdefault(part, total)

    def update(self, owner: str, part: str, done: int, total: int, unit: str, note: str = "") -> None:
        """Set the progress of a part."""
        with self._lock:
            parts = self._owners.setdefault(owner, _Parts())
            # The expected total of a part holds until the part counts another unit.
            expected = parts.total.get(part, 0) if parts.unit.get(part, unit) == unit else 0
            parts.done[part], parts.total[part] = done, max(total, expected)
            parts.note = note
            new = unit != parts.latest
            parts.unit[part] = parts.latest = unit
            if new:
                parts.since, parts.done_before = time.monotonic(), parts.counted()[0]

    def forget(self, owner: str) -> None:
        """Drop an owner that has finished."""
        with self._lock:
            self._owners.pop(owner, None)

    def progress(self, owner: str, step: str = "") -> Progress:
        """Progress of the owner's step; the time left is extrapolated from the current unit."""
        with self._lock:
            parts = self._owners.get(owner, _Parts())
            done, total = parts.counted()
            new, spent = done - parts.done_before, time.monotonic() - parts.since
            left = spent / new * (total - done) if new > 0 and spent > 1 else 0.0
            return Progress(
                step=step, done=done, total=total, unit=parts.latest, note=parts.note, seconds_left=round(left, 1)
            )
