"""`selfrepair export`: an answer as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfrepair.queries.cli.answers import write_answer
from selfrepair.queries.cli.options import columns_option, limit_option, param_option, timeout_option
from selfrepair.warehouse.cli.options import db_option

if TYPE_CHECKING:
    from selfrepair.queries.export.files import Format

_FORMATS = ("parquet", "csv", "json", "jsonl")


@click.command()
@click.argument("text", metavar="[NAME|SQL|-]", required=False)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    required=True,
    help="Where to write; an existing file is replaced.",
)
@db_option
@click.option(
    "--format",
    "kind",
    type=click.Choice(_FORMATS),
    help="json: one array; jsonl: one object a line.  [default: by the end of FILE's name]",
)
@param_option
@columns_option
@limit_option
@timeout_option
def export(
    text: str | None,
    output: Path,
    db: Path,
    kind: Format | None,
    params: dict[str, str],
    columns: str | None,
    limit: int | None,
    timeout_s: float | None,
) -> None:
    """Write an answer to a file.

    FILE ends in .parquet, .csv, .json (one array), .jsonl or .ndjson (one object a line). It is written row by row,
    whatever its size, and appears when it is complete. The whole warehouse: selfrepair publish FOLDER. Examples:

    \b
      selfrepair export head_repair -o heads.parquet
      selfrepair export strongest_rows --param layer=4 --param head=2 -o rows.csv
    """  # noqa: D301 - click knows the character
    if text is None:
        raise click.UsageError(
            "name what to write: a question, a table, a view or SQL. The whole warehouse: selfrepair publish FOLDER"
        )
    from selfrepair.queries.export.files import format_of

    kind = kind or format_of(output, f"--format {'|'.join(_FORMATS)}")
    write_answer(text, db, params, columns, output, kind, limit, timeout_s)
