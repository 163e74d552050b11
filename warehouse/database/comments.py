"""What every table and column means, put into the file: the comments of `schema`, brought up to date when it is migrated."""

import duckdb

_INSTALLED = """
SELECT table_name, NULL AS column_name, comment FROM system.main.duckdb_tables()
WHERE database_name = system.main.current_database() AND schema_name = 'main' AND NOT temporary
UNION ALL
SELECT table_name, column_name, comment FROM system.main.duckdb_columns()
WHERE database_name = system.main.current_database() AND schema_name = 'main' AND NOT internal
"""


def write_comments(con: duckdb.DuckDBPyConnection) -> int:
    """Set the comments that differ from the metadata's; returns how many there were. Call it inside a transaction."""
    from selfrepair.warehouse.schema.tables import metadata  # SQLAlchemy: only who writes a file waits for it

    installed = {(table, column): comment for table, column, comment in con.execute(_INSTALLED).fetchall()}
    wanted: dict[tuple[str, str | None], str | None] = {
        (table.name, None): table.comment for table in metadata.sorted_tables
    }
    wanted |= {
        (table.name, column.name): column.comment for table in metadata.sorted_tables for column in table.columns
    }
    differing = [place for place, comment in wanted.items() if place in installed and installed[place] != comment]
    statements = []
    for table, column in differing:
        place = f"TABLE {table}" if column is None else f"COLUMN {table}.{column}"
        comment = wanted[table, column]
        text = "NULL" if comment is None else "'" + comment.replace("'", "''") + "'"
        statements.append(f"COMMENT ON {place} IS {text}")
    if statements:
        con.execute(";\n".join(statements))  # one by one they take half as long again
    return len(differing)
