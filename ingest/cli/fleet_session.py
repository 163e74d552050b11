"""One `selfrepair ingest --devices` or `--ray`: workers measure the run, and the outcome is printed. Without torch."""

import contextlib
import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from selfrepair.ingest.cli.progress import TerminalProgress
from selfrepair.ingest.cli.report import interrupted_message, print_outcome, warn_of_namesake
from selfrepair.ingest.fleet.driver import Fleet, Place
from selfrepair.ingest.fleet.processes import Machine
from selfrepair.ingest.models.hub.revisions import check_series, parse_checkpoints
from selfrepair.ingest.request.devices import WorkerDevice
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.warehouse.database.connection import check_folder
from selfrepair.warehouse.database.lake.address import parts_beside
from selfrepair.warehouse.parts.listing import DELIVERIES


def ingest(
    request: IngestRequest, devices: Sequence[WorkerDevice], *, db: Path, parts: Path, bucket: str | None = None
) -> int:
    """Measure what is requested on these devices or on a cluster, a series of checkpoints one after the other; returns the last
    run's number. In a `bucket`, nodes leave what this machine then keeps in `parts`.

    Raises SelfRepairError as `session.ingest` does, and where there is no cluster.
    """
    check_folder(db)
    steps = parse_checkpoints(request.checkpoint)
    check_series(request.model, steps)
    series = [replace(request, checkpoint=None if step is None else str(step)) for step in steps]
    with contextlib.ExitStack() as entered:
        place: Place
        if request.ray is None:
            place = Machine(devices)
        else:
            os.environ["RAY_ENABLE_AUTO_CONNECT"] = (
                "0"  # read at the import: who still asks after the end starts no cluster
            )
            import ray  # noqa: F401  # what is missing is told before anything else

            from selfrepair.ingest.fleet.mailbox import Mailbox, place_of
            from selfrepair.ingest.fleet.ray_cluster import RayCluster

            mailbox = Mailbox(place_of(bucket, db) if bucket else str(parts.absolute() / DELIVERIES))
            place = entered.enter_context(RayCluster(request.ray, request.ray_cpus, mailbox))
        for one in series:
            run_id = _ingest_one(one, place, db, parts, bucket, is_last=one is series[-1])
    return run_id


def _ingest_one(
    request: IngestRequest, place: Place, db: Path, parts: Path, bucket: str | None, *, is_last: bool
) -> int:
    recorded = None if parts == parts_beside(db) else parts
    with TerminalProgress() as progress:
        fleet = Fleet(
            request,
            place,
            db,
            parts,
            parts_to_record=recorded,
            bucket=bucket,
            progress=progress,
            on_planned=lambda record: warn_of_namesake(request, record.model, db),
        )
        try:
            run = fleet.store()
        except KeyboardInterrupt:
            if fleet.planned is None:
                raise
            prompts_of = dict(enumerate(fleet.planned.prompts))
            command = _whole_command(request, db, recorded, bucket)
            key = fleet.planned.record.run_key
            raise KeyboardInterrupt(interrupted_message(key, prompts_of, parts, db, command)) from None
    assert fleet.planned is not None
    print_outcome(fleet.planned.record, db, run, is_last=is_last)
    return run.run_id


def _whole_command(request: IngestRequest, db: Path, parts: Path | None, bucket: str | None) -> str:
    """The command as it was typed, with those who measure."""
    return shlex.join(
        [
            *shlex.split(request.command(parts)),
            *request.left_out(),
            *(["--parts", bucket] if bucket else []),
            *["--db", str(db)],
        ]
    )
