"""The commands that ask: `query`, `questions`, `views`, `describe`, `export`; and `refresh`, which keeps answers quick."""

from __future__ import annotations

import difflib
import os
import re
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from selfrepair.queries.cli.printing import (
    CUT,
    MOST_ROWS_ON_SCREEN,
    counted,
    print_on_screen,
    print_rows,
    print_table,
    screen_width,
    to_stderr,
)
from selfrepair.queries.client import kinds
from selfrepair.warehouse.cli.options import db_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import polars as pl

    from selfrepair.queries.export.files import Format
    from selfrepair.queries.sandbox.reader import Answer, Batches, Reader

ROWS_ON_SCREEN = 40
"""Rows a table shows when no --limit is given."""

_NAME = re.compile(r"\s*(\w+)\s*;?\s*")
_TIMEOUT_S = 60.0
_GRACE_S = 2.0
_COURTESY_S = 1.0  # for what nobody asked for; less than the grace
_FORMATS = ("parquet", "csv", "json", "jsonl")


def _parameters(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"'{value}' reads NAME=VALUE, such as layer=9", ctx, option)
        if name in parameters:
            raise click.BadParameter(f"'{name}' is given twice; give it once", ctx, option)
        parameters[name] = text
    return parameters


_timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Stop the query after so long.  [default: 60 for what is printed, none for files]",
)

_param_option = click.option(
    "--param",
    "params",
    multiple=True,
    callback=_parameters,
    metavar="NAME=VALUE",
    help="A parameter of the question; may be given several times. See: selfrepair questions NAME",
)


@click.command()
@click.argument("asked", metavar="NAME|SQL|-")
@db_option
@_param_option
@click.option("--csv", is_flag=True, help="Write CSV to standard output.")
@click.option("--json", is_flag=True, help="Write a JSON array of rows to standard output.")
@click.option(
    "--parquet",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a Parquet file; one that is there is replaced. More formats: selfrepair export",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"At most N rows.  [default: {ROWS_ON_SCREEN} in a table, else all]",
)
@_timeout_option
def query(
    asked: str,
    db: Path,
    params: dict[str, str],
    csv: bool,
    json: bool,
    parquet: Path | None,
    limit: int | None,
    timeout_s: float | None,
) -> None:
    """Answer a question, a table or view by name, or SQL.

    With - the query is read from standard input. The warehouse is only read. Examples:

    \b
      selfrepair query most_repaired_heads --param at_most=5
      selfrepair query layer_repair
      selfrepair query "SELECT label, mean_self_repair FROM head_repair
                        WHERE ablation = 'resample' AND population = 'top2' ORDER BY 2 DESC"
    """  # noqa: D301 - click knows the character
    if csv + json + (parquet is not None) > 1:
        raise click.UsageError("--csv, --json and --parquet exclude each other; give one.")
    if parquet:
        _write_file(asked, db, params, parquet, "parquet", limit, timeout_s)
        return
    timeout_s = timeout_s or _TIMEOUT_S
    if csv or json:
        kind: Format = "csv" if csv else "json"
        if limit is None and sys.stdout.isatty():
            limit, show = MOST_ROWS_ON_SCREEN, print_on_screen
        else:
            show = print_rows
        with _answered(asked, db, params, limit, timeout_s, flat=csv) as answered:
            show(answered.rows, kind)
    else:
        limit = ROWS_ON_SCREEN if limit is None else limit
        with _answered(asked, db, params, limit, timeout_s, flat=True) as answered:
            answer = answered.rows.to_answer()
            print_table(answer, answered.params, answered.why_empty(answer) or answered.kinds(answer))


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
def questions(names: tuple[str, ...]) -> None:
    """List the questions to ask, or describe some of them.

    Ask one with: selfrepair query NAME --param PARAMETER=VALUE
    """
    from selfrepair.queries.catalog import questions as library
    from selfrepair.queries.catalog import relations as catalog
    from selfrepair.queries.catalog.describe import question_description, question_listing

    if not names:
        click.echo(question_listing(library.questions().values(), screen_width()))
        click.echo("\nWhat one takes: selfrepair questions NAME. Ask it: selfrepair query NAME --param layer=4")
        return
    asked = [library.question(name) for name in names]
    answers = catalog.catalogue((*catalog.views(), *library.as_views(asked)))
    click.echo("\n\n".join(question_description(one, answers[one.name], screen_width()) for one in asked))


@click.command()
def views() -> None:
    """List the tables and views there are to ask."""
    from selfrepair.queries.catalog.describe import listing
    from selfrepair.queries.catalog.relations import relations

    click.echo(listing(relations().values(), screen_width()))
    click.echo("\nTheir columns: selfrepair describe NAME. Questions over them: selfrepair questions")


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def describe(names: tuple[str, ...]) -> None:
    """Say what each column of a table or view means.

    Prints type, unit and meaning of every column. Several names are described one after the other.
    """
    from selfrepair.queries.catalog import relations as catalog
    from selfrepair.queries.catalog.describe import description

    relations = [catalog.describe(name) for name in names]
    click.echo("\n\n".join(description(relation, screen_width()) for relation in relations))


@click.command()
@click.argument("asked", metavar="[NAME|SQL|-]", required=False)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    required=True,
    help="Where to write; a file that is there is replaced, a folder must be new.",
)
@db_option
@click.option("--all", "everything", is_flag=True, help="Write every table and view into a folder of Parquet files.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(_FORMATS),
    help="json: one array; jsonl: one object a line.  [default: by the end of FILE's name]",
)
@_param_option
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="At most N rows.")
@_timeout_option
def export(
    asked: str | None,
    output: Path,
    db: Path,
    everything: bool,
    kind: Format | None,
    params: dict[str, str],
    limit: int | None,
    timeout_s: float | None,
) -> None:
    """Write an answer, or the whole warehouse, to files.

    FILE ends in .parquet, .csv, .json (one array), .jsonl or .ndjson (one object a line). It is written row by row,
    whatever its size, and appears when it is whole. Examples:

    \b
      selfrepair export head_repair -o heads.parquet
      selfrepair export strongest_rows --param layer=4 --param head=2 -o rows.csv
      selfrepair export --all -o folder
    """  # noqa: D301 - click knows the character
    if everything:
        if asked is not None or kind or params or limit is not None or timeout_s:
            raise click.UsageError("--all writes everything as Parquet; give nothing with it but -o FOLDER.")
        _export_all(db, output)
    elif asked is None:
        raise click.UsageError("name what to write: a question, a table, a view or SQL; or give --all.")
    else:
        _write_file(asked, db, params, output, kind, limit, timeout_s)


@click.command()
@db_option
@click.option(
    "--run", "run_ids", type=int, multiple=True, metavar="ID", help="Only this run, whether it needs it or not."
)
def refresh(db: Path, run_ids: tuple[int, ...]) -> None:
    """Bring the views and their summaries up to date.

    Loading does it by itself. It is needed after an upgrade of selfrepair, and after changing rows by hand (--run).
    """
    from selfrepair.queries.marts import refresh as marts
    from selfrepair.queries.marts.install import install
    from selfrepair.warehouse.database.connection import open_writer
    from selfrepair.warehouse.errors import SelfRepairError

    if not db.exists():
        raise SelfRepairError(f"there is no warehouse at {db}. Name the file with --db, or make one: selfrepair demo")
    with open_writer(db, on_wait=to_stderr) as con:
        known = [run_id for (run_id,) in con.execute("SELECT DISTINCT run_id FROM units ORDER BY run_id").fetchall()]
        for run_id in run_ids:
            if run_id not in known:
                loaded = ", ".join(map(str, known)) or "none"
                raise SelfRepairError(
                    f"run {run_id} has no rows in {db}; runs that have: {loaded}. See: selfrepair runs"
                )
        install(con)
        done = marts.refresh(
            con, run_ids or None, lambda run_id, s: click.echo(f"run {run_id}: summarised in {s:.1f} s")
        )
        con.execute("CHECKPOINT")
    if not done:
        click.echo(f"{db}: the summaries of all runs are up to date")


@dataclass(frozen=True)
class _Answered:
    """`rows` to be read once, while `reader` is open; `params` has a question's values, and is empty for all else."""

    rows: Batches
    reader: Reader
    asked: str
    params: Mapping[str, Any]

    def why_empty(self, answer: Answer) -> str:
        """What an answer without rows would have needed, in a sentence; empty where that is not known."""
        from selfrepair.queries.client.unmeasured import unmeasured

        return unmeasured(self.reader, self.asked) if answer.frame.is_empty() else ""

    def kinds(self, answer: Answer) -> str:
        """What of an answer has to be told apart and how, in a sentence; empty where there is nothing to say."""
        name = _NAME.fullmatch(self.asked)
        if not answer.truncated and name is None:
            return ""  # whoever wrote the SQL sees all its rows

        def ask(sql: str) -> pl.DataFrame:
            return self.reader.ask(sql, params=self.params or None, timeout_s=_COURTESY_S).frame

        asked = f"FROM {name[1]}" if name else self.asked
        found = kinds.kinds_in(answer, asked, ask, self.params or kinds.COLUMNS)
        if not found:
            return ""
        if self.params:
            one = " ".join(f"--param {key}={values[0]}" for key, values in found.items())
        else:
            one = f"WHERE {kinds.condition(found)}"
        return kinds.note(found, f'selfrepair query "{asked} {one}"' if name else one)


@contextmanager
def _answered(
    asked: str, db: Path, params: dict[str, str], limit: int | None, timeout_s: float | None, *, flat: bool = False
) -> Iterator[_Answered]:
    """The rows that answer `asked`; whoever takes them has to be done after `timeout_s` seconds."""
    from selfrepair.queries.catalog import questions as library
    from selfrepair.queries.catalog import relations as catalog
    from selfrepair.queries.catalog.which_run import RUNS
    from selfrepair.queries.sandbox.reader import Reader
    from selfrepair.warehouse.errors import SelfRepairError

    asked = sys.stdin.read() if asked == "-" else asked
    name = _NAME.fullmatch(asked)
    is_question = name is not None and name[1] in library.questions()
    values: dict[str, Any] = {}
    if name and is_question:
        asked, values = library.bind(name[1], params)
    elif params:
        near = difflib.get_close_matches(name[1].lower(), library.questions(), n=3) if name else []
        hint = f"; did you mean {' or '.join(near)}?" if near else "."
        raise SelfRepairError(
            f"--param fills in what a question takes, and '{asked}' is no question{hint} See: selfrepair questions"
        )
    with Reader(db, on_wait=to_stderr, on_note=to_stderr) as reader, _ended_after(timeout_s):
        if is_question:
            values = library.with_run(values, reader.rows(RUNS))
        elif name and name[1].lower() not in map(str.lower, reader.names()):
            near = catalog.nearest(name[1], [*library.questions(), *reader.names()])
            hint = f"; did you mean {' or '.join(near)}?" if near else "."
            raise SelfRepairError(
                f"there is no question, table or view '{name[1]}'{hint} See: selfrepair questions, selfrepair views"
            )
        rows = reader.batches(asked, values or None, limit=limit, flat=flat, timeout_s=timeout_s)
        yield _Answered(rows, reader, asked, values)


@contextmanager
def _ended_after(timeout_s: float | None) -> Iterator[None]:
    """End this process where a query is still at it after its time: within one call of a function DuckDB hears nothing."""
    if timeout_s is None:
        yield
        return

    def end() -> None:
        from selfrepair.queries.sandbox.reader import out_of_time

        to_stderr(f"Error: {out_of_time(timeout_s)}")
        os._exit(1)

    timer = threading.Timer(timeout_s + _GRACE_S, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _write_file(
    asked: str,
    db: Path,
    params: dict[str, str],
    path: Path,
    kind: Format | None,
    limit: int | None,
    timeout_s: float | None,
) -> None:
    from selfrepair.queries.export.files import format_of, write_file

    chosen = kind or format_of(path)

    with _answered(asked, db, params, limit, timeout_s, flat=chosen == "csv") as answered:
        n_rows = write_file(answered.rows.to_reader(), path, chosen)
        to_stderr(f"wrote {counted(n_rows)} to {path}{CUT if answered.rows.truncated else ''}")


def _export_all(db: Path, folder: Path) -> None:
    from selfrepair.queries.export.folder import export_all
    from selfrepair.queries.sandbox.reader import Reader

    with Reader(db, on_wait=to_stderr, on_note=to_stderr) as reader:
        n_rows = export_all(reader, folder, lambda name, n: to_stderr(f"{name}: {counted(n)}"))
    click.echo(f"wrote {counted(n_rows)} to {folder}; what they are: {folder / 'README.md'}")
