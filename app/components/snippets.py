"""A query as code to copy: a shell line for selfrepair or the DuckDB CLI, or Python."""

import re
import shlex
from pathlib import Path

from selfrepair.queries.catalog.quoting import literal
from selfrepair.warehouse.database.lake.address import Lake, attached
from selfrepair.warehouse.database.publication import FILES_VARIABLE, SMALL_FILE, address_of, is_publication

_NAME = re.compile(r"\s*(\w+)\s*;?\s*")
_END = "SQL"


def selfrepair(sql: str, db: Path) -> str:
    """A shell line that writes all rows as CSV."""
    return f"selfrepair query - --db {shlex.quote(address_of(db))} --csv {_heredoc(sql)}"


def duckdb(sql: str, db: Path) -> str:
    """The same with the DuckDB CLI, which does not take the bare name of a view."""
    name = _NAME.fullmatch(sql)
    text = f"FROM {name[1]};" if name else _terminated(sql)
    if isinstance(db, Lake):
        return f"duckdb {_heredoc(f'{attached(db)}{chr(10)}{text}')}"
    if is_publication(db):
        where = address_of(db).rstrip("/")
        text = f"SET VARIABLE {FILES_VARIABLE} = {literal(f'{where}/')};\n{text}"
        db = db / SMALL_FILE
    return f"duckdb -readonly {shlex.quote(str(db))} {_heredoc(text)}"


def python(sql: str, db: Path) -> str:
    """Python that ends with a polars frame, `frame`."""
    return (
        "from selfrepair import Warehouse\n\n"
        f"warehouse = Warehouse({address_of(db)!r})\n"
        f"frame = warehouse.sql({_python_literal(sql)}, limit=None)\n"
    )


def _heredoc(sql: str) -> str:
    end = _END
    while end in sql.splitlines():
        end += "_"
    return f"<<'{end}'\n{sql}\n{end}"


def _terminated(sql: str) -> str:
    return sql if sql.rstrip().endswith(";") else f"{sql}\n;"  # on a line of its own: a comment may end the query


def _python_literal(sql: str) -> str:
    if "\n" not in sql or (not sql.isprintable() and any(not char.isprintable() and char != "\n" for char in sql)):
        return repr(sql)
    escaped = sql.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""\n{escaped}\n"""'
