"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from obstore.store import MemoryStore

from genaug.shared.store import Store

Stores = Callable[[str], Store]

# What a person has set for an installation of theirs is not for the tests.
for _name in [name for name in os.environ if name.startswith("GENAUG_") and name != "GENAUG_E2E_VALUES"]:
    del os.environ[_name]


@pytest.fixture
def stores() -> Stores:
    """One store in memory, opened as any identity: `stores("train")`."""
    backend = MemoryStore()
    return lambda role: Store(backend, role, url="memory://")
