"""How far the work at hand is, in memory: what was finished is in the store, what is at work is here."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass
class _Parts:
    done: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)
    unit: dict[str, str] = field(default_factory=dict)
    latest: str = ""


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

    def update(self, owner: str, part: str, done: int, total: int, unit: str) -> None:
        """Say how far a part is."""
        with self._lock:
            parts = self._owners.setdefault(owner, _Parts())
            parts.done[part], parts.total[part] = done, max(total, parts.total.get(part, 0))
            parts.unit[part] = parts.latest = unit

    def forget(self, owner: str) -> None:
        """The owner is done."""
        with self._lock:
            self._owners.pop(owner, None)

    def now(self, owner: str) -> tuple[int, int, str]:
        """(done, total, unit) of the owner's step, over the parts that count the unit that was heard of last."""
        with self._lock:
            parts = self._owners.get(owner, _Parts())
            same = [part for part in parts.total if parts.unit.get(part, parts.latest) == parts.latest]
            done = sum(parts.done.get(part, 0) for part in same)
            return done, sum(parts.total[part] for part in same), parts.latest
