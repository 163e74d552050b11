"""What `selfrepair runs` says of runs that are not complete: whether they still run, why they do not, and how to go on."""

from collections.abc import Iterator
from pathlib import Path

from selfrepair.warehouse.cli.terminal import cell_text
from selfrepair.warehouse.database.connection import open_reader
from selfrepair.warehouse.parts.activity import activity_of_run
from selfrepair.warehouse.parts.command import command_to_resume, warning_of_code
from selfrepair.warehouse.parts.status import why_failed
from selfrepair.warehouse.parts.workers import INCOMPLETE, RUNNING

_NOT_COMPLETE = """
SELECT CAST(run_id AS INTEGER), run_key, status, command, crosscheck_error_max, crosscheck_tolerance
FROM runs
WHERE status <> 'complete'
ORDER BY run_id
"""


def status_now(parts_root: Path, status: str, run_key: str) -> str:
    """The status of a run in a warehouse; of an incomplete one, `running` or `stopped` where that can be known."""
    return activity_of_run(parts_root, run_key).status if status == INCOMPLETE else status


def sentences(db: Path, parts_root: Path) -> Iterator[str]:
    """For each run that is neither complete nor running: why, and the command to go on with."""
    with open_reader(db) as con:
        found = con.execute(_NOT_COMPLETE).fetchall()
    for run_id, run_key, status, command, error, allowed in found:
        if status == INCOMPLETE:
            now = activity_of_run(parts_root, run_key)
            if now.status != RUNNING:
                again = command_to_resume(command, db)
                why = f"run {run_id} is {now.status}: {cell_text(now.reason)}."
                warning = f" {warning_of_code(again)}" if again else ""
                yield f"{why}{warning.rstrip()} To continue it: {again or 'the ingest command or call that began it'}"
        else:
            yield why_failed(run_id, error, allowed, db)
