"""How far the work at hand is, in memory: what was finished is in the store, what is at work is here."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field


@dataclass
class _Parts:
    done: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)
    unit: dict[str, str] = field(default_factory=dict)
    latest: str = ""
    """The unit that was heard of last."""
    note: str = ""
    since: float = 0.0
    """When the unit of `latest` was first heard of."""
    found: int = 0
    """Units that were done by then: found in the store, mostly."""

    def counted(self) -> tuple[int, int]:
        """(done, total) over the parts that count the unit that was heard of last."""
        same = [part for part in self.total if self.unit.get(part, self.latest) == self.latest]
        return sum(self.done.get(part, 0) for part in same), sum(self.total[part] for part in same)


@dataclass(frozen=True)
class HowFar:
    """How far a step is."""

    done: int
    total: int
    unit: str
    note: str
    """What is done meanwhile that is not counted in units."""
    seconds_left: float
    """An estimate; 0 when not yet known."""


class Live:
    """Progress of the step that each owner is at, summed over its parts. Safe to use from many threads."""

    def __init__(self) -> None:
        self._owners: dict[str, _Parts] = {}
        self._lock = threading.Lock()

    def begin(self, owner: str) -> None:
        """A new step: forget the parts of the one before."""
        with self._lock:
            self._owners[owner] = _Parts()

    def expect(self, owner: str, part: str, total: int) -> None:
        """Announce a part that has not begun."""
        with self._lock:
            self._owners.setdefault(owner, _Parts()).total.setdefault(part, total)

    def update(self, owner: str, part: str, done: int, total: int, unit: str, note: str = "") -> None:
        """Say how far a part is."""
        with self._lock:
            parts = self._owners.setdefault(owner, _Parts())
            # What was expected of a part holds until it counts something else.
            expected = parts.total.get(part, 0) if parts.unit.get(part, unit) == unit else 0
            parts.done[part], parts.total[part] = done, max(total, expected)
            parts.note = note
            new = unit != parts.latest
            parts.unit[part] = parts.latest = unit
            if new:
                parts.since, parts.found = time.monotonic(), parts.counted()[0]

    def forget(self, owner: str) -> None:
        """The owner is done."""
        with self._lock:
            self._owners.pop(owner, None)

    def now(self, owner: str) -> HowFar:
        """How far the owner's step is. Time is estimated from what was made since the unit was first heard of."""
        with self._lock:
            parts = self._owners.get(owner, _Parts())
            done, total = parts.counted()
            made, spent = done - parts.found, time.monotonic() - parts.since
            left = spent / made * (total - done) if made > 0 and spent > 1 else 0.0
            return HowFar(done, total, parts.latest, parts.note, round(left, 1))
