"""Questions to the Postgres that has a lake's catalog, beside the lake."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import duckdb

from selfrepair.warehouse import compat
from selfrepair.warehouse.database.lake.address import Lake
from selfrepair.warehouse.database.lake.extensions import load_extensions
from selfrepair.warehouse.errors import SelfRepairError, again


@contextlib.contextmanager
def postgres(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection for `ask`. Raises SelfRepairError where there is no such Postgres, or it does not let one in."""
    with duckdb.connect() as con:
        load_extensions(con, "postgres_scanner")
        try:
            con.execute(f"ATTACH {text(lake.catalog)} AS catalog (TYPE postgres, READ_ONLY)")
        except duckdb.Error as error:
            raise unreachable(lake, error) from None
        yield con


def ask(con: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    """The rows with which Postgres answers."""
    return con.execute(f"SELECT * FROM postgres_query('catalog', {text(sql)})").fetchall()


def unreachable(lake: Lake, error: Exception) -> SelfRepairError:
    """What is said of a Postgres that does not answer."""
    reason = compat.reason(error).replace(lake.catalog, str(lake).partition("postgres:")[2])
    return SelfRepairError(
        f"{lake}: its Postgres does not answer, or lets nobody in with what is given ({reason}). Check that it runs, and the "
        f"address; a password is best given by PGPASSWORD or ~/.pgpass. Then {again()}."
    )


def text(value: str) -> str:
    """A value as SQL text."""
    return "'" + value.replace("'", "''") + "'"
