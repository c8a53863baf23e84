"""Subject ids: who is who stays with the installation."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from genaug.shared.store import Store

KEY = "restricted/subjects.key"
_KEY_BYTES = 32
_ID_LENGTH = 32


class SubjectIds:
    """Names subjects by HMAC-SHA256 with the installation's own key, made when it is first needed."""

    def __init__(self, store: Store) -> None:
        if not store.exists(KEY):
            # Whoever is first makes the key; all others read it.
            store.put_new(KEY, secrets.token_bytes(_KEY_BYTES))
        self._key = store.get(KEY)

    def name(self, dataset: str, subject: str, *, image_id: str) -> str:
        """Id of a subject, 32 hex digits; of the image itself where the source names no subject.

        The dataset enters, so that patient 1 of two hospitals is two subjects.
        """
        text = f"subject\0{subject}" if subject else f"image\0{image_id}"
        return hmac.new(self._key, f"{dataset}\0{text}".encode(), hashlib.sha256).hexdigest()[:_ID_LENGTH]
