"""Garbage collection: objects that no manifest names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from genaug.assembly.datasets import IMPORTED, manifests, named_images
from genaug.shared.store import Store

GRACE = timedelta(hours=1)
"""Objects younger than this stay: an import or a generation under way may be about to name them."""

_PREFIXES = ("uploads/", "draws/", *IMPORTED)
_MADE_MANIFESTS = ("batches/", "labels/")


@dataclass(frozen=True)
class Garbage:
    """Objects that were removed, or would be."""

    objects: int
    size_bytes: int


def collect_garbage(store: Store, *, validate_only: bool, grace: timedelta = GRACE) -> Garbage:
    """Remove staged files, draws and images that are older than `grace` and that no manifest names.

    Args:
        store: The store, as "assembly".
        validate_only: Only count them.
        grace: Smallest age.
    """
    # Objects are listed before the manifests are read: a manifest written in between still protects its objects.
    before = datetime.now(UTC) - grace
    old = [entry for prefix in _PREFIXES for entry in store.entries(prefix) if entry.modified < before]
    made_manifests = [
        key for prefix in _MADE_MANIFESTS for key, _ in store.list(prefix) if key.endswith("/manifest.parquet")
    ]
    named = named_images(store, [*manifests(store), *made_manifests])
    garbage = [entry for entry in old if entry.key not in named]
    if not validate_only:
        for entry in garbage:
            store.delete(entry.key)
    return Garbage(len(garbage), sum(entry.size for entry in garbage))
