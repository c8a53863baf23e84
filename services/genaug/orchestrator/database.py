"""The orchestrator's database, looked at before it is trusted."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from genaug.shared.errors import FailedPrecondition, GenaugError


def check_database(url: str) -> str:
    """Open the database of `url`; return its kind.

    Raises:
        FailedPrecondition: it cannot be opened, or a newer release has written it; with what to do.
    """
    try:
        found = _sqlite(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else _postgres(url)
        check_version(*_versions(url))
    except GenaugError:
        raise
    except Exception as error:
        raise FailedPrecondition(
            f"database.url: cannot be opened ({type(error).__name__}: {str(error).splitlines()[0]}); "
            "check that it is reachable and writable",
            reason="DATABASE_UNAVAILABLE",
        ) from None
    return found


def check_version(recorded: int, known: int) -> None:
    """Refuse a database with a schema of a later release; migrate an older one.

    Raises:
        FailedPrecondition: it is.
    """
    if recorded > known:
        raise FailedPrecondition(
            f"database.url: the database has schema version {recorded}, this release knows {known}; start the newer "
            "release again, or name another database",
            reason="DATABASE_NEWER",
        )


def _versions(url: str) -> tuple[int, int]:
    """The schema version that is recorded (0 for none), and the latest that the installed DBOS knows."""
    # Here, since whoever only asks for a run's state needs neither.
    import sqlalchemy
    from dbos import _migration

    place = sqlalchemy.make_url(url)
    sqlite = place.get_backend_name() == "sqlite"
    engine = sqlalchemy.create_engine(place if sqlite else place.set(drivername="postgresql+psycopg"))
    try:
        if sqlite:
            return _migration.get_sqlite_migration_versions(engine)
        return _migration.get_migration_versions(engine, "dbos", use_listen_notify=True)
    finally:
        engine.dispose()


def _sqlite(path: str) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=30)
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
