"""A planned run into a warehouse, whole: measured where units are missing, loaded, and judged by its cross-check."""

from pathlib import Path

from selfrepair.ingest.request.selection import Shard
from selfrepair.ingest.runs.earlier import as_begun
from selfrepair.ingest.runs.outcome import StoredRun, finish_run, load_measured
from selfrepair.ingest.runs.plan import RunPlan
from selfrepair.ingest.runs.runner import Progress, measure_run
from selfrepair.warehouse.database.connection import open_writer
from selfrepair.warehouse.errors import SelfRepairError


def store_run(
    plan: RunPlan, db: Path, parts: Path, *, batch_size: int | None, progress: Progress, summaries: bool = True
) -> StoredRun:
    """Measure what is missing of the run, load it into `db` and say what came of it; resumes where it stopped.

    `summaries` False leaves the views and their summaries out of the file. Raises SelfRepairError as `measure_run` does,
    after loading the units that were finished before, and for a run whose cross-check failed.
    """
    with open_writer(db):  # an unwritable warehouse fails before hours of measuring, not after
        pass
    plan = as_begun(plan, parts, db, progress.note)
    try:
        outcome = measure_run(plan, parts, db, shard=Shard(1, 1), batch_size=batch_size, progress=progress)
    except SelfRepairError:
        load_measured(
            plan.record.run_key, db, parts, progress.note, summaries=summaries
        )  # what was finished before is not lost
        raise
    return finish_run(plan.record, db, parts, outcome.measured, progress.note, summaries=summaries)
