"""`selfrepair query`: rows as a table on the terminal, as CSV or JSON, or in a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfrepair.queries.cli.answers import open_answer, tell_why_empty, write_answer
from selfrepair.queries.cli.options import columns_option, output_option, param_option, timeout_option
from selfrepair.queries.cli.printing import (
    MOST_ROWS_ON_SCREEN,
    is_of_post_norms,
    print_on_screen,
    print_rows,
    print_table,
    without_absent_part,
)
from selfrepair.warehouse.cli.options import db_option

if TYPE_CHECKING:
    from selfrepair.queries.export.files import Format

ROWS_ON_SCREEN = 40
"""Rows a table shows when no --limit is given."""

_TIMEOUT_S = 60.0


@click.command()
@click.argument("text", metavar="NAME|SQL|-")
@db_option
@param_option
@columns_option
@click.option("--csv", is_flag=True, help="Write CSV to standard output.")
@click.option("--json", is_flag=True, help="Write a JSON array of rows to standard output.")
@click.option(
    "--parquet",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a Parquet file, whatever its name.",
)
@output_option
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"At most N rows.  [default: {ROWS_ON_SCREEN} in a table, else all]",
)
@timeout_option
def query(
    text: str,
    db: Path,
    params: dict[str, str],
    columns: str | None,
    csv: bool,
    json: bool,
    parquet: Path | None,
    output: Path | None,
    limit: int | None,
    timeout_s: float | None,
) -> None:
    """Answer a question, a table or view by name, or SQL.

    With - the query is read from standard input. The warehouse is only read. Examples:

    \b
      selfrepair query head_repair --param population=top2 --param ablation=resample
      selfrepair query tail_of_head --param head=L4H2
      selfrepair query "SELECT label, mean_self_repair FROM head_repair
                        WHERE ablation = 'resample' AND population = 'top2' ORDER BY 2 DESC"
    """  # noqa: D301 - click knows the character
    if csv + json + (parquet is not None) + (output is not None) > 1:
        raise click.UsageError("--csv, --json, --parquet and -o are mutually exclusive; give one.")
    if parquet:
        write_answer(text, db, params, columns, parquet, "parquet", limit, timeout_s)
        return
    if output:
        from selfrepair.queries.export.files import format_of

        write_answer(text, db, params, columns, output, format_of(output, "--parquet FILE"), limit, timeout_s)
        return
    timeout_s = timeout_s or _TIMEOUT_S
    if csv or json:
        kind: Format = "csv" if csv else "json"
        if limit is None and sys.stdout.isatty():
            limit, show = MOST_ROWS_ON_SCREEN, print_on_screen
        else:
            show = print_rows
        with open_answer(text, db, params, columns, limit, timeout_s, kind) as answer:
            tell_why_empty(answer, show(answer.rows, kind))
        return
    limit = ROWS_ON_SCREEN if limit is None else limit
    with open_answer(text, db, params, columns or _headline(text), limit, timeout_s) as answer:
        rows = answer.rows.to_answer()
        note = answer.why_empty() if rows.frame.is_empty() else answer.notes(rows)
        n_columns = answer.asked.n_columns
        if answer.asked.name and columns in (None, "all"):
            shown = without_absent_part(rows)
            if n_columns and shown.frame.width < rows.frame.width:
                n_columns -= sum(map(is_of_post_norms, answer.session.columns(answer.asked.name)))
            rows = shown
        print_table(rows, answer.asked.values or {}, note, n_columns)


def _headline(text: str) -> str | None:
    return "headline" if text.strip().rstrip(";").isidentifier() else None
