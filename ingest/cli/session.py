"""One `selfrepair ingest`: plan the run, measure it, load its parts, and print the outcome."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from selfrepair.ingest.cli.dry_run import print_estimate
from selfrepair.ingest.cli.progress import TerminalProgress
from selfrepair.ingest.cli.report import interrupted_message, print_outcome, warn_of_namesake
from selfrepair.ingest.cli.shards import shard_outcome
from selfrepair.ingest.engine.memory import free_memory, keep_freed_memory
from selfrepair.ingest.models.hub.revisions import check_series, parse_checkpoints
from selfrepair.ingest.request.devices import WorkerDevice
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.request.scheduler import Placement, placement
from selfrepair.ingest.request.selection import Shard, parse_batch_size
from selfrepair.ingest.runs.earlier import as_begun
from selfrepair.ingest.runs.plan import RunPlan
from selfrepair.ingest.runs.requested import make_plan
from selfrepair.ingest.runs.runner import measure_run
from selfrepair.ingest.runs.stored_run import store_run
from selfrepair.warehouse.database.connection import check_folder
from selfrepair.warehouse.database.lake.address import parts_beside
from selfrepair.warehouse.errors import SelfRepairError


def ingest(
    request: IngestRequest,
    *,
    db: Path,
    parts: Path,
    dry_run: bool,
    began_at: float,
    devices: Sequence[WorkerDevice] = (),
    n_workers: int = 1,
) -> int | None:
    """Measure what is requested; returns the run's number in the warehouse, or None for a dry run or a shard.

    A series of checkpoints is one run after the other, and the number is the last one's; a dry run probes the first.
    `began_at` is the `time.perf_counter` of the command's start; `devices` are those that would share what a dry run is of,
    or `n_workers` such as this one.
    Raises SelfRepairError for whatever the user can mend, and for a run whose cross-check failed.
    """
    check_folder(db)  # before the model is loaded
    keep_freed_memory()
    placed = placement(request.shard, os.environ)
    batch_size = parse_batch_size(request.batch_size)
    steps = parse_checkpoints(request.checkpoint)
    check_series(request.model, steps)
    series = [replace(request, checkpoint=None if step is None else str(step)) for step in steps]
    if dry_run:
        plan = make_plan(
            series[0], n_workers=max(n_workers, len(devices) or placed.shard.count), local_rank=placed.local_rank
        )
        n_gpus = sum(device.device != "cpu" for device in devices)  # processes on the CPU share its cores
        print_estimate(
            _print_notes(plan),
            batch_size,
            began_at,
            len(series),
            n_workers=max(n_workers, n_gpus, placed.shard.count),
            n_processes=len(devices) or 1,
            shard=placed.shard,
        )
        return None
    run_id = None
    for one in series:
        run_id = _ingest_one(one, db, parts, placed, batch_size, is_last=one is series[-1])
        free_memory()  # modules of a model may refer to each other
    return run_id


def _ingest_one(
    request: IngestRequest, db: Path, parts: Path, placed: Placement, batch_size: int | None, *, is_last: bool
) -> int | None:
    shard, recorded = placed.shard, None if parts == parts_beside(db) else parts
    plan = _print_notes(make_plan(request, recorded, shard.count, local_rank=placed.local_rank))
    warn_of_namesake(request, plan.record.model, db)
    try:
        with TerminalProgress() as progress:
            if request.shard is None:
                run = store_run(plan, db, parts, batch_size=batch_size, progress=progress)
            else:
                outcome = measure_run(plan, parts, db, shard=shard, batch_size=batch_size, progress=progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_interrupted_message(plan, parts, db, shard)) from None
    if request.shard is None:
        print_outcome(plan.record, db, run, is_last=is_last)
        return run.run_id
    click.echo(
        shard_outcome(
            shard,
            outcome.measured,
            outcome.resumed,
            run_key=outcome.record.run_key,
            n_units=outcome.record.n_units,
            parts=parts,
            db=db,
        )
    )
    return None


def _print_notes(plan: RunPlan) -> RunPlan:
    """The plan, whose notes are printed."""
    for note in (*plan.model.notes, *plan.prompts.notes):
        click.echo(note, err=True)
    return plan


def _interrupted_message(plan: RunPlan, parts: Path, db: Path, shard: Shard) -> str:
    with contextlib.suppress(SelfRepairError):  # another program has the warehouse open: its units go uncounted
        plan = as_begun(plan, parts, db, lambda text: None, wait_s=0)
    mine = {unit.number: unit.count for unit in plan.units if shard.has(unit.number)}
    return interrupted_message(plan.record.run_key, mine, parts, db)
