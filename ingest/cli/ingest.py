"""`selfrepair ingest`. Its help works without torch: what needs it is imported when the command runs."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.request.options import add_options
from selfrepair.warehouse.cli.options import db_option
from selfrepair.warehouse.database.lake.address import parts_beside


@click.command(short_help="Measure a model and keep every row.")
@add_options(IngestRequest)
@click.option("--parts", help="Folder for part files; with --ray also a bucket, s3://...  [default: <db>.parts]")
@click.option(
    "--dry-run", is_flag=True, help="Print the estimated rows, disk space, time and memory, and write nothing."
)
@click.option(
    "--workers", type=click.IntRange(1), help="With --dry-run: also the time on so many devices like this one."
)
@db_option
def ingest(parts: str | None, dry_run: bool, workers: int | None, db: Path, **options: Any) -> int | None:
    """Measure self-repair of a model on prompts: every token, every head, every ablation, into the warehouse.

    The same command again resumes where it stopped; finished units are never measured or stored twice. Part files are
    kept next to the warehouse until they are loaded, so that it is open for writing only while they load.

    \b
    selfrepair ingest --model EleutherAI/pythia-160m --dataset NeelNanda/pile-10k --prompts 1000 --device cuda
    selfrepair ingest --model ./my-model --dataset texts.jsonl --ablation mean --layers 8-11
    selfrepair ingest --model EleutherAI/pythia-160m --checkpoint 1000,10000,143000
    """  # noqa: D301
    began_at = time.perf_counter()  # before the import of torch, which is part of the run's time
    from selfrepair.ingest.cli.shards import print_placement
    from selfrepair.ingest.request.cluster import check_parts
    from selfrepair.ingest.request.devices import check_device, choose_devices
    from selfrepair.ingest.request.model_shape import check_fits_model
    from selfrepair.ingest.request.scheduler import placement
    from selfrepair.ingest.request.validation import check_request

    if workers is not None and not dry_run:
        raise click.UsageError(
            "--workers belongs to --dry-run. To share a run among workers, use --devices or --shard auto."
        )
    request = IngestRequest(**options)
    check_request(request)
    check_parts(parts or "", request)
    bucket = parts if parts and "://" in parts else None
    folder = Path(parts) if parts and not bucket else parts_beside(db)
    print_placement(placement(request.shard, os.environ), folder)
    check_device(request.device, request.dtype)
    devices = [] if request.devices is None else choose_devices(request.devices, request.dtype)
    if request.devices == "all" and devices[0].device == "cpu":
        click.echo("no GPU was found: one process measures on the CPU (--devices cpu:2 starts two)", err=True)
    check_fits_model(request)
    if (devices or request.ray) and not dry_run:
        from selfrepair.ingest.cli import fleet_session

        return fleet_session.ingest(request, devices, db=db, parts=folder, bucket=bucket)
    from selfrepair.ingest.cli import session  # and torch, seconds later

    if devices:
        request = replace(request, device=devices[0].device)
    return session.ingest(
        request, db=db, parts=folder, dry_run=dry_run, began_at=began_at, devices=devices, n_workers=workers or 1
    )
