"""The orchestrator's database, looked at before it is trusted."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from genaug.shared.errors import FailedPrecondition


def check_database(url: str) -> str:
    """Open the database of `url` and say what it is.

    Raises:
        FailedPrecondition: it cannot be opened, with what to do.
    """
    try:
        return _sqlite(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else _postgres(url)
    except Exception as error:
        raise FailedPrecondition(
            f"database.url: cannot be opened ({type(error).__name__}: {str(error).splitlines()[0]}); "
            "check that it is reachable and writable",
            reason="DATABASE_UNAVAILABLE",
        ) from None


def _sqlite(path: str) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=5)
    try:
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    finally:
        connection.close()
    return f"SQLite {sqlite3.sqlite_version} at {path}, journal {mode}"


def _postgres(url: str) -> str:
    import psycopg

    with psycopg.connect(url, connect_timeout=5) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    return f"Postgres {row[0] if row else ''}: reachable"
