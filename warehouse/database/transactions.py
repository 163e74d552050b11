"""All or nothing; and rows from elsewhere on their way into a table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import duckdb

from selfrepair.warehouse.errors import ResumableError, again

if TYPE_CHECKING:
    import pyarrow as pa

LOCK = "selfrepair_lock"
"""Variable of a connection that changes a lake whose lock can be lost: SQL for its Postgres with rows while it is held."""


@contextlib.contextmanager
def transaction(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit what the block did when it ends, undo it when it raises."""
    con.begin()
    try:
        yield
        _check_lock(con)
        con.commit()
    except BaseException:
        with contextlib.suppress(duckdb.Error):  # the first error is the one to tell
            con.rollback()
        raise


def _check_lock(con: duckdb.DuckDBPyConnection) -> None:
    """Raise ResumableError where the session with a lake's lock was ended meanwhile: another process may be committing."""
    ((held,),) = con.execute(f"SELECT system.main.getvariable('{LOCK}')").fetchall()
    if held and not con.execute("SELECT 1 FROM postgres_query('__ducklake_metadata_lake', ?)", [held]).fetchall():
        raise ResumableError(
            "the session of Postgres that had the lake's lock was ended, and nothing was committed: another process may be "
            "changing the lake.",
            f"What was loaded before is safe. Then {again()}.",
        )


def checkpoint(con: duckdb.DuckDBPyConnection) -> None:
    """Bring a file's log into it. A lake has none: DuckLake would clean it at that, which whoever reads it may notice."""
    if not is_lake(con):
        con.execute("CHECKPOINT")


def is_lake(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether the connection has a lake open, and not a file."""
    found = con.execute(
        "SELECT 1 FROM system.main.duckdb_databases() "
        "WHERE database_name = system.main.current_database() AND type = 'ducklake'"
    ).fetchall()
    return bool(found)


@contextlib.contextmanager
def registered(con: duckdb.DuckDBPyConnection, name: str, rows: pa.Table | pa.RecordBatchReader) -> Iterator[None]:
    """Within the block, SQL can read the rows by this name."""
    con.register(name, rows)
    try:
        yield
    finally:
        with contextlib.suppress(
            duckdb.TransactionException
        ):  # DuckDB 2, where the transaction failed: it takes it back
            con.unregister(name)
