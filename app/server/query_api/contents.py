"""What the addresses of the HTTP API hold: listings, descriptions, and the queries behind names."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import polars as pl
import pyarrow as pa

from selfrepair.app.server.asking import Asker, Rows, as_rows
from selfrepair.app.server.query_api.formats import Shape
from selfrepair.app.server.query_api.parameters import COLUMNS, Page
from selfrepair.app.server.query_api.problems import ProblemError
from selfrepair.queries.catalog.next_step import API
from selfrepair.queries.catalog.questions import bind, questions
from selfrepair.queries.catalog.relations import views
from selfrepair.queries.catalog.which_run import RUNS
from selfrepair.queries.client.frames import described, listed_questions, listed_views
from selfrepair.queries.sandbox.query import Query, QuestionQuery, SqlQuery, ViewQuery
from selfrepair.warehouse.schema.tables import metadata

LISTINGS: Mapping[str, str] = {
    "tables": "Every table: its name and what a row of it is about.",
    "views": "Every view, building blocks last.",
    "questions": "Every built-in question: what it answers, the parameters that it needs and those that it takes.",
    "runs": "Every run with its model and dataset, the oldest first.",
}
"""Addresses without a name, and what they list."""

NAMED: Mapping[str, str] = {
    "tables": "Rows of a table.",
    "views": "Rows of a view.",
    "questions": "The answer to a question.",
    "describe": "The columns of a table, view or question: type, unit and meaning of each.",
}
"""Addresses with a name, and what they answer."""


_IN_THE_FILE = """
SELECT table_name AS name, 'table' AS kind FROM duckdb_tables() WHERE schema_name = 'main' AND NOT internal
UNION ALL
SELECT view_name, 'view' FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal
ORDER BY ALL
"""


@cache
def known_tables() -> frozenset[str]:
    """Names of the tables of every warehouse."""
    return frozenset(metadata.tables)


@cache
def known_views() -> frozenset[str]:
    """Names of the views of this version."""
    return frozenset(view.name for view in views())


def listed(asker: Asker, what: str, page: Page, shape: Shape) -> Rows:
    """One page of a listing."""
    if what == "runs":
        return asker.ask(SqlQuery(RUNS), page.limit, page.offset, flat=shape.flat, text_keys=shape.text_keys)
    if what == "questions":
        return as_rows(_table(listed_questions()), page.limit, page.offset)
    frame = listed_views()
    in_file = [(row["name"], row["kind"], "") for row in asker.rows(_IN_THE_FILE)]
    own = [row for row in in_file if row[0].lower() not in known_tables() | known_views()]
    frame = pl.concat([frame, pl.DataFrame(own, schema=frame.schema, orient="row")])
    return as_rows(_table(frame.filter(pl.col("kind") == what.removesuffix("s"))), page.limit, page.offset)


def description(asker: Asker, name: str, page: Page) -> Rows:
    """One page of the columns of a table, view or question."""
    return as_rows(_table(described(name, asker.rows)), page.limit, page.offset)


def query_of(kind: str, name: str, values: dict[str, Any]) -> Query:
    """The query behind a named address. Raises SelfRepairError or ProblemError where there is none."""
    if kind == "questions":
        return QuestionQuery(*bind(name, values))
    elsewhere = known_views() if kind == "tables" else known_tables()
    if name.lower() in elsewhere:
        other = "views" if kind == "tables" else "tables"
        raise ProblemError(
            404,
            f"'{name}' is a {other.removesuffix('s')}. Its address is {API}/{other}/{name}",
            f"{API}/{other}/{name}",
        )
    values = {"run_id" if column == "run" else column: value for column, value in values.items()}
    chosen = values.pop(COLUMNS, "all")
    columns = chosen if chosen in ("all", "headline") else _names(chosen)
    return ViewQuery(name, values, columns, is_ordered=True)


def sql_query(sql: str, values: Mapping[str, Any]) -> Query:
    """SQL with values for its `$parameters`."""
    return SqlQuery(sql, dict(values) or None)


def step_of(kind: str, name: str) -> str:
    """Where to look next after an error about this address."""
    if kind == "describe" or (kind in ("tables", "views") and name.lower() not in known_tables() | known_views()):
        return f"{API}/views" if kind == "describe" else f"{API}/{kind}"
    if kind == "questions" and name not in questions():
        return f"{API}/questions"
    return f"{API}/describe/{name}" if name else f"{API}/docs"


def _names(chosen: str | Sequence[str]) -> list[str]:
    texts = [chosen] if isinstance(chosen, str) else chosen
    return [name.strip() for text in texts for name in text.split(",")]


def _table(frame: pl.DataFrame) -> pa.Table:
    table: pa.Table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    return table
