"""The commands that ask: `query`, `views`, `describe`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfrepair.warehouse.options import db_option

if TYPE_CHECKING:
    from selfrepair.queries.reader import Answer

ROWS_ON_SCREEN = 40
"""Rows a table shows when no --limit is given."""

_ROWS_AT_ONCE = 50_000
_WIDTH_WITHOUT_TERMINAL = 120


@click.command()
@click.argument("question", metavar="SQL|NAME|-")
@db_option
@click.option("--csv", is_flag=True, help="Write CSV to standard output.")
@click.option("--json", is_flag=True, help="Write a JSON array of rows to standard output.")
@click.option(
    "--parquet",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a Parquet file; one that is there is replaced.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"At most N rows.  [default: {ROWS_ON_SCREEN} in a table, else all]",
)
def query(question: str, db: Path, csv: bool, json: bool, parquet: Path | None, limit: int | None) -> None:
    """Answer a SQL query, or show a table or view by name.

    With - the query is read from standard input. The warehouse is only read. Examples:

    \b
      selfrepair query layer_repair
      selfrepair query "SELECT label, mean_self_repair FROM head_repair ORDER BY 2 DESC"
    """  # noqa: D301 - click knows the character
    from selfrepair.queries.reader import Reader

    if csv + json + (parquet is not None) > 1:
        raise click.UsageError("--csv, --json and --parquet exclude each other; give one.")
    to_table = not (csv or json or parquet)
    if question == "-":
        question = sys.stdin.read()
    if limit is None and to_table:
        limit = ROWS_ON_SCREEN
    with Reader(db, on_wait=_to_stderr) as reader:
        answer = reader.ask(question, limit, flat=csv or to_table)
    if to_table:
        _print_table(answer)
        return
    if csv:
        _print_csv(answer)
    elif json:
        click.echo(answer.frame.write_json())
    elif parquet:
        _write_parquet(answer, parquet)
    if answer.frame.height < answer.n_rows:
        _to_stderr(_count(answer))


@click.command()
def views() -> None:
    """List the tables and views there are to ask."""
    from selfrepair.queries.catalog import relations
    from selfrepair.queries.describe import listing

    click.echo(listing(relations().values(), _screen_width()))


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def describe(names: tuple[str, ...]) -> None:
    """Say what each column of a table or view means.

    Prints type, unit and meaning of every column. Several names are described one after the other.
    """
    from selfrepair.queries import catalog
    from selfrepair.queries.describe import description

    relations = [catalog.describe(name) for name in names]
    click.echo("\n\n".join(description(relation, _screen_width()) for relation in relations))


def _print_table(answer: Answer) -> None:
    from selfrepair.queries.text_table import text_table

    table = text_table(answer.frame, _screen_width() if sys.stdout.isatty() else None)
    click.echo(table.text)
    click.echo()
    click.echo(_count(answer))
    if table.left_out:
        click.echo(
            f"showing {answer.frame.width - len(table.left_out)} of {answer.frame.width} columns, what fits here; "
            f"SELECT the others by name, or use --csv: {', '.join(table.left_out)}"
        )


def _print_csv(answer: Answer) -> None:
    for i, rows in enumerate(answer.frame.iter_slices(_ROWS_AT_ONCE)):
        click.echo(rows.write_csv(include_header=i == 0), nl=False)
    if answer.frame.is_empty():
        click.echo(answer.frame.write_csv(), nl=False)


def _write_parquet(answer: Answer, path: Path) -> None:
    from io import BytesIO

    from selfrepair.warehouse.errors import SelfRepairError
    from selfrepair.warehouse.files import replace_file

    data = BytesIO()
    answer.frame.write_parquet(data)
    try:
        replace_file(path, data.getvalue())
    except OSError as error:
        raise SelfRepairError(f"{path} could not be written: {error.strerror}. Name another file.") from error
    _to_stderr(f"wrote {answer.frame.height:,} rows to {path}")


def _count(answer: Answer) -> str:
    shown, n_rows = answer.frame.height, answer.n_rows
    if shown == n_rows:
        return f"{n_rows:,} {'row' if n_rows == 1 else 'rows'}"
    return f"showing {shown:,} of {n_rows:,} rows; more with --limit N"


def _screen_width() -> int:
    return shutil.get_terminal_size(fallback=(_WIDTH_WITHOUT_TERMINAL, 0)).columns


def _to_stderr(text: str) -> None:
    click.echo(text, err=True)
