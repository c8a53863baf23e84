"""Digests name results: a name depends on the inputs and the step's recipe version alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

ID_LENGTH = 32


def canonical_json(value: Any) -> bytes:
    """Encode `value` so that equal values give equal bytes: sorted keys, no spaces, UTF-8, no NaN.

    Raises:
        TypeError, ValueError: `value` is not plain JSON.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256(data: bytes) -> str:
    """Return the sha256 of `data`, lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def digest_of(recipe: str, inputs: Mapping[str, Any]) -> str:
    """Return the name of the result of `recipe` (such as "train/1") on `inputs` (plain JSON): 32 hex digits."""
    return sha256(canonical_json({"recipe": recipe, "inputs": inputs}))[:ID_LENGTH]


def seed_of(*parts: object) -> int:
    """Return a seed of 63 bits that depends on all parts, and on nothing else; the same on every machine."""
    return int.from_bytes(hashlib.sha256(canonical_json([str(part) for part in parts])).digest()[:8], "big") >> 1
