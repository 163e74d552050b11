"""Ask a warehouse: one short read-only connection, this version's views, polars frames."""

import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import duckdb
import polars as pl

from selfrepair.queries.catalog import unknown_name
from selfrepair.queries.install import install_temp
from selfrepair.queries.quoting import identifier
from selfrepair.warehouse.connection import OnWait, open_reader
from selfrepair.warehouse.errors import SelfRepairError

_NAME = re.compile(r"\s*(\w+)\s*;?\s*")
_PLAIN_TYPES = {
    "decimal": "DOUBLE",  # a literal such as 0.5
    "hugeint": "BIGINT",  # every sum of integers
    "interval": "VARCHAR",
    "blob": "VARCHAR",
}
_READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
"""Kinds of statement that are answered; SHOW, DESCRIBE, SUMMARIZE and FROM count as SELECT."""

_FETCHED_TO_COUNT = 10_000  # so many rows cost less to fetch than the query to run a second time
_NESTED_TYPES = ("array", "list", "map", "struct", "union")
_HELP = "Tables and views: selfrepair views. Their columns: selfrepair describe NAME"


@dataclass(frozen=True)
class Answer:
    """The rows of a query, perhaps only its first ones; `n_rows` counts all that it has."""

    frame: pl.DataFrame
    n_rows: int


class Reader:
    """A warehouse open for reading, for as long as the `with` block lasts; keep it short, loading waits for it.

    Views are the installed code's own, whatever the file holds. Nothing can be written. `on_wait` is told in a sentence
    when another process has to close the file first. Entering raises SelfRepairError when there is no such file, or it
    stays locked.
    """

    def __init__(self, db: Path, on_wait: OnWait | None = None) -> None:
        self._db = db
        self._on_wait = on_wait
        self._open = ExitStack()

    def __enter__(self) -> "Reader":
        self._con = self._open.enter_context(open_reader(self._db, on_wait=self._on_wait))
        self._con.execute("SET python_enable_replacements = false")  # or SQL would see this process' variables
        install_temp(self._con)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._con.interrupt()  # after Ctrl-C, closing would wait for the query's other threads
        self._open.close()

    def ask(self, query: str, limit: int | None = None, *, flat: bool = False) -> Answer:
        """Answer one SQL statement, or the name of a table or view, with at most `limit` rows.

        `flat` turns lists, maps and structs into JSON text, for tables and CSV. Raises SelfRepairError with DuckDB's
        message when the SQL is wrong, or with the nearest names when there is no table or view of that name.
        """
        try:
            relation = self._relation(query)
            plain = _with_plain_types(relation, flat=flat)
            if limit is None:
                frame = plain.pl()
                return Answer(frame, frame.height)
            frame = plain.limit(max(limit, _FETCHED_TO_COUNT)).pl()
            n_rows = frame.height if frame.height < _FETCHED_TO_COUNT else _counted(relation)
            return Answer(frame.head(limit), n_rows)
        except duckdb.Error as error:
            raise SelfRepairError(f"{error}\n{_HELP}") from error

    def frame(self, query: str) -> pl.DataFrame:
        """All rows that answer `query`, as by `ask`."""
        return self.ask(query).frame

    def _relation(self, query: str) -> duckdb.DuckDBPyRelation:
        name = _NAME.fullmatch(query)
        statement = f"FROM {identifier(self._known(name[1]))}" if name else query
        statements = self._con.extract_statements(statement)
        if len(statements) != 1:
            found = "nothing to answer" if not statements else f"{len(statements)} statements"
            raise SelfRepairError(f"the query has {found}; it takes one SQL statement or name. {_HELP}")
        # Asked before anything runs: a COPY would write its file although the warehouse is open for reading only.
        if statements[0].type not in _READING:
            raise SelfRepairError("the statement is no question, and a warehouse is only read here; ask with SELECT.")
        return self._con.sql(statement)

    def _known(self, name: str) -> str:
        rows = self._con.execute(
            "SELECT table_name FROM duckdb_tables() UNION SELECT view_name FROM duckdb_views() WHERE NOT internal"
        ).fetchall()
        by_lower = {known.lower(): known for (known,) in rows}
        if name.lower() not in by_lower:
            raise SelfRepairError(f"{unknown_name(name, sorted(by_lower))} See: selfrepair views")
        return str(by_lower[name.lower()])


def _counted(relation: duckdb.DuckDBPyRelation) -> int:
    rows = relation.count("*").fetchall()
    return int(rows[0][0])


def _with_plain_types(relation: duckdb.DuckDBPyRelation, *, flat: bool) -> duckdb.DuckDBPyRelation:
    casts = []
    for name, kind in zip(relation.columns, relation.types, strict=True):
        column = identifier(name)
        if kind.id in _PLAIN_TYPES:
            casts.append(f"CAST({column} AS {_PLAIN_TYPES[kind.id]}) AS {column}")
        elif flat and kind.id in _NESTED_TYPES:
            casts.append(f"CAST(to_json({column}) AS VARCHAR) AS {column}")
    return relation.project(f"* REPLACE ({', '.join(casts)})") if casts else relation
