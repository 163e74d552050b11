"""The SQL functions that views are written with, such as `head_label(9, 6)`, which is 'L9H6'.

They stand in the file's own main schema, where the views of any DuckDB client find them, under whatever name the file is
attached. Where a reader brings views of its own, it brings the functions, too, for that connection alone.
"""

from dataclasses import dataclass
from typing import Any

import duckdb

from selfrepair.queries.catalog.quoting import literal
from selfrepair.warehouse.errors import SelfRepairError


@dataclass(frozen=True)
class Macro:
    """A function: its parameters and definition as CREATE MACRO takes them, what it is, and a call with its value."""

    name: str
    definition: str
    meaning: str
    call: str
    value: Any

    @property
    def comment(self) -> str:
        """Its comment in a file; one without it is the user's own."""
        return f"{self.meaning} (selfrepair macro {self.name})"


MACROS = (
    Macro(
        "head_label",
        "(layer, head) AS 'L' || layer || 'H' || head",
        "Name of a head as the field writes it, such as L9H6.",
        "(9, 6)",
        "L9H6",
    ),
)


def install_macros(con: duckdb.DuckDBPyConnection) -> None:
    """Create or replace the functions in the file. Raises SelfRepairError when the user has one of such a name."""
    found = con.execute(
        "SELECT function_name, comment FROM duckdb_functions() "
        "WHERE schema_name = 'main' AND database_name = current_database()"
    ).fetchall()
    for macro in MACROS:
        if {comment for name, comment in found if name == macro.name} - {macro.comment}:
            raise SelfRepairError(
                f"this file has a macro '{macro.name}' of your own, and selfrepair installs one of that name; nothing was "
                f"changed. Create yours under another name, DROP MACRO {macro.name}, and then: selfrepair load"
            )
    for macro in MACROS:
        con.execute(f"CREATE OR REPLACE MACRO {macro.name}{macro.definition}")
        con.execute(f"COMMENT ON MACRO {macro.name} IS {literal(macro.comment)}")


def has_macros(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether the file has the functions, and they come to what they should."""
    try:
        values = con.execute("SELECT " + ", ".join(macro.name + macro.call for macro in MACROS)).fetchall()
    except duckdb.Error:
        return False
    return values == [tuple(macro.value for macro in MACROS)]


def create_temp_macros(con: duckdb.DuckDBPyConnection) -> None:
    """Create the functions for this connection only."""
    for macro in MACROS:
        con.execute(f"CREATE OR REPLACE TEMP MACRO {macro.name}{macro.definition}")
