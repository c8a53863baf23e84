"""Texts of a source as UTF-8, which messages and tables need."""

from __future__ import annotations

import os


def readable(text: str) -> str:
    r"""Return `text` with bytes of file names that are no UTF-8 escaped, as in "caf\xe9.png"."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return os.fsencode(text).decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:
            # Half of a surrogate pair, as in JSON or in a name of Windows.
            return text.encode("utf-8", "backslashreplace").decode()
    return text
