"""A query as it is typed elsewhere: in a shell for selfrepair or for DuckDB's own program, and in Python."""

import re
import shlex
from pathlib import Path

_NAME = re.compile(r"\s*(\w+)\s*;?\s*")
_END = "SQL"


def selfrepair(sql: str, db: Path) -> str:
    """A line for a shell that writes all rows as CSV."""
    return f"selfrepair query - --db {shlex.quote(str(db))} --csv {_typed(sql)}"


def duckdb(sql: str, db: Path) -> str:
    """The same with DuckDB's own program, which knows no names of views alone."""
    name = _NAME.fullmatch(sql)
    return f"duckdb -readonly {shlex.quote(str(db))} {_typed(f'FROM {name[1]};' if name else _closed(sql))}"


def python(sql: str, db: Path) -> str:
    """Lines of Python that end with a polars frame, `frame`."""
    return (
        "from selfrepair.queries import Warehouse\n\n"
        f"warehouse = Warehouse({str(db)!r})\n"
        f"frame = warehouse.sql({_python_text(sql)}, limit=None)\n"
    )


def _typed(sql: str) -> str:
    end = _END
    while end in sql.splitlines():
        end += "_"
    return f"<<'{end}'\n{sql}\n{end}"


def _closed(sql: str) -> str:
    return sql if sql.rstrip().endswith(";") else f"{sql}\n;"  # on a line of its own: a comment may end the query


def _python_text(sql: str) -> str:
    if "\n" not in sql or (not sql.isprintable() and any(not char.isprintable() and char != "\n" for char in sql)):
        return repr(sql)
    escaped = sql.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""\n{escaped}\n"""'
