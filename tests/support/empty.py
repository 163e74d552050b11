"""Empty warehouses with all their views: copied, for binding every view anew takes a second."""

from collections.abc import Callable
from pathlib import Path

import duckdb

from selfrepair.queries.catalog.macros import install_macros
from selfrepair.queries.catalog.relations import reads, views
from selfrepair.queries.marts.install import install
from selfrepair.warehouse.database.migrate import migrate
from support.templates import copied, made_once


def with_views() -> duckdb.DuckDBPyConnection:
    """An empty warehouse in memory whose views all compute when they are read; none is kept as a mart."""
    return _in_memory("computing-views", _create_views)


def with_marts() -> duckdb.DuckDBPyConnection:
    """An empty warehouse in memory with the views and marts that a load installs."""
    return _in_memory("installed-views", install)


def compute(con: duckdb.DuckDBPyConnection, *names: str) -> None:
    """Work out once what these views read and a refresh keeps, of all runs; from then on the connection reads that."""
    needed = set(names)
    every = {view.name for view in views()}
    for view in reversed(views()):
        if view.name in needed:
            needed.update(reads(view.sql, every))
    for view in views():
        if view.name in needed:
            con.execute(f"CREATE TEMP {'TABLE' if view.kept else 'VIEW'} {view.name} AS\n{view.sql}")


def installed(folder: Path) -> Path:
    """A file `w.duckdb` in `folder`: an empty warehouse with the views and marts that a load installs."""
    return copied(folder, "installed-views", _maker(install))


def _in_memory(name: str, add_views: Callable[[duckdb.DuckDBPyConnection], None]) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute(f"ATTACH '{made_once(name, _maker(add_views)) / 'w.duckdb'}' AS template (READ_ONLY)")
    con.execute("COPY FROM DATABASE template TO memory")
    con.execute("DETACH template")
    return con


def _maker(add_views: Callable[[duckdb.DuckDBPyConnection], None]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        with duckdb.connect(folder / "w.duckdb") as con:
            migrate(con)
            add_views(con)

    return make


def _create_views(con: duckdb.DuckDBPyConnection) -> None:
    install_macros(con)
    for view in views():
        con.execute(f"CREATE VIEW {view.name} AS\n{view.sql}")
