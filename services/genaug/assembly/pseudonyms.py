"""Pseudonyms of subjects, made with a key that never leaves the installation."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from genaug.shared.store import Store

KEY = "restricted/subjects.key"
_KEY_BYTES = 32
_ID_LENGTH = 32


class Pseudonyms:
    """HMAC-SHA256 of subjects under the installation's own key, which is made at first use.

    Args:
        store: The store of the key; None for a key that is kept nowhere, for results that are not stored.
    """

    def __init__(self, store: Store | None) -> None:
        if store is None:
            self._key = secrets.token_bytes(_KEY_BYTES)
            return
        if not store.exists(KEY):
            # Of several processes that make a key at once, one succeeds; all read its key below.
            store.put_new(KEY, secrets.token_bytes(_KEY_BYTES))
        self._key = store.get(KEY)

    def of(self, dataset: str, subject: str, *, image_id: str) -> str:
        """Return a subject's pseudonym, 32 hex digits; the image's own where the source names no subject.

        It depends on the dataset, so that patient 1 of two hospitals is two subjects.
        """
        text = f"subject\0{subject}" if subject else f"image\0{image_id}"
        return hmac.new(self._key, f"{dataset}\0{text}".encode(), hashlib.sha256).hexdigest()[:_ID_LENGTH]
