"""`selfrepair publish`: a warehouse where others can read it, with a card and all that it takes to open it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfrepair.queries.cli.printing import counted, to_stderr
from selfrepair.warehouse.cli.options import db_option

if TYPE_CHECKING:
    from selfrepair.queries.export.publication import Options


@click.command()
@click.argument("target", metavar="FOLDER|hf://datasets/OWNER/NAME|s3://BUCKET/FOLDER")
@db_option
@click.option(
    "--run",
    "runs",
    multiple=True,
    metavar="RUN",
    help="Only the run of this number or name; may be given several times.  [default: all complete ones]",
)
@click.option(
    "--without-text",
    is_flag=True,
    help="Publish no prompt, token or target, nothing from which they can be read, and no name of a data set.",
)
@click.option("--licence", metavar="ID", help="Licence of the numbers, by the hub's identifier, such as cc-by-4.0.")
@click.option("--title", metavar="TEXT", help="Title of the card.  [default: the models' names]")
@click.option("--private", is_flag=True, help="Make the data set private, where the hub has none of this name yet.")
def publish(
    target: str,
    db: Path,
    runs: tuple[str, ...],
    without_text: bool,
    licence: str | None,
    title: str | None,
    private: bool,
) -> None:
    """Publish runs in a folder, on the hub or in a bucket.

    It writes Parquet files, a card, and a small DuckDB file with summaries and views. A FOLDER must be new. Whoever has
    it, or the address, opens it with --db: every command that only reads, the app, and Warehouse(...) in Python. It is
    also a data set for datasets.load_dataset and the hub's viewer, and any DuckDB client opens FOLDER/warehouse.duckdb.
    The hub is asked with your token (hf auth login, or HF_TOKEN), a bucket with AWS's credentials. If it is interrupted,
    the same command goes on: what was sent is not sent again. Examples:

    \b
      selfrepair publish hf://datasets/me/gpt2-self-repair --licence cc-by-4.0
      selfrepair app --db hf://datasets/me/gpt2-self-repair
      selfrepair publish folder --run baseline --without-text
    """  # noqa: D301 - click knows the character
    import tempfile

    from selfrepair.queries.export.publication import Options
    from selfrepair.queries.export.upload import check_target, upload
    from selfrepair.warehouse.cli.terminal import cell_text
    from selfrepair.warehouse.database.remote import SCHEMES
    from selfrepair.warehouse.files import needing_temporary_files, temporary_affixes

    options = Options(runs, without_text, licence, title)
    if licence is None:
        to_stderr("no --licence is given: the card says so, and others may not know what they may do with the numbers")
    if not target.startswith(SCHEMES):
        folder = Path(target)
        chosen = _publish(db, folder, options)
        click.echo(f"published {counted_runs(chosen)} in {folder}: selfrepair app --db {folder}")
        return
    check_target(target)
    with needing_temporary_files():
        made = tempfile.TemporaryDirectory(*temporary_affixes())
    with made as parent:
        chosen = _publish(db, Path(parent) / "publication", options)
        address = upload(Path(parent) / "publication", target, private=private, on_note=to_stderr)
    click.echo(f"published {counted_runs(chosen)}: selfrepair app --db {target}")
    if address != target:
        click.echo(cell_text(f"this state of it, whatever is published later: {address}"))


def _publish(db: Path, folder: Path, options: Options) -> list[int]:
    from selfrepair.queries.export.publication import publish as write
    from selfrepair.queries.sandbox.session import Session

    to_stderr("checking the rows before they are published, as selfrepair verify does")
    with Session(db, on_wait=to_stderr, on_note=to_stderr) as session:
        return write(session, folder, options, lambda name, n: to_stderr(f"{name}: {counted(n)}") if n else None)


def counted_runs(run_ids: list[int]) -> str:
    """'run 1', 'runs 1, 2'."""
    return f"{'run' if len(run_ids) == 1 else 'runs'} {', '.join(map(str, run_ids))}"
