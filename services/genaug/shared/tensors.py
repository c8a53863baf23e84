"""Metadata of safetensors files, read without loading tensors."""

from __future__ import annotations

import json

from genaug.shared.store import damaged


def notes_of(data: bytes, *, key: str) -> dict[str, str]:
    """Return the metadata in the header of a safetensors file: 8 bytes of its length, then JSON.

    Args:
        data: The file's bytes.
        key: Its key in the store, for the error.

    Raises:
        FailedPrecondition: reason DAMAGED_OBJECT; no header, or a file shorter than its tensors.
    """
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        notes: dict[str, str] = header.pop("__metadata__")
        ends = [int(tensor["data_offsets"][1]) for tensor in header.values()]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise damaged(key, "no safetensors header") from None
    if len(data) < 8 + length + max(ends, default=0):
        raise damaged(key, "its end is missing")
    return notes
