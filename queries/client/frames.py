"""What there is to query, as frames of words, which polars would cut to fit."""

from collections.abc import Callable
from typing import Any

import polars as pl

from selfrepair.queries.catalog import questions as library
from selfrepair.queries.catalog import relations as catalog
from selfrepair.queries.catalog.header import split_unit
from selfrepair.warehouse.errors import UnknownNameError

_IN_THE_FILE = """
SELECT column_name AS column, data_type AS type, coalesce(comment, '') AS comment
FROM system.main.duckdb_columns()
WHERE lower(table_name) = lower($name) AND schema_name = 'main' AND database_name = system.main.current_database()
ORDER BY column_index
"""


class WholeFrame(pl.DataFrame):
    """A frame of texts that prints every row and every word."""

    def __str__(self) -> str:
        with pl.Config(tbl_rows=-1, tbl_cols=-1, fmt_str_lengths=10_000, tbl_hide_dataframe_shape=True):
            return super().__str__()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self, *, _from_series: bool = False) -> str:
        with pl.Config(tbl_rows=-1, tbl_cols=-1, fmt_str_lengths=10_000):
            return super()._repr_html_(_from_series=_from_series)


def described(name: str, rows: Callable[[str, dict[str, str]], list[dict[str, Any]]]) -> pl.DataFrame:
    """Every column of a view, table or question's answer: its name, type, unit and meaning.

    `rows` answers SQL from the file, where a table of the user's own is looked for. Raises SelfRepairError where there is
    none of that name.
    """
    found: list[tuple[str, str, str, str]] = []
    if name.lower() in library.questions() or name.lower() in catalog.relations():
        name = name.lower()
        relation = library.answer(name) if name in library.questions() else catalog.describe(name)
        found = [(column.name, column.type, column.unit, column.description) for column in relation.columns]
    else:
        for column in rows(_IN_THE_FILE, {"name": name}):
            meaning, unit = split_unit(column["comment"])
            found.append((column["column"], column["type"], unit, meaning))
    if not found:
        raise UnknownNameError(catalog.unknown_name(name, catalog.relations(), library.questions()))
    return WholeFrame(found, schema=["column", "type", "unit", "meaning"], orient="row")


def listed_views() -> pl.DataFrame:
    """Every view and table: its name, its kind and what a row of it is about."""
    shown = sorted(catalog.relations().values(), key=lambda relation: (relation.is_building_block, relation.name))
    rows = [(relation.name, relation.kind, relation.summary) for relation in shown]
    return WholeFrame(rows, schema=["name", "kind", "summary"], orient="row")


def listed_questions() -> pl.DataFrame:
    """Every canned question: its name, what it answers and its parameters, those it needs first."""
    rows = []
    for question in library.questions().values():
        needed = [name for name, parameter in question.parameters.items() if parameter.required]
        others = [name for name in question.parameters if name not in needed]
        rows.append((question.name, question.view.summary, ", ".join(needed), ", ".join(others)))
    return WholeFrame(rows, schema=["name", "summary", "needs", "takes"], orient="row")
