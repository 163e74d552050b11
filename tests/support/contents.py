"""What a warehouse file holds, to compare it with another one's."""

import math
import re
from pathlib import Path
from typing import Any

import duckdb

LEFT_OUT = (
    *("loaded_at", "applied_at", "last_loaded_at", "refreshed_at", "started_at", "measured_at", "finished_at"),
    *("manifest_sha256", "host", "worker", "seconds"),
)

Contents = dict[str, list[tuple[Any, ...]]]


def contents(db: Path) -> Contents:
    """All rows of the file's own tables and of its summaries, but for times and what hashes them; and its views."""
    with duckdb.connect(str(db), read_only=True) as con:
        tables = con.sql("SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE NOT internal").fetchall()
        found = {}
        for (table,) in tables:
            rows = con.sql(f"FROM {table}")
            lasting = [name for name in rows.columns if name not in LEFT_OUT]
            found[table] = sorted(rows.select(*lasting).fetchall(), key=row_key)
        views = "SELECT view_name, sql, comment FROM duckdb_views() WHERE NOT internal ORDER BY ALL"
        return found | {"views": [(name, _words(sql), comment) for name, sql, comment in con.sql(views).fetchall()]}


def _words(sql: str) -> list[str]:
    """A view's words: DuckDB writes what it read from a file in another order, and with other joins of the same meaning, than
    what it read from the file's log.
    """
    return sorted(word for word in re.findall(r"\w+", sql) if word not in ("CROSS", "JOIN"))


def differences(found: Contents, expected: Contents) -> list[str]:
    """Tables that are not the same; sums that were added in another order differ in their last digits, and are."""
    return [
        table for table in sorted(found.keys() | expected.keys()) if not _alike(found.get(table), expected.get(table))
    ]


def row_key(row: tuple[Any, ...]) -> str:
    return str([value for value in row if not isinstance(value, float)]) + str(
        [f"{value:.3g}" for value in row if isinstance(value, float)]
    )


def _alike(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    return one == other
