"""Put the views into a warehouse: for good, with their comments, or for one connection only."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import duckdb

from selfrepair.queries.catalog.header import View
from selfrepair.queries.catalog.macros import MACROS, create_temp_macros, has_macros, install_macros, temp_macros
from selfrepair.queries.catalog.quoting import identifier, literal
from selfrepair.queries.catalog.relations import relations, views
from selfrepair.queries.marts import refresh as marts
from selfrepair.queries.marts.on_demand import OnDemand
from selfrepair.warehouse.database.connection import OnWait, connected, open_writer
from selfrepair.warehouse.database.lake.tables import casts
from selfrepair.warehouse.database.limits import CLOSED
from selfrepair.warehouse.database.publication import WITHHELD, is_opened_as_publication
from selfrepair.warehouse.database.transactions import checkpoint, is_lake, transaction
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.verify.rules import for_large_files, is_read_whole

_MARKER = "(selfrepair view {name})"
"""Ends the comment of an installed view. A view without it, or with another name in it, is the user's own."""


def after_load(db: Path, wait_s: float, on_wait: OnWait | None) -> None:
    """Bring views and marts up to date with the rows: what `selfrepair load`, `ingest` and `remove` do at their end."""
    bring_up_to_date(db, wait_s, on_wait)


def bring_up_to_date(
    db: Path,
    wait_s: float,
    on_wait: OnWait | None,
    run_ids: Sequence[int] = (),
    on_run: marts.OnRun = lambda run_id, seconds: None,
) -> list[int]:
    """Install the views in the file `db` and compute the marts of the given runs, or of all that need it; returns their ids.

    While marts are computed, which takes most of the time, others can read the file: it is open for writing only to store
    them. Raises as `open_writer` does, and duckdb.Error.
    """
    with _open_to_compute(db, wait_s, on_wait) as con:
        chosen = list(run_ids) or marts.unsummarised(con)
        is_done = not chosen and _is_installed(con) and marts.tables_are_made(con)
    if not chosen and not is_done:
        with open_writer(db, wait_s, on_wait) as con:
            install(con)
            checkpoint(con)
    for run_id in chosen:
        with _open_to_compute(db, wait_s, on_wait) as con:
            create_temp_macros(con)
            computed = marts.compute(con, run_id)
        with open_writer(db, wait_s, on_wait) as con:
            install(con)
            stored = marts.store(con, computed)
            checkpoint(con)
        if stored:  # or else another process has changed the run, and computes it in its turn
            on_run(run_id, computed.seconds)
    return chosen


def _open_to_compute(
    db: Path, wait_s: float, on_wait: OnWait | None
) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    """For reading, with all the memory of a writer."""
    return connected(db, CLOSED, read_only=True, wait_s=wait_s, on_wait=on_wait)


def install(con: duckdb.DuckDBPyConnection) -> None:
    """Create or replace all views and their comments in the file, in one transaction, so that any client has them; where
    they are as this version installed them, nothing is done.

    Views that an earlier version installed and this one does not know are dropped, and so are marts of another version;
    a mart shows no rows until it is refreshed. Raises SelfRepairError, with nothing changed, when the user has a table
    or view of their own under one of the names.
    """
    with transaction(con):
        installed = _installed(con)
        _refuse_foreign(con, installed)
        marts.make_tables(con)
        if _is_installed(con):
            return
        if is_lake(con):
            _record_marts(con)
            return
        install_macros(con)
        for name in sorted(installed.difference(view.name for view in views())):
            con.execute(f"DROP VIEW {identifier(name)}")
        is_large = _is_large(con)
        for view in views():
            con.execute(f"CREATE OR REPLACE VIEW {view.name} AS\n{_sql(view, stored=True, is_large=is_large)}")
        for view in views():  # all statements at once take twice as long
            con.execute(";\n".join(_comments(view.name)))
        con.execute(
            "CREATE OR REPLACE TABLE selfrepair_marts.installed AS SELECT ? AS views, ? AS marts, ? AS comments, ? AS state",
            [_fingerprint(is_large), marts.definition(), _comments_sha256(), _state(con)],
        )


def _record_marts(con: duckdb.DuckDBPyConnection) -> None:
    """What a lake keeps of them: readers bring the views, and learn here which types columns had before they were stored."""
    con.execute("DROP TABLE IF EXISTS selfrepair_marts.installed")
    types = json.dumps(marts.types_lost_in_lake())
    con.execute(
        f"CREATE TABLE selfrepair_marts.installed AS SELECT {literal(marts.definition())} AS marts, {literal(types)} AS types"
    )


def install_temp(con: duckdb.DuckDBPyConnection, *, stored: bool = False) -> None:
    """Create all views for this connection only: it then reads this version's views, whatever the file holds.

    Marts are computed when asked or, with `stored`, read from the file. Works on a read-only connection. Comments are
    left out; `catalog.describe` has them.
    """
    create_temp_macros(con)
    con.execute(";\n".join(_temp_views(con, stored=stored).values()))


def _temp_views(
    con: duckdb.DuckDBPyConnection, *, stored: bool, types: Mapping[str, Mapping[str, str]] | None = None
) -> dict[str, str]:
    """The statements that create the views for a connection, by name."""
    is_large = _is_large(con)
    return {
        view.name: f"CREATE OR REPLACE TEMP VIEW {view.name} AS\n"
        + _sql(view, stored=stored, is_large=is_large, types=(types or {}).get(view.name))
        for view in views()
    }


def _on_demand(con: duckdb.DuckDBPyConnection, record: Mapping[str, str], *, stored: bool) -> OnDemand:
    """All that a lake, which has tables alone, does not bring."""
    views_of_lake = _temp_views(con, stored=stored, types=json.loads(record.get("types", "{}")))
    return OnDemand(con, {**casts(), **temp_macros(), **views_of_lake}, frozenset(views_of_lake))


def prepare() -> None:
    """Read and digest this version's views, which `prepare_reader` would do at its first call."""
    _fingerprint(is_large=False)
    _fingerprint(is_large=True)
    marts.definition()


def prepare_reader(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Make this connection read this version's views; returns notes on marts that are missing or out of date, in sentences."""
    notes, on_demand = prepare_on_demand(con)
    on_demand.make_all()
    return notes


def prepare_on_demand(con: duckdb.DuckDBPyConnection) -> tuple[list[str], OnDemand]:
    """As `prepare_reader`, with the views that are yet to be made for queries that name them: a lake's.

    Usually the file's views are these, and nothing is to be done. A file that holds marts of another version, or none,
    gets its marts computed by every query, which is correct and may take long.
    """
    record = _record(con)
    stored = record.get("marts") == marts.definition()
    prepared = _prepared(con, record, stored=stored)
    return _notes(con, stored=stored), prepared


def _prepared(con: duckdb.DuckDBPyConnection, record: Mapping[str, str], *, stored: bool) -> OnDemand:
    if is_lake(con):
        return _on_demand(con, record, stored=stored)
    ours = {view.name for view in views()}
    known = (_fingerprint(is_large=False), _fingerprint(is_large=True))
    if record.get("views") not in known or not has_macros(con) or not _installed(con) >= ours:
        install_temp(con, stored=stored)
    return OnDemand(con)


def _notes(con: duckdb.DuckDBPyConnection, *, stored: bool) -> list[str]:
    if stored:
        return [
            f"run {run_id}: its summaries are missing or out of date: selfrepair refresh"
            for run_id in marts.unsummarised(con)
        ]
    if is_opened_as_publication(con):
        withheld = con.execute("SELECT 1 FROM main.datasets WHERE fingerprint = ? LIMIT 1", [WITHHELD]).fetchall()
        but = "; the text is withheld, so classes of tokens (repair_by_token) are wrong then" if withheld else ""
        return [
            "another version of selfrepair published this, with other summaries, so each query recomputes them from all rows"
            f"{but}: publish it again with this version, or read it with that one"
        ]
    if con.execute("SELECT 1 FROM main.units LIMIT 1").fetchall():
        return [
            "this file holds no summaries of this version of selfrepair, so each query recomputes them, which takes "
            "minutes over many rows: selfrepair refresh"
        ]
    return []


def _sql(view: View, *, stored: bool, is_large: bool, types: Mapping[str, str] | None = None) -> str:
    sql = marts.stored_sql(view, types) if stored and view.kept == "mart" else view.sql
    return for_large_files(sql) if is_large else sql


def _is_large(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether rules that read large tables are left to `selfrepair verify`; a file that has grown since its views were
    installed has views that find this out each time, at greater length.
    """
    if is_opened_as_publication(con):  # all of its Parquet files would be read
        return True
    ((is_small,),) = con.execute(f"SELECT {is_read_whole()}").fetchall()
    return not is_small


def _record(con: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """What was installed last, by the names of `selfrepair_marts.installed`; empty where nothing was."""
    made = con.execute(
        "SELECT 1 FROM system.main.duckdb_columns() WHERE schema_name = 'selfrepair_marts' AND table_name = 'installed' "
        "AND database_name = system.main.current_database() LIMIT 1"
    ).fetchall()
    if not made:
        return {}
    found = con.execute("FROM selfrepair_marts.installed")
    names = [name for name, *_ in found.description]
    return dict(zip(names, found.fetchall()[0], strict=True))


def _is_installed(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether the file's views, comments and functions are this version's, to the letter."""
    record = _record(con)
    if is_lake(con):
        return record.get("marts") == marts.definition()
    wanted = {"views": _fingerprint(_is_large(con)), "marts": marts.definition(), "comments": _comments_sha256()}
    return (
        wanted.items() <= record.items()
        and record.get("state") == _state(con)
        and _installed(con) == {view.name for view in views()}
        and has_macros(con)
    )


def _state(con: duckdb.DuckDBPyConnection) -> str:
    """A digest of the file's views by name and column, with all comments: a view that is replaced loses its own.

    Not of their SQL, which DuckDB writes in another way once it has read it from the file.
    """
    ((state,),) = con.execute(
        "WITH texts AS ("
        "SELECT view_name, '' AS column_name, coalesce(comment, '') AS text FROM system.main.duckdb_views() "
        "WHERE database_name = system.main.current_database() AND schema_name = 'main' UNION ALL "
        "SELECT table_name, column_name, coalesce(comment, '') FROM system.main.duckdb_columns() "
        "WHERE database_name = system.main.current_database() AND schema_name = 'main' AND NOT internal) "
        "SELECT md5(string_agg(view_name || ' ' || column_name || ' ' || text, '\n' ORDER BY view_name, column_name)) "
        "FROM texts WHERE list_contains(?, view_name)",
        [[view.name for view in views()]],
    ).fetchall()
    return str(state)


@cache
def _comments_sha256() -> str:
    """SHA-256 of all comments that views and their columns get."""
    text = "\n".join(f"{view.name}: {relations()[view.name]}" for view in views())
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _fingerprint(is_large: bool) -> str:
    """SHA-256 of all that the installed views are made of."""
    texts = [macro.name + macro.definition for macro in MACROS]
    text = "\n".join([*texts, *(f"{view.name}: {_sql(view, stored=True, is_large=is_large)}" for view in views())])
    return hashlib.sha256(text.encode()).hexdigest()


def _installed(con: duckdb.DuckDBPyConnection) -> set[str]:
    """Names of the file's views that were installed; another one put in the place of one has lost its comment."""
    rows = con.execute(
        "SELECT view_name, comment FROM system.main.duckdb_views() "
        "WHERE database_name = system.main.current_database() AND schema_name = 'main' AND comment IS NOT NULL",
    ).fetchall()
    return {name for name, comment in rows if comment.endswith(_MARKER.format(name=name))}


def _refuse_foreign(con: duckdb.DuckDBPyConnection, installed: set[str]) -> None:
    rows = con.execute(
        "SELECT table_name, 'TABLE' FROM system.main.duckdb_tables() "
        "WHERE database_name = system.main.current_database() AND schema_name = 'main' UNION ALL "
        "SELECT view_name, 'VIEW' FROM system.main.duckdb_views() "
        "WHERE database_name = system.main.current_database() AND schema_name = 'main' ORDER BY ALL"
    ).fetchall()
    ours = {view.name for view in views()}
    for name, noun in rows:
        if name.lower() in ours and name not in installed:
            raise SelfRepairError(
                f"this file has a {noun.lower()} '{name}' of your own, and selfrepair installs a view of that name; "
                "no view was changed. Rename yours, then install again: "
                f"ALTER {noun} {name} RENAME TO my_{name}; and then: selfrepair load"
            )


def _comments(name: str) -> Iterator[str]:
    """The statements that give a view and its columns their comments."""
    relation = relations()[name]
    about = f"{relation.summary} Grain: {', '.join(relation.grain)}. Paper: {relation.paper}."
    yield f"COMMENT ON VIEW {name} IS {literal(f'{about} {_MARKER.format(name=name)}')}"
    for column in relation.columns:
        yield f"COMMENT ON COLUMN {name}.{identifier(column.name)} IS {literal(column.comment)}"
