"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from obstore.store import MemoryStore

from genaug.shared.store import Store

Stores = Callable[[str], Store]


@pytest.fixture
def stores() -> Stores:
    """One store in memory, opened as any identity: `stores("train")`."""
    backend = MemoryStore()
    return lambda role: Store(backend, role, url="memory://")
