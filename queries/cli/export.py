"""`selfrepair export`: an answer, or the whole warehouse, as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfrepair.queries.cli.answers import write_answer
from selfrepair.queries.cli.options import columns_option, limit_option, param_option, timeout_option
from selfrepair.queries.cli.printing import counted, to_stderr
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
    metavar="FILE|FOLDER",
    required=True,
    help="Where to write; an existing file is replaced, a folder must be new.",
)
@db_option
@click.option("--all", "everything", is_flag=True, help="Write every table and view into a folder of Parquet files.")
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
    everything: bool,
    kind: Format | None,
    params: dict[str, str],
    columns: str | None,
    limit: int | None,
    timeout_s: float | None,
) -> None:
    """Write an answer, or the whole warehouse, to files.

    FILE ends in .parquet, .csv, .json (one array), .jsonl or .ndjson (one object a line). It is written row by row,
    whatever its size, and appears when it is complete. Examples:

    \b
      selfrepair export head_repair -o heads.parquet
      selfrepair export strongest_rows --param layer=4 --param head=2 -o rows.csv
      selfrepair export --all -o folder
    """  # noqa: D301 - click knows the character
    if everything:
        if text is not None or kind or params or columns or limit is not None or timeout_s:
            raise click.UsageError("--all writes everything as Parquet; give nothing with it but -o FOLDER.")
        _export_all(db, output)
    elif text is None:
        raise click.UsageError("name what to write: a question, a table, a view or SQL; or give --all.")
    else:
        from selfrepair.queries.export.files import format_of

        kind = kind or format_of(output, f"--format {'|'.join(_FORMATS)}")
        write_answer(text, db, params, columns, output, kind, limit, timeout_s)


def _export_all(db: Path, folder: Path) -> None:
    from selfrepair.queries.export.folder import export_all
    from selfrepair.queries.sandbox.session import Session

    with Session(db, on_wait=to_stderr, on_note=to_stderr) as session:
        n_rows = export_all(session, folder, lambda name, n: to_stderr(f"{name}: {counted(n)}"))
    click.echo(f"wrote {counted(n_rows)} to {folder}; what they are: {folder / 'README.md'}")
