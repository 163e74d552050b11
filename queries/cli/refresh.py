"""`selfrepair refresh`: views and their summaries brought up to date."""

from pathlib import Path

import click

from selfrepair.queries.cli.printing import to_stderr
from selfrepair.warehouse.cli.options import db_option


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
    from selfrepair.warehouse.errors import SelfRepairError, check_there

    check_there(db)
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
