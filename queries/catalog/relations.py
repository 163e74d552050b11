"""What the warehouse's tables and views are: install order, columns, types, units, meanings.

Tables say it in their comments, views in their headers. A view's column that the header leaves out is the column of the
same name in the first relation the view reads, else one of `shared.COLUMNS`; an interval's end is described by the column
it is named after. All of it is checked against DuckDB, in an
empty warehouse in memory.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from selfrepair.queries.catalog.header import Column, HeaderError, View, column_of, parse_view, split_unit
from selfrepair.queries.catalog.next_step import see, shortened
from selfrepair.queries.catalog.shared import CLUSTERED, COLUMNS, INTERVALS
from selfrepair.warehouse.errors import UnknownNameError
from selfrepair.warehouse.verify.rules import is_read_whole, violations

if TYPE_CHECKING:
    import duckdb

_FOLDER = Path(__file__).parents[1] / "views"
_READ = re.compile(r"\b(?:FROM|JOIN)\s+(?:main\.)?([a-z_][a-z0-9_]*)")
_BLOCK = "Building block:"
_SHARED = {name: column_of(f"{name} {text}") for name, text in COLUMNS.items()}
_SQL_COMMENT = re.compile(r"--.*")


@dataclass(frozen=True)
class Relation:
    """A table or view with every column described. `grain`, `paper`, `notes` and
    `headline`, the columns to show first, are a view's; tables have none. `topic` is the folder of a view's file.
    """

    name: str
    kind: Literal["table", "view"]
    summary: str
    columns: tuple[Column, ...]
    grain: tuple[str, ...] = ()
    paper: str = ""
    notes: tuple[str, ...] = ()
    headline: tuple[str, ...] = ()
    topic: str = ""

    @property
    def is_building_block(self) -> bool:
        """True for a view that is there for other views to read."""
        return self.summary.startswith(_BLOCK)


def reads(sql: str, known: Collection[str]) -> list[str]:
    """Which of the `known` relations a SELECT reads, in the order it names them."""
    named = _READ.findall(_SQL_COMMENT.sub("", sql))
    return [name for name in dict.fromkeys(named) if name in known]


def in_order(views: Iterable[View]) -> tuple[View, ...]:
    """The views such that each follows all it reads. Raises HeaderError when they read each other in a circle."""
    by_name = {view.name: view for view in sorted(views, key=lambda view: view.name)}
    graph = {name: reads(view.sql, by_name) for name, view in by_name.items()}
    try:
        return tuple(by_name[name] for name in TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise HeaderError(f"views read each other in a circle: {' -> '.join(error.args[1])}") from None


@cache
def views() -> tuple[View, ...]:
    """Every view of this version of selfrepair, in an order in which they can be created."""
    return in_order(parse_view(path.stem, _text(path), path.parent.name) for path in _FOLDER.glob("*/*.sql"))


def _text(path: Path) -> str:
    """A view's file; where a name in braces stands, with what the rules of a sound warehouse say there."""
    text = path.read_text(encoding="utf-8")
    return text.replace("{VIOLATIONS}", violations()).replace("{IS_READ_WHOLE}", is_read_whole())


def catalogue(of_views: Iterable[View]) -> dict[str, Relation]:
    """Describe all tables and the given views (in order). Raises HeaderError where a header and DuckDB disagree."""
    import duckdb  # whoever only needs a view's SQL does without

    from selfrepair.queries.catalog.macros import create_temp_macros
    from selfrepair.warehouse.database.migrate import migrate

    with duckdb.connect() as con:
        migrate(con)
        create_temp_macros(con)
        relations = _tables(con)
        for view in of_views:
            try:
                con.execute(_empty(view))
            except duckdb.Error as error:
                raise HeaderError(f"views/{view.name}.sql: {error}") from None
            relations[view.name] = _described(view, _types(con, view.name), relations)
    return relations


@cache
def relations() -> Mapping[str, Relation]:
    """Every table and view of this version of selfrepair by name: tables first, then views in install order."""
    return catalogue(views())


def describe(name: str) -> Relation:
    """The table or view called `name`. Raises SelfRepairError with the nearest names when there is none."""
    try:
        return relations()[name]
    except KeyError:
        raise UnknownNameError(unknown_name(name, relations())) from None


def unknown_name(name: str, known: Iterable[str], questions: Iterable[str] = ()) -> str:
    """There is no such table or view (nor question, where `questions` could have been meant), and which names come near."""
    questions = list(questions)
    near = nearest(name, [*questions, *known])
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    kinds, lists = ("question, ", f"{see('questions')}, ") if questions else ("", "")
    return f"there is no {kinds}table or view '{shortened(name)}'{hint} See: {lists}{see('views')}"


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Up to three of the names that `name` may have been meant as, the likeliest first: building blocks come last."""
    blocks = {view.name for view in views() if view.summary.startswith(_BLOCK)}
    return sorted(difflib.get_close_matches(shortened(name).lower(), known, n=3), key=blocks.__contains__)


def _tables(con: duckdb.DuckDBPyConnection) -> dict[str, Relation]:
    comments = con.execute("SELECT table_name, comment FROM system.main.duckdb_tables() ORDER BY table_oid").fetchall()
    columns: dict[str, list[Column]] = {name: [] for name, _ in comments}
    of_tables = (
        "SELECT table_name, column_name, data_type, comment FROM system.main.duckdb_columns() ORDER BY column_index"
    )
    for table, name, kind, comment in con.execute(of_tables).fetchall():
        if table in columns:
            description, unit = split_unit(comment)
            columns[table].append(Column(name, kind, unit, description))
    return {name: Relation(name, "table", comment, tuple(columns[name])) for name, comment in comments}


def _types(con: duckdb.DuckDBPyConnection, view: str) -> dict[str, str]:
    return {name: kind for name, kind, *_ in con.execute(f"DESCRIBE {view}").fetchall()}


def _empty(view: View) -> str:
    """The view without rows; what is kept is a table, so that what reads it is not bound down to the measured rows again."""
    return (
        f"CREATE TABLE {view.name} AS\n{view.sql}\nWITH NO DATA"
        if view.kept
        else f"CREATE VIEW {view.name} AS\n{view.sql}"
    )


def _described(view: View, types: Mapping[str, str], relations: Mapping[str, Relation]) -> Relation:
    def wrong(what: str) -> HeaderError:
        return HeaderError(f"views/{view.name}.sql: {what}")

    for name in (*view.columns, *view.grain, *view.headline):
        if name not in types:
            raise wrong(f"the header names column '{name}', which the view does not have; it has {', '.join(types)}")
    inherited: dict[str, Column] = {}
    for source in reads(view.sql, relations):
        for known in relations[source].columns:
            inherited.setdefault(known.name, known)
    columns = []
    for name, kind in types.items():
        column = view.columns.get(name) or inherited.get(name) or _SHARED.get(name) or _interval(name, view.columns)
        if column is None:
            raise wrong(f"column '{name}' has no description; add a line '--   {name} {kind}: what it means [unit]'")
        if column.type != kind:
            raise wrong(f"column '{name}' is described as {column.type}, but the view gives {kind}")
        columns.append(column)
    return Relation(
        view.name, "view", view.summary, tuple(columns), view.grain, view.paper, view.notes, view.headline, view.topic
    )


def _interval(name: str, described: Mapping[str, Column]) -> Column | None:
    """The standard error or an end of the interval of a column that the view describes."""
    for suffix, what in INTERVALS.items():
        of = described.get(name.removesuffix(suffix))
        if name.endswith(suffix) and of is not None:
            return Column(name, of.type, of.unit, f"{what} {of.name}, {CLUSTERED}")
    return None
