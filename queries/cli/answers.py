"""Answers to a name or SQL on the command line: rows, read while the file is open, and notes on them."""

from __future__ import annotations

import re
import shlex
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from selfrepair.queries.cli.printing import CUT, counted, to_stderr
from selfrepair.queries.client import kinds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import polars as pl

    from selfrepair.queries.export.files import Format
    from selfrepair.queries.sandbox.answer import Answer, Batches, Params
    from selfrepair.queries.sandbox.session import Session

_NAME = re.compile(r"\s*(\w+)\s*;?\s*")
_NOTE_TIMEOUT_S = 1.0  # for notes that are not part of the answer


@dataclass(frozen=True)
class ResolvedQuery:
    """What was typed, as SQL. `name` is the question, table or view; empty for SQL, which has no `given` parameters.

    `values` has a question's parameters, `n_columns` how many columns there are, where only the headline is selected.
    """

    sql: str
    params: Params | None = None
    name: str = ""
    given: Mapping[str, str] | None = None
    values: Mapping[str, Any] | None = None
    n_columns: int = 0


@dataclass(frozen=True)
class OpenAnswer:
    """`rows` to be read once, before anything else is asked in the `session`."""

    rows: Batches
    session: Session
    asked: ResolvedQuery

    def why_empty(self) -> str:
        """What an answer without rows would have needed, in a sentence; empty where that is not known."""
        from selfrepair.queries.client.spelling import values_instead
        from selfrepair.queries.client.unmeasured import unmeasured
        from selfrepair.warehouse.errors import SelfRepairError

        asked, given = self.asked, self.asked.given or {}

        def rows(sql: str) -> list[dict[str, Any]]:
            return self.session.ask(sql, timeout_s=_NOTE_TIMEOUT_S).frame.to_dicts()

        try:
            missing = unmeasured(
                rows, self.session.db, asked.sql, asked.name, given if asked.values is None else asked.values
            )
            if missing or asked.values is not None or not given:
                return missing
            return values_instead(rows, asked.name, self.session.columns(asked.name), given)
        except SelfRepairError:  # it is optional
            return ""

    def notes(self, answer: Answer) -> str:
        """What to know of an answer with rows: means of few rows, intervals of few documents, kinds of rows that it mixes."""
        from selfrepair.queries.client.notices import few_in

        return "\n".join(filter(None, [*few_in(answer.frame), self.kinds(answer)]))

    def kinds(self, answer: Answer) -> str:
        """Which kinds of rows an answer has and how to select one, in a sentence; empty where there is one kind."""
        asked = self.asked
        if not answer.truncated and not asked.name:
            return ""  # whoever wrote the SQL sees all its rows

        def ask(sql: str) -> pl.DataFrame:
            return self.session.ask(sql, params=asked.params, timeout_s=_NOTE_TIMEOUT_S).frame

        found = kinds.kinds_in(answer, asked.sql, ask, kinds.COLUMNS if asked.values is None else asked.values)
        if not found:
            return ""
        if not asked.name:
            return kinds.note(found, f"WHERE {kinds.condition(found)}")
        options = [
            f"--param {shlex.quote(f'{key}={value}')}" for key, value in (asked.given or {}).items() if key not in found
        ]
        options += [f"--param {shlex.quote(f'{key}={values[0]}')}" for key, values in found.items()]
        return kinds.note(found, " ".join(["selfrepair query", asked.name, *options]))


@contextmanager
def open_answer(
    text: str,
    db: Path,
    params: dict[str, str],
    columns: str | None,
    limit: int | None,
    timeout_s: float | None,
    kind: Format | None = None,
) -> Iterator[OpenAnswer]:
    """The rows that answer `text`, with the types that `kind` can hold, None: a table on the terminal. Whoever takes them
    has to be done after `timeout_s` seconds.
    """
    text = sys.stdin.read() if text == "-" else text
    name = _NAME.fullmatch(text)
    if name is None and (params or columns):
        given = "--param" if params else "--columns"
        raise click.UsageError(
            f"{given} goes with the name of a question, table or view; in SQL, write it into the SELECT."
        )
    from selfrepair.queries.sandbox.process import start_early

    start_early()  # while it starts, what puts the question together is imported here
    from selfrepair.queries.sandbox.session import Session

    with Session(db, on_wait=to_stderr, on_note=to_stderr, timeout_s=timeout_s) as session:
        asked = _named(session, name[1], params, columns) if name else ResolvedQuery(text)
        rows = session.batches(
            asked.sql, asked.params, limit=limit, flat=kind in (None, "csv"), text_keys=kind in ("json", "jsonl")
        )
        yield OpenAnswer(rows, session, asked)


def _named(session: Session, name: str, params: dict[str, str], columns: str | None) -> ResolvedQuery:
    """The SQL of a question, table or view. Raises SelfRepairError where there is none of that name."""
    from selfrepair.queries.catalog import questions as library
    from selfrepair.queries.catalog.headline import headline
    from selfrepair.queries.catalog.quoting import identifier
    from selfrepair.queries.catalog.relations import unknown_name
    from selfrepair.queries.catalog.which_run import RUNS
    from selfrepair.queries.sandbox.query import ViewQuery
    from selfrepair.warehouse.errors import SelfRepairError

    names = None if columns in (None, "all", "headline") else [column.strip() for column in (columns or "").split(",")]
    if name in library.questions():
        sql, values = library.bind(name, params)
        values = library.with_run(values, session.rows(RUNS))
        if names:
            sql = f"SELECT {', '.join(map(identifier, names))} FROM (\n{sql}\n)"
        return ResolvedQuery(sql, values or None, name, params, values)
    if name.lower() not in map(str.lower, session.names()):
        raise SelfRepairError(unknown_name(name, session.names(), library.questions()))
    every = session.columns(name)
    chosen = names or (headline(name, every) if columns == "headline" else every)
    filters = {"run_id" if key == "run" else key: value for key, value in params.items()}
    sql, bound = ViewQuery(name, filters, chosen, tells_of_head=True).to_sql(session)
    return ResolvedQuery(sql, bound or None, name, params, n_columns=len(every))


def write_answer(
    text: str,
    db: Path,
    params: dict[str, str],
    columns: str | None,
    path: Path,
    kind: Format,
    limit: int | None,
    timeout_s: float | None,
) -> None:
    """Write the rows that answer `text` to the file `path`."""
    from selfrepair.queries.export.files import write_file

    with open_answer(text, db, params, columns, limit, timeout_s, kind) as answer:
        n_rows = write_file(answer.rows.to_reader(), path, kind)
        to_stderr(f"wrote {counted(n_rows)} to {path}{CUT if answer.rows.truncated else ''}")
        tell_why_empty(answer, n_rows)


def tell_why_empty(answer: OpenAnswer, n_rows: int) -> None:
    """Say beside an answer without rows, in a file or as CSV, what it would have needed."""
    if not n_rows and (why := answer.why_empty()):
        to_stderr(why)
