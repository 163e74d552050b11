"""All or nothing; and rows from elsewhere on their way into a table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import duckdb

if TYPE_CHECKING:
    import pyarrow as pa


@contextlib.contextmanager
def transaction(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit what the block did when it ends, undo it when it raises."""
    con.begin()
    try:
        yield
        con.commit()
    except BaseException:
        with contextlib.suppress(duckdb.Error):  # the first error is the one to tell
            con.rollback()
        raise


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
