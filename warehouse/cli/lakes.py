"""`selfrepair move` and `clean`: a warehouse into a lake and back, and a lake tidied up. Imports happen when a command runs."""

from pathlib import Path

import click

from selfrepair.warehouse.cli.options import db_option


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--data", metavar="FOLDER|s3://...", help="Where the rows of a new lake go.  [default: <catalog>.files]")
def move(source: str, target: str, data: str | None) -> None:
    """Move a warehouse from a file into a lake, or back.

    Runs keep their numbers, and each table is compared with the one it came from before any of it counts. FROM stays as it is:
    remove it when you no longer need it. TO must be new.

    \b
    selfrepair move selfrepair.duckdb ducklake:lake.ducklake --data rows
    selfrepair move ducklake:lake.ducklake selfrepair.duckdb
    """  # noqa: D301 - click knows the character
    from selfrepair.warehouse.cli.commands import holds
    from selfrepair.warehouse.database.address import warehouse_path
    from selfrepair.warehouse.errors import files_given_by
    from selfrepair.warehouse.load import move as moving

    with files_given_by(""):
        to = warehouse_path(target, data)
        moving.move(
            warehouse_path(source),
            to,
            on_wait=_say,
            on_table=lambda table, n_rows: _say(f"{table}: {n_rows:,} rows") if n_rows else None,
        )
    click.echo(f"{to} holds {holds(to)}; {source} is as it was")


@click.command()
@db_option
@click.option(
    "--older-than",
    "hours",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="Keep what is younger: somebody may be reading it.",
)
def clean(db: Path, hours: float) -> None:
    """Remove old snapshots of a lake, and files that nothing needs.

    Each load leaves the state before it behind, and one that was killed its files. Small files are put together.
    """
    from datetime import timedelta

    from selfrepair.warehouse.load.cleaning import clean as clean_lake

    done = clean_lake(db, timedelta(hours=hours), on_wait=_say)
    click.echo(f"{db}: {done.snapshots:,} old snapshots forgotten, {done.files:,} files removed")


def _say(text: str) -> None:
    click.echo(text, err=True)
