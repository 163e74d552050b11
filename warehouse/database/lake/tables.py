"""A lake's tables: those that the migrations make in a file, with what DuckLake has no word for left out.

It has no keys, no CHECK and no ENUM. Keys are kept by the one committer (`load`), a CHECK is put into the statement that
inserts (`guard`), and an ENUM is stored as text, which readers cast back (`cast_tables`): what they see is what a file has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import duckdb

from selfrepair.warehouse.database.lake.opening import NAME
from selfrepair.warehouse.database.lake.postgres import text
from selfrepair.warehouse.database.transactions import is_lake, registered
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.schema.names import (
    ABLATIONS,
    ADDED_VECTORS,
    EDGE_POPULATIONS,
    NEURON_POPULATIONS,
    STATUSES,
    TARGET_KINDS,
)

if TYPE_CHECKING:
    import sqlalchemy as sa

_ENUM = re.compile(r"ENUM\((?:'[^']*'(?:, )?)+\)")
_COLUMNS = (
    "SELECT table_name, column_name, data_type, is_nullable FROM system.main.duckdb_columns() "
    "WHERE schema_name = 'main' AND database_name = system.main.current_database() AND NOT internal "
    "ORDER BY table_name, column_index"
)
_ROWS = "selfrepair_rows_of_a_new_table"


def _enum(values: tuple[str, ...]) -> str:
    return f"ENUM({', '.join(map(text, values))})"


_ABLATION = {"ablation": _enum(ABLATIONS)}
_VECTOR = {"added_vector": _enum(ADDED_VECTORS)}
_NEURONS = _ABLATION | {"population": _enum(NEURON_POPULATIONS)}

ENUMS: Mapping[str, Mapping[str, str]] = {
    "runs": {"ablations": f"{_enum(ABLATIONS)}[]", "status": _enum(STATUSES)},
    "measurements": _ABLATION,
    "crosschecks": _ABLATION,
    "neuron_changes": _ABLATION,
    "neuron_curves": _NEURONS,
    "neuron_sums": _NEURONS,
    "edge_sums": _ABLATION | {"population": _enum(EDGE_POPULATIONS), "target_kind": _enum(TARGET_KINDS)},
    "logprob_changes": _ABLATION,
    "routing_sums": _ABLATION | {"population": _enum(EDGE_POPULATIONS)},
    "expert_sums": _ABLATION | {"population": _enum(EDGE_POPULATIONS)},
    "self_repression": _VECTOR,
    "self_repression_sums": _VECTOR,
    "published_self_repression": _VECTOR,
}
"""Types of the columns that a file has as ENUM, by table: whoever reads a lake does without the schema and SQLAlchemy."""

TYPES = {
    "ablation_kind": _enum(ABLATIONS),
    "run_status": _enum(STATUSES),
    "target_kind": _enum(TARGET_KINDS),
    "edge_population": _enum(EDGE_POPULATIONS),
    "neuron_population": _enum(NEURON_POPULATIONS),
    "added_vector_kind": _enum(ADDED_VECTORS),
}
"""The file's own types."""

SORTED = {"measurements": "layer, head", "neuron_changes": "layer, head", "logprob_changes": "layer, head"}
"""Tables whose rows come in this order."""

_OPTIONS = {"parquet_compression": "zstd", "parquet_row_group_size": 61_440, "sort_on_insert": False}
"""Of a new lake's files. Rows come in order, so that one head's are found by the statistics of a few row groups."""


def make_tables(con: duckdb.DuckDBPyConnection, model: duckdb.DuckDBPyConnection) -> None:
    """Make the tables and columns that `model`, an empty warehouse in memory, has and the lake has not, with the rows that a
    new table begins with. Call it inside a transaction.
    """
    found = {(table, column) for table, column, *_ in con.execute(_COLUMNS).fetchall()}
    wanted: dict[str, dict[str, str]] = {}
    for table, column, kind, nullable in model.execute(_COLUMNS).fetchall():
        wanted.setdefault(table, {})[column] = f"{stored_type(kind)}{'' if nullable else ' NOT NULL'}"
    if not found:
        for option, value in _OPTIONS.items():
            con.execute(f"CALL {NAME}.set_option('{option}', {text(value) if isinstance(value, str) else value})")
    there = {table for table, _ in found}
    for table, columns in wanted.items():
        if table in there:
            for column, kind in columns.items():
                if (table, column) not in found:  # rows that are there have no value
                    con.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind.removesuffix(' NOT NULL')}")
            continue
        con.execute(f"CREATE TABLE {table} ({', '.join(f'{column} {kind}' for column, kind in columns.items())})")
        if "run_id" in columns and table not in ("runs", "units", "crosschecks"):
            con.execute(f"ALTER TABLE {table} SET PARTITIONED BY (run_id)")
        if table in SORTED:
            con.execute(f"ALTER TABLE {table} SET SORTED BY ({SORTED[table]})")
        if table != "schema_migration":
            copy_rows(model, con, table)


def copy_rows(source: duckdb.DuckDBPyConnection, into: duckdb.DuckDBPyConnection, table: str) -> None:
    """Copy the rows of a small table."""
    rows = source.sql(f"FROM {table}").to_arrow_table()
    if rows.num_rows:
        with registered(into, _ROWS, rows):
            into.execute(f"INSERT INTO {table} BY NAME FROM {_ROWS}")


def stored_type(kind: str) -> str:
    """The type of a column in a lake that is of this type in a file."""
    return _ENUM.sub("VARCHAR", kind)


def cast_tables(con: duckdb.DuckDBPyConnection, narrowed: Mapping[str, str] | None = None) -> list[str]:
    """Have the connection see the tables with the types that they have in a file, and of those that are `narrowed` the rows for
    which their condition holds; returns the names of the TEMP views that do it, which go before the tables' own.
    """
    statements = casts(narrowed)
    con.execute(";\n".join(statements.values()))
    return [name for name in statements if name not in TYPES]


def casts(narrowed: Mapping[str, str] | None = None) -> dict[str, str]:
    """The statements of `cast_tables`, by what they make."""
    narrowed = narrowed or {}
    found = {name: f"CREATE TEMP TYPE IF NOT EXISTS {name} AS {kind}" for name, kind in TYPES.items()}
    for table in sorted({*ENUMS, *narrowed}):
        columns = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in ENUMS.get(table, {}).items())
        replaced = f" REPLACE ({columns})" if columns else ""
        where = f" WHERE {narrowed[table]}" if table in narrowed else ""
        found[table] = f"CREATE OR REPLACE TEMP VIEW {table} AS SELECT *{replaced} FROM {NAME}.main.{table}{where}"
    return found


def allowed(con: duckdb.DuckDBPyConnection, table: str) -> str:
    """A condition for rows that are to be inserted. In a lake it fails where a file's table would refuse the row."""
    if not is_lake(con):
        return "true"
    from selfrepair.warehouse.schema.tables import metadata  # SQLAlchemy, which readers do without

    return _guard(metadata.tables[table])


def _guard(table: sa.Table) -> str:
    import sqlalchemy as sa

    rules = [str(rule.sqltext) for rule in table.constraints if isinstance(rule, sa.CheckConstraint)]
    rules += [
        f"{column.name} IN ({', '.join(map(text, column.type.enums))})"
        for column in table.columns
        if isinstance(column.type, sa.Enum)
    ]
    checked = (
        f"CASE WHEN ({rule}) IS NOT FALSE THEN true ELSE error({text(f'{table.name}: {rule} does not hold')}) END"
        for rule in rules
    )
    return " AND ".join(checked) or "true"


def check_keys(con: duckdb.DuckDBPyConnection, table: str, run_id: int) -> None:
    """Raise SelfRepairError where a lake has a key of the run twice, which a file's table would refuse."""
    if not is_lake(con):
        return
    from selfrepair.warehouse.schema.tables import metadata

    key = ", ".join(column.name for column in metadata.tables[table].primary_key.columns)
    if not key:
        return
    found = con.execute(
        f"SELECT {key} FROM {table} WHERE run_id = {run_id:d} GROUP BY {key} HAVING count(*) > 1 LIMIT 1"
    ).fetchall()
    if found:
        raise SelfRepairError(f"{table} would have several rows of {key} = {', '.join(map(str, found[0]))}")
