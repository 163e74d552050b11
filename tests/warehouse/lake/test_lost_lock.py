"""Whoever lost the lock of a lake in Postgres, where another may have it by then, commits nothing."""

from pathlib import Path

import duckdb
import pytest

from selfrepair.warehouse.database.connection import open_reader, open_writer
from selfrepair.warehouse.database.lake.extensions import load_extensions
from selfrepair.warehouse.database.transactions import transaction
from selfrepair.warehouse.errors import ResumableError
from support.lakes import lake

_ENDED = (
    "SELECT * FROM postgres_query('pg', 'SELECT pg_terminate_backend(pid) FROM pg_locks "
    "WHERE locktype = ''advisory'' AND granted')"
)


@pytest.mark.slow
def test_a_lock_that_is_lost_is_noticed_before_a_commit(tmp_path: Path, database: str) -> None:
    db = lake(tmp_path, "postgres", database)
    with duckdb.connect() as other, open_writer(db) as con:
        load_extensions(other, "postgres_scanner")
        other.execute(f"ATTACH '{database}' AS pg (TYPE postgres)")
        with pytest.raises(ResumableError, match="lock was ended, and nothing was committed"):
            _lose_it_before_the_commit(db, con, other)
    with open_reader(db) as con:
        assert con.execute("SELECT count(*) - count(DISTINCT version) FROM schema_migration").fetchall() == [(0,)]


def _lose_it_before_the_commit(db: Path, con: duckdb.DuckDBPyConnection, other: duckdb.DuckDBPyConnection) -> None:
    with transaction(con):
        con.execute("INSERT INTO schema_migration FROM schema_migration")
        assert other.execute(_ENDED).fetchall() == [(True,)]
        with open_writer(db, wait_s=10.0):  # another has the lock now
            pass
