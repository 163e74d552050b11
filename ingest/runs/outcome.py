"""What came of a run: its parts are loaded into a warehouse, and its cross-check is judged there. Without torch."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from selfrepair.ingest.conventions import head_label
from selfrepair.warehouse.database.connection import open_reader
from selfrepair.warehouse.errors import SelfRepairError, with_dtype
from selfrepair.warehouse.load.loader import call_entry_points, load
from selfrepair.warehouse.load.registry import run_id_of
from selfrepair.warehouse.parts.records import ModelRecord, RunRecord

LOAD_WAIT_S = 600.0
"""How long the load waits for another process that has the warehouse open."""

Note = Callable[[str], None]
"""Is told a message on a line of its own."""


@dataclass(frozen=True)
class StoredRun:
    """A run in a warehouse: its row of `runs`, and how many units this call measured. Errors are in logits."""

    run_id: int
    status: str
    identity_error_max: float
    crosscheck_error_max: float
    crosscheck_rows: int
    run_name: str | None
    units_measured: int


def load_measured(
    run_key: str, db: Path, parts: Path, note: Note, *, summaries: bool, wait_s: float = LOAD_WAIT_S
) -> bool:
    """Load what there is of the run; False where there is nothing."""
    if not (parts / run_key).exists():
        return False
    load(db, parts, run_key=run_key, wait_s=wait_s, on_wait=note, after_load=summaries)
    return True


def finish_run(
    record: RunRecord, db: Path, parts: Path, units_measured: int, note: Note, *, summaries: bool = True
) -> StoredRun:
    """Load a measured run and say what came of it. Raises SelfRepairError for one whose cross-check failed."""
    if not load_measured(record.run_key, db, parts, note, summaries=summaries) and summaries:
        call_entry_points(db, LOAD_WAIT_S, note)  # an earlier call may have been stopped before them
    return _check_stored(record, db, units_measured)


def _check_stored(record: RunRecord, db: Path, units_measured: int) -> StoredRun:
    with open_reader(db, wait_s=LOAD_WAIT_S) as connection:
        run_id = run_id_of(connection, record.run_key)
        assert run_id is not None, "the load registered the run"
        found = connection.execute(
            "SELECT status, identity_error_max, crosscheck_error_max, crosscheck_rows, run_name FROM runs "
            "WHERE run_id = $run_id",
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
    status, identity, difference, n_rows, run_name = found
    run = StoredRun(run_id, status, identity, difference, n_rows, run_name, units_measured)
    if run.status == "failed" and worst is not None:
        prompt, layer, head, ablation, error = worst
        raise SelfRepairError(
            f"run {run_id} is marked failed: {ablation} ablation of {head_label(layer, head)} on prompt {prompt} differs by "
            f"{error:.2g} logits from the same measurement by plain forwards with hooks "
            f"({record.crosscheck_tolerance:g} allowed). Its rows are kept out of the summaries. Try "
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
