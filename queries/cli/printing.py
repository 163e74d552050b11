"""Answers on a terminal: as a table with a note below it, or as CSV and JSON."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from selfrepair.queries.export.files import Format
    from selfrepair.queries.sandbox.answer import Answer, Batches

MOST_ROWS_ON_SCREEN = 10_000
"""Rows of CSV or JSON that a terminal is sent when no --limit is given."""

CUT = "; the others were cut off by --limit"
"""What a note says behind the rows of an answer that has more."""

_WIDTH_WITHOUT_TERMINAL = 120


def print_rows(rows: Batches, kind: Format) -> int:
    """Write an answer to standard output as CSV or JSON, whatever its length; returns how many rows it has."""
    from selfrepair.queries.export.files import write_rows

    n_rows = write_rows(rows.to_reader(), sys.stdout.buffer, kind)
    sys.stdout.flush()  # while what goes wrong with it can still be said
    if rows.truncated:
        to_stderr(f"wrote {counted(n_rows)}{CUT}")
    return n_rows


def print_on_screen(rows: Batches, kind: Format) -> int:
    """The same on a terminal, where a million lines would scroll by: few are printed, or none."""
    from io import BytesIO

    from selfrepair.queries.export.files import write_rows
    from selfrepair.warehouse.errors import SelfRepairError

    text = BytesIO()
    n_rows = write_rows(rows.to_reader(), text, kind)
    if rows.truncated:
        raise SelfRepairError(
            f"the answer has more than {MOST_ROWS_ON_SCREEN:,} rows, too many for a screen. Give --limit N, send it "
            f"elsewhere (| less, > rows.{kind}), or write a file: selfrepair export ... -o rows.{kind}"
        )
    sys.stdout.buffer.write(text.getvalue())
    return n_rows


def _without_constants(frame: pl.DataFrame, params: Mapping[str, Any]) -> tuple[str, pl.DataFrame]:
    """What is the same in all rows of a longer answer, said once; and the rest, which then has the room.

    A question's parameters are said, too, where no column has them.
    """
    from selfrepair.queries.catalog.headline import CONTEXT

    same = [name for name in CONTEXT if name in frame.columns and frame[name].n_unique() == 1]
    if frame.height < 2 or len(same) == frame.width:
        same = []
    named = {name: params[name] for name in CONTEXT if name not in frame.columns and params.get(name) is not None}
    named |= {name: frame[name][0] for name in same}
    return ", ".join(f"{name} {named[name]}" for name in CONTEXT if name in named), frame.drop(same)


def is_of_post_norms(column: str) -> bool:
    """Whether the column is one of post-norm repair, such as post_norm_fraction_of_effect."""
    return "post_norm_" in f"{column}_"


def without_absent_part(answer: Answer) -> Answer:
    """The answer without columns of post-norm repair that hold nothing: no model in it has post-norms."""
    frame = answer.frame
    absent = [name for name in filter(is_of_post_norms, frame.columns) if frame[name].null_count() == frame.height]
    return replace(answer, frame=frame.drop(absent))


def print_table(answer: Answer, params: Mapping[str, Any], note: str, n_columns: int = 0) -> None:
    """Print an answer as a table; below it how many rows it has, the `note`, and which columns are left out.

    `params` are those of the question that it answers; `n_columns` is how many columns a view has, whose headline this is.
    """
    from selfrepair.queries.cli.text_table import text_table

    same, frame = _without_constants(answer.frame, params)
    if same:
        click.echo(f"{same}\n")
    table = text_table(frame, screen_width() if sys.stdout.isatty() else None)
    click.echo(table.text)
    click.echo()
    n_rows = answer.frame.height
    click.echo(f"the first {counted(n_rows)}; more with --limit N" if answer.truncated else counted(n_rows))
    if note:
        click.echo(note)
    n_columns = max(n_columns, answer.frame.width)
    if table.left_out or n_columns > answer.frame.width:
        no_room = f"; not shown: {', '.join(table.left_out)}" if table.left_out else ""
        click.echo(
            f"{frame.width - len(table.left_out)} of {n_columns} columns{no_room}. "
            "Others: --columns all or --columns A,B; all in a file: -o FILE"
        )


def counted(n_rows: int) -> str:
    """'1 row', '1,234 rows'."""
    return f"{n_rows:,} {'row' if n_rows == 1 else 'rows'}"


def screen_width() -> int:
    """How many characters a line of the terminal has."""
    return shutil.get_terminal_size(fallback=(_WIDTH_WITHOUT_TERMINAL, 0)).columns


def to_stderr(text: str) -> None:
    """Print a line that is no part of the answer."""
    click.echo(text, err=True)
