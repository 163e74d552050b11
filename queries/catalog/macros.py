"""The SQL function that views write a head's name with: `head_label(9, 6)` is 'L9H6'.

It stands in the file's own main schema, where the views of any DuckDB client find it, under whatever name the file is
attached. Where a reader brings views of its own, it brings the function, too, for that connection alone.
"""

import duckdb

from selfrepair.queries.catalog.quoting import literal
from selfrepair.warehouse.errors import SelfRepairError

HEAD_LABEL = "head_label(layer, head) AS 'L' || layer || 'H' || head"

_MARKER = "Name of a head, such as L9H6. (selfrepair macro head_label)"
"""The function's comment in a file; one without it is the user's own."""


def install_macros(con: duckdb.DuckDBPyConnection) -> None:
    """Create or replace the function in the file. Raises SelfRepairError when the user has one of that name."""
    if _comments(con) - {_MARKER}:
        raise SelfRepairError(
            "this file has a macro 'head_label' of your own, and selfrepair installs one of that name; nothing was changed. "
            "Create yours under another name, DROP MACRO head_label, and then: selfrepair load"
        )
    con.execute(f"CREATE OR REPLACE MACRO {HEAD_LABEL}")
    con.execute(f"COMMENT ON MACRO head_label IS {literal(_MARKER)}")


def has_macros(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether the file has the function as it was installed; another one put in its place has lost the comment."""
    return _comments(con) == {_MARKER}


def create_temp_macros(con: duckdb.DuckDBPyConnection) -> None:
    """Create the function for this connection only."""
    con.execute(f"CREATE OR REPLACE TEMP MACRO {HEAD_LABEL}")


def _comments(con: duckdb.DuckDBPyConnection) -> set[str | None]:
    rows = con.execute(
        "SELECT comment FROM duckdb_functions() WHERE function_name = 'head_label' AND schema_name = 'main' "
        "AND database_name = current_database()"
    ).fetchall()
    return {comment for (comment,) in rows}
