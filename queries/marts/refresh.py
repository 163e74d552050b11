"""Marts: what the views that summarise all rows come to, kept in the file for every run and recomputed when it changes.

A mart is the view's own SELECT: computed with the tables narrowed down to one run, its rows are stored in a table of
schema `selfrepair_marts`, and the installed view reads them there. A run counts as summarised as long as the ledger
`selfrepair_marts.refreshed` agrees with the ledger of its loaded units and with these definitions; the views show no other, so
that a mart is complete or absent and never out of date.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import duckdb
import pyarrow as pa

from selfrepair.queries.catalog.header import View
from selfrepair.queries.catalog.quoting import identifier, literal
from selfrepair.queries.catalog.relations import reads, relations, views
from selfrepair.warehouse.database.lake.tables import cast_tables, stored_type
from selfrepair.warehouse.database.transactions import is_lake, registered, transaction

OnRun = Callable[[int, float], None]
"""Called with a run's id and the seconds its marts took."""

_LEDGER = """
CREATE TABLE IF NOT EXISTS selfrepair_marts.refreshed (
    run_id INTEGER NOT NULL,
    definition VARCHAR NOT NULL,
    n_units BIGINT NOT NULL,
    last_loaded_at TIMESTAMP NOT NULL,
    refreshed_at TIMESTAMP NOT NULL
)
"""

_LOADED = "SELECT run_id, count(*) AS n_units, max(loaded_at) AS last_loaded_at FROM main.units GROUP BY run_id"
_NARROWED = (
    *("measurements", "tokens", "prompts", "units"),
    *("neuron_changes", "neuron_curves", "neuron_sums", "edge_sums", "routing_sums", "expert_sums"),
    *("logit_lens", "logprob_changes", "self_repression", "self_repression_sums"),
)
"""Tables that a run's marts may read: what a later load or cross-check writes elsewhere leaves them as they are."""

_ARROW = "selfrepair_rows_of_a_mart"
_ROWS_AT_ONCE = 100_000


@dataclass(frozen=True)
class Computed:
    """The rows of every mart of a run, by the mart's name, as they are for the rows that were `loaded` by then: the row of the
    units' ledger.
    """

    run_id: int
    loaded: tuple[Any, ...]
    rows: Mapping[str, pa.Table]
    seconds: float


@cache
def definition() -> str:
    """SHA-256 of all that decides what the marts hold."""
    texts = sorted(f"{view.name}:{view.kept}:{view.sql}" for view in _needed())
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def stored_sql(view: View, types: Mapping[str, str] | None = None) -> str:
    """The SELECT that reads a mart's stored rows, of the runs that are summarised; `types` are those that a lake lacks, by
    column.
    """
    casts = ", ".join(
        f"CAST({identifier(name)} AS {kind}) AS {identifier(name)}" for name, kind in (types or {}).items()
    )
    return (
        f"SELECT stored.*{f' REPLACE ({casts})' if casts else ''}\nFROM selfrepair_marts.{identifier(view.name)} AS stored\n"
        "SEMI JOIN (\n"
        "    SELECT refreshed.run_id\n"
        "    FROM selfrepair_marts.refreshed\n"
        f"    INNER JOIN ({_LOADED}) AS loaded USING (run_id, n_units, last_loaded_at)\n"
        f"    WHERE refreshed.definition = {literal(definition())}\n"
        ") AS summarised USING (run_id)"
    )


def make_tables(con: duckdb.DuckDBPyConnection) -> None:
    """Make the marts' tables; those of another version go, and with them what they hold."""
    con.execute("CREATE SCHEMA IF NOT EXISTS selfrepair_marts")
    con.execute(_LEDGER)
    con.execute(f"DELETE FROM selfrepair_marts.refreshed WHERE definition <> {literal(definition())}")
    found, wanted = _tables(con), _wanted(is_lake(con))
    for name in found.keys() - {"refreshed", "installed"}:
        if found[name] != wanted.get(name):
            con.execute(f"DROP TABLE selfrepair_marts.{identifier(name)}")
    for name, columns in wanted.items():
        con.execute(f"CREATE TABLE IF NOT EXISTS selfrepair_marts.{identifier(name)} ({', '.join(columns)})")
    _delete_of_removed(con)


def stored_tables() -> list[str]:
    """Names of the tables that hold marts, and of their ledger."""
    return ["refreshed", *_wanted()]


def tables_are_made(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether `make_tables` would change nothing."""
    found, wanted = _tables(con), _wanted(is_lake(con))
    if not {"refreshed", *wanted} <= found.keys() or any(found[name] != kind for name, kind in wanted.items()):
        return False
    outdated = (
        f"SELECT 1 FROM selfrepair_marts.refreshed WHERE definition <> {literal(definition())} "
        "OR run_id NOT IN (SELECT run_id FROM main.units) LIMIT 1"
    )
    return not con.execute(outdated).fetchall()


def _has_ledger(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether marts were ever made; to look at all their columns takes longer."""
    return bool(
        con.execute(
            "SELECT 1 FROM system.main.duckdb_tables() WHERE schema_name = 'selfrepair_marts' AND table_name = 'refreshed' "
            "AND database_name = system.main.current_database()"
        ).fetchall()
    )


def unsummarised(con: duckdb.DuckDBPyConnection) -> list[int]:
    """Runs whose loaded rows the marts of this version do not hold, or hold as they were before the last load; all of them
    where no marts were made.
    """
    refreshed = (
        f"(SELECT * FROM selfrepair_marts.refreshed WHERE definition = {literal(definition())})"
        if _has_ledger(con)
        else f"(FROM ({_LOADED}) LIMIT 0)"
    )
    rows = con.execute(
        f"SELECT run_id FROM ({_LOADED}) AS loaded ANTI JOIN {refreshed} AS refreshed "
        "USING (run_id, n_units, last_loaded_at) ORDER BY run_id"
    ).fetchall()
    return [run_id for (run_id,) in rows]


def refresh(
    con: duckdb.DuckDBPyConnection, run_ids: Iterable[int] | None = None, on_run: OnRun = lambda run_id, seconds: None
) -> list[int]:
    """Compute the marts of the given runs, or of all that need it, each run in one transaction; returns their ids.

    The tables of the marts must be there (`make_tables`). What is stored of removed runs is deleted.
    """
    chosen = unsummarised(con) if run_ids is None else list(run_ids)
    with transaction(con):
        _delete_of_removed(con)
    for run_id in chosen:
        store(con, computed := compute(con, run_id))
        on_run(run_id, computed.seconds)
    return chosen


def compute(con: duckdb.DuckDBPyConnection, run_id: int) -> Computed:
    """The marts of a run, of which nothing is stored yet: the file need not be open for writing."""
    began = time.monotonic()
    loaded = _loaded(con, run_id)
    with _computed(con, run_id):
        rows = {
            name: con.sql(f"FROM temp.{identifier(name)}").to_arrow_reader(_ROWS_AT_ONCE).read_all()
            for name in _wanted()
        }
    return Computed(run_id, loaded, rows, time.monotonic() - began)


def store(con: duckdb.DuckDBPyConnection, computed: Computed) -> bool:
    """Store the marts of a run, in one transaction; False where other rows of it have been loaded meanwhile, or it is gone:
    then nothing is stored.
    """
    run_id = computed.run_id
    with transaction(con):
        if _loaded(con, run_id) != computed.loaded:
            return False
        for name, rows in computed.rows.items():
            con.execute(f"DELETE FROM selfrepair_marts.{identifier(name)} WHERE run_id = {run_id:d}")
            with registered(con, _ARROW, rows):
                con.execute(f"INSERT INTO selfrepair_marts.{identifier(name)} BY NAME FROM {_ARROW}")
        values = (
            f"SELECT run_id, {literal(definition())} AS definition, n_units, last_loaded_at, "
            f"current_timestamp AT TIME ZONE 'UTC' AS refreshed_at FROM ({_LOADED}) WHERE run_id = {run_id:d}"
        )
        con.execute(
            "UPDATE selfrepair_marts.refreshed AS old SET definition = new.definition, n_units = new.n_units, "
            f"last_loaded_at = new.last_loaded_at, refreshed_at = new.refreshed_at FROM ({values}) AS new "
            "WHERE old.run_id = new.run_id"
        )
        con.execute(
            f"INSERT INTO selfrepair_marts.refreshed {values} "
            "AND run_id NOT IN (SELECT refreshed.run_id FROM selfrepair_marts.refreshed)"
        )
    return True


@contextmanager
def _computed(con: duckdb.DuckDBPyConnection, run_id: int) -> Iterator[None]:
    """While it lasts, every mart of the run as a TEMP table. Not to be entered in a transaction: what a transaction has
    written itself is read at half the speed.
    """
    ((database,),) = con.execute("SELECT system.main.current_database()").fetchall()
    with ExitStack() as made:

        def make(kind: str, name: str, sql: str) -> None:
            con.execute(f"CREATE TEMP {kind} {identifier(name)} AS\n{sql}")
            made.callback(con.execute, f"DROP {kind} temp.{identifier(name)}")

        # A TEMP name goes before the file's own, in the marts' SQL too.
        if is_lake(con):
            for table in cast_tables(con, dict.fromkeys(_NARROWED, f"run_id = {run_id:d}")):
                made.callback(con.execute, f"DROP VIEW temp.{identifier(table)}")
        else:
            for table in _NARROWED:
                make("VIEW", table, f"FROM {identifier(database)}.main.{table} WHERE run_id = {run_id:d}")
        for view in _needed():
            make("TABLE" if view.kept else "VIEW", view.name, view.sql)
        yield


@cache
def _needed() -> tuple[View, ...]:
    """The marts and all views they read, in order."""
    names: set[str] = set()
    for view in reversed(views()):
        if view.kept == "mart" or view.name in names:
            names |= {view.name, *reads(view.sql, {other.name for other in views()})}
    return tuple(view for view in views() if view.name in names)


def _loaded(con: duckdb.DuckDBPyConnection, run_id: int) -> tuple[Any, ...]:
    found = con.execute(f"FROM ({_LOADED}) WHERE run_id = {run_id:d}").fetchall()
    return tuple(found[0]) if found else ()


def _delete_of_removed(con: duckdb.DuckDBPyConnection) -> None:
    for name in ("refreshed", *_wanted()):
        con.execute(
            f"DELETE FROM selfrepair_marts.{identifier(name)} WHERE run_id NOT IN (SELECT run_id FROM main.units)"
        )


def _tables(con: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """The columns with their types of each table in the marts' schema."""
    return dict(
        con.execute(
            "SELECT table_name, list(column_name || ' ' || data_type ORDER BY column_index) FROM system.main.duckdb_columns() "
            "WHERE schema_name = 'selfrepair_marts' AND database_name = system.main.current_database() GROUP BY table_name"
        ).fetchall()
    )


@cache
def _wanted(in_lake: bool = False) -> dict[str, list[str]]:
    """As `_tables` has them, what the marts' tables should be."""
    return {
        view.name: [
            f"{column.name} {stored_type(column.type) if in_lake else column.type}"
            for column in relations()[view.name].columns
        ]
        for view in views()
        if view.kept == "mart"
    }


def types_lost_in_lake() -> dict[str, dict[str, str]]:
    """Types of the marts' columns that a lake stores as others, by mart and column."""
    return {
        view.name: {
            column.name: column.type
            for column in relations()[view.name].columns
            if stored_type(column.type) != column.type
        }
        for view in views()
        if view.kept == "mart"
    }
