"""A planned run into a warehouse, whole: measured where units are missing, loaded, and judged by its cross-check."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from selfrepair.ingest.conventions import head_label
from selfrepair.ingest.request.selection import Shard
from selfrepair.ingest.runs.earlier import as_begun
from selfrepair.ingest.runs.plan import RunPlan
from selfrepair.ingest.runs.runner import Progress, measure_run
from selfrepair.warehouse.database.connection import open_reader, open_writer
from selfrepair.warehouse.errors import SelfRepairError, with_dtype
from selfrepair.warehouse.load.loader import call_entry_points, load
from selfrepair.warehouse.load.registry import run_id_of
from selfrepair.warehouse.parts.records import ModelRecord

LOAD_WAIT_S = 600.0
"""How long the load waits for another process that has the warehouse open."""


@dataclass(frozen=True)
class StoredRun:
    """A run in a warehouse: its row of `runs`, and how many units this call measured. Errors are in logits."""

    run_id: int
    status: str
    identity_error_max: float
    crosscheck_error_max: float
    crosscheck_rows: int
    units_measured: int


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
        _load(plan, db, parts, progress, summaries)  # what was finished before the error is not lost
        raise
    if not _load(plan, db, parts, progress, summaries) and summaries:
        call_entry_points(db, LOAD_WAIT_S, progress.note)  # an earlier call may have been stopped before them
    return _check_stored(plan, db, outcome.measured)


def _load(plan: RunPlan, db: Path, parts: Path, progress: Progress, summaries: bool) -> bool:
    """Load what there is of the run; False where there is nothing."""
    key = plan.record.run_key
    if not (parts / key).exists():
        return False
    load(db, parts, run_key=key, wait_s=LOAD_WAIT_S, on_wait=progress.note, after_load=summaries)
    return True


def _check_stored(plan: RunPlan, db: Path, units_measured: int) -> StoredRun:
    with open_reader(db, wait_s=LOAD_WAIT_S) as connection:
        run_id = run_id_of(connection, plan.record.run_key)
        assert run_id is not None, "the load registered the run"
        found = connection.execute(
            "SELECT status, identity_error_max, crosscheck_error_max, crosscheck_rows FROM runs WHERE run_id = $run_id",
            {"run_id": run_id},
        ).fetchone()
        worst = connection.execute(
            """
            SELECT prompt_id, layer, head, ablation, error_max FROM crosschecks
            WHERE run_id = $run_id ORDER BY error_max DESC LIMIT 1
            """,
            {"run_id": run_id},
        ).fetchone()
    assert found is not None
    status, identity, difference, n_rows = found
    run = StoredRun(run_id, status, identity, difference, n_rows, units_measured)
    if run.status == "failed" and worst is not None:
        prompt, layer, head, ablation, error = worst
        raise SelfRepairError(
            f"run {run_id} is marked failed: {ablation} ablation of {head_label(layer, head)} on prompt {prompt} differs by "
            f"{error:.2g} logits from the same measurement by plain forwards with hooks "
            f"({plan.settings.precision.crosscheck:g} allowed). Its rows are kept out of the summaries. Try "
            f"{with_dtype('float64')}; if that fails too, please report the model."
        )
    return run


def has_namesake(db: Path, model: ModelRecord) -> bool:
    """Whether `db` holds a model of the same name, revision and checkpoint, and with other weights; where it cannot be read
    now, it is not waited for.
    """
    if not db.exists():
        return False
    with contextlib.suppress(SelfRepairError), open_reader(db, wait_s=0) as con:
        found = con.execute(
            "SELECT 1 FROM models WHERE name = $name AND revision IS NOT DISTINCT FROM $revision "
            "AND checkpoint IS NOT DISTINCT FROM $checkpoint AND weights_sha256 <> $weights LIMIT 1",
            {
                "name": model.name,
                "revision": model.revision,
                "checkpoint": model.checkpoint,
                "weights": model.weights_sha256,
            },
        ).fetchone()
        return found is not None
    return False
