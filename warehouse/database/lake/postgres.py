"""Questions to the Postgres that has a lake's catalog, beside the lake."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

import duckdb

from selfrepair.warehouse import compat
from selfrepair.warehouse.database.lake.address import Lake, without_password
from selfrepair.warehouse.database.lake.extensions import load_extensions
from selfrepair.warehouse.errors import SelfRepairError, again

_CONNECT_S = 10
"""For how long a Postgres is waited for that does not answer, which libpq would do until TCP gives up [s]."""

_URI = re.compile(r"\s*postgres(?:ql)?://")


@contextlib.contextmanager
def postgres(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection for `ask`. Raises SelfRepairError where there is no such Postgres, or it does not let one in."""
    with duckdb.connect() as con:
        load_extensions(con, "postgres_scanner")
        try:
            con.execute(f"ATTACH {text(dsn(lake))} AS catalog (TYPE postgres, READ_ONLY)")
        except duckdb.Error as error:
            raise unreachable(lake, error) from None
        yield con


def dsn(lake: Lake) -> str:
    """How DuckDB is told of the Postgres: one that does not answer is given up after a while, unless the user said when."""
    if "connect_timeout" in lake.catalog or os.environ.get("PGCONNECT_TIMEOUT"):
        return lake.catalog
    if _URI.match(lake.catalog):
        return f"{lake.catalog}{'&' if '?' in lake.catalog else '?'}connect_timeout={_CONNECT_S}"
    return f"{lake.catalog} connect_timeout={_CONNECT_S}"


def ask(con: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    """The rows with which Postgres answers."""
    return con.execute(f"SELECT * FROM postgres_query('catalog', {text(sql)})").fetchall()


def unreachable(lake: Lake, error: Exception) -> SelfRepairError:
    """What is said of a Postgres that does not answer."""
    reason = without_password(lake, compat.reason(error))
    return SelfRepairError(
        f"{lake}: its Postgres does not answer, or lets nobody in with what is given ({reason}). Check that it runs, and the "
        f"address; a password is best given by PGPASSWORD or ~/.pgpass. Then {again()}."
    )


def text(value: str) -> str:
    """A value as SQL text."""
    return "'" + value.replace("'", "''") + "'"
