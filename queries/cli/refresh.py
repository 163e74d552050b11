"""`selfrepair refresh`: views and their summaries brought up to date."""

from pathlib import Path

import click

from selfrepair.queries.cli.printing import to_stderr
from selfrepair.warehouse.cli.options import db_option


@click.command()
@db_option
@click.option(
    "--run",
    "runs",
    multiple=True,
    metavar="RUN",
    help="Only the run of this number or name, whether it needs it or not.",
)
def refresh(db: Path, runs: tuple[str, ...]) -> None:
    """Bring the views and their summaries up to date.

    Loading does it by itself. It is needed after an upgrade of selfrepair, and after changing rows by hand (--run).
    """
    from selfrepair.queries.marts.install import bring_up_to_date
    from selfrepair.warehouse.database.connection import open_writer
    from selfrepair.warehouse.errors import SelfRepairError, check_there
    from selfrepair.warehouse.load.names import number_of

    check_there(db)
    with open_writer(db, on_wait=to_stderr) as con:  # upgrades the file
        known = [run_id for (run_id,) in con.execute("SELECT DISTINCT run_id FROM units ORDER BY run_id").fetchall()]
        run_ids = [number_of(con, run, db) for run in runs]
    for run_id in run_ids:
        if run_id not in known:
            loaded = ", ".join(map(str, known)) or "none"
            raise SelfRepairError(f"run {run_id} has no rows in {db}; runs that have: {loaded}. See: selfrepair runs")
    done = bring_up_to_date(
        db, 60.0, to_stderr, run_ids, lambda run_id, s: click.echo(f"run {run_id}: summarised in {s:.1f} s")
    )
    if not done:
        click.echo(f"{db}: the summaries of all runs are up to date")
