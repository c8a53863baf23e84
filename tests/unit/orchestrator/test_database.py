from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from genaug.orchestrator.database import check_database
from genaug.shared.errors import FailedPrecondition


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def test_a_new_database_is_fine(tmp_path: Path) -> None:
    assert "journal wal" in check_database(url(tmp_path / "deep" / "new.sqlite"))


def test_a_database_of_another_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "newer.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE dbos_migrations (version INTEGER NOT NULL PRIMARY KEY)")
        connection.execute("INSERT INTO dbos_migrations VALUES (100000)")
    connection.close()
    before = path.read_bytes()[100:]
    with pytest.raises(FailedPrecondition, match=r"version 100000, this release knows \d+; start the newer") as caught:
        check_database(url(path))
    assert caught.value.reason == "DATABASE_NEWER"
    assert path.read_bytes()[100:] == before


def test_what_is_no_database_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "text.sqlite"
    path.write_text("not a database at all, but long enough to be taken for one" * 100)
    with pytest.raises(FailedPrecondition, match="file is not a database") as caught:
        check_database(url(path))
    assert caught.value.reason == "DATABASE_UNAVAILABLE"


def test_a_postgres_that_is_away_is_said_so() -> None:
    with pytest.raises(FailedPrecondition, match="reachable and writable"):
        check_database("postgresql://nobody@127.0.0.1:1/none")
