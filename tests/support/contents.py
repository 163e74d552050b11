"""What a warehouse file holds, to compare it with another one's."""

from pathlib import Path

import duckdb

_TIMES = ("loaded_at", "applied_at", "last_loaded_at", "refreshed_at", "started_at", "measured_at", "finished_at")


def contents(db: Path) -> dict[str, list[tuple[str, ...]]]:
    """All rows of the file's own tables and of its summaries, but for times and what hashes them."""
    with duckdb.connect(str(db), read_only=True) as con:
        tables = con.sql(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE NOT internal ORDER BY ALL"
        ).fetchall()
        found = {}
        for (table,) in tables:
            rows = con.sql(f"FROM {table}")
            lasting = [name for name in rows.columns if name not in (*_TIMES, "manifest_sha256")]
            found[table] = sorted(tuple(map(_rounded, row)) for row in rows.select(*lasting).fetchall())
        return found


def _rounded(value: object) -> str:
    """A sum in another order differs in its last digits."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
