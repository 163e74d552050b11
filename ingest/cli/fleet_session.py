"""One `selfrepair ingest --devices`: worker processes measure the run, and the outcome is printed. Without torch."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from selfrepair.ingest.cli.progress import TerminalProgress
from selfrepair.ingest.cli.report import interrupted_message, print_outcome, warn_of_namesake
from selfrepair.ingest.fleet.driver import Fleet
from selfrepair.ingest.models.hub.revisions import check_series, parse_checkpoints
from selfrepair.ingest.request.devices import WorkerDevice
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.warehouse.database.connection import check_folder


def ingest(request: IngestRequest, devices: Sequence[WorkerDevice], *, db: Path, parts: Path) -> int:
    """Measure what is requested on these devices, a series of checkpoints one after the other; returns the last run's number.

    Raises SelfRepairError as `session.ingest` does.
    """
    check_folder(db)
    steps = parse_checkpoints(request.checkpoint)
    check_series(request.model, steps)
    series = [replace(request, checkpoint=None if step is None else str(step)) for step in steps]
    for one in series:
        run_id = _ingest_one(one, devices, db, parts, is_last=one is series[-1])
    return run_id


def _ingest_one(
    request: IngestRequest, devices: Sequence[WorkerDevice], db: Path, parts: Path, *, is_last: bool
) -> int:
    with TerminalProgress() as progress:
        fleet = Fleet(
            request,
            devices,
            db,
            parts,
            parts_to_record=None if parts == Path(f"{db}.parts") else parts,
            progress=progress,
            on_planned=lambda record: warn_of_namesake(request, record.model, db),
        )
        try:
            run = fleet.store()
        except KeyboardInterrupt:
            if fleet.planned is None:
                raise
            prompts_of = dict(enumerate(fleet.planned.prompts))
            raise KeyboardInterrupt(interrupted_message(fleet.planned.record.run_key, prompts_of, parts, db)) from None
    assert fleet.planned is not None
    print_outcome(fleet.planned.record, db, run, is_last=is_last)
    return run.run_id
