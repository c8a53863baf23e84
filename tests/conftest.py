"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Callable

import hypothesis
import pytest
from obstore.store import MemoryStore

from genaug.shared.store import Store

# How fast a machine is decides nothing; and the same examples each time, so that a failure is one of the change at
# hand. `--hypothesis-profile explore` looks for new ones.
_CHECK = hypothesis.HealthCheck
_ANYWHERE = {"deadline": None, "suppress_health_check": [_CHECK.too_slow, _CHECK.function_scoped_fixture]}
hypothesis.settings.register_profile("anywhere", derandomize=True, **_ANYWHERE)
hypothesis.settings.register_profile("explore", max_examples=1000, **_ANYWHERE)
hypothesis.settings.load_profile("anywhere")

Stores = Callable[[str], Store]

# What a person has set for an installation of theirs is not for the tests.
for _name in [name for name in os.environ if name.startswith("GENAUG_") and name != "GENAUG_E2E_VALUES"]:
    del os.environ[_name]


@pytest.fixture
def stores() -> Stores:
    """One store in memory, opened as any identity: `stores("train")`."""
    backend = MemoryStore()
    return lambda role: Store(backend, role, url="memory://")
