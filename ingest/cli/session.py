"""One `selfrepair ingest`: plan the run, measure it, load its parts, and print the outcome."""

import contextlib
import os
import shlex
from dataclasses import replace
from pathlib import Path

import click

from selfrepair.ingest.cli.dry_run import print_estimate
from selfrepair.ingest.cli.progress import TerminalProgress
from selfrepair.ingest.engine.memory import free_memory, keep_freed_memory
from selfrepair.ingest.models.hub.revisions import check_series, parse_checkpoints
from selfrepair.ingest.models.loading import load_model
from selfrepair.ingest.request.devices import choose_device, choose_precision
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.request.protocols import resolve_settings
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.request.scheduler import Placement, placement
from selfrepair.ingest.request.selection import (
    Shard,
    parse_ablations,
    parse_batch_size,
    parse_given,
    parse_heads,
    those_with_heads,
    without_given,
)
from selfrepair.ingest.request.validation import open_dataset
from selfrepair.ingest.runs.earlier import as_begun
from selfrepair.ingest.runs.plan import RunPlan, plan_run
from selfrepair.ingest.runs.runner import measure_run
from selfrepair.ingest.runs.stored_run import StoredRun, has_namesake, store_run
from selfrepair.ingest.text.prompts import PromptOptions, build_prompts
from selfrepair.ingest.text.sources import RANDOM, random_rows
from selfrepair.warehouse.database.connection import check_folder
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.loader import loaded_units
from selfrepair.warehouse.parts.folder import PartsFolder


def ingest(request: IngestRequest, *, db: Path, parts: Path, dry_run: bool, began_at: float) -> int | None:
    """Measure what is requested; returns the run's number in the warehouse, or None for a dry run or a shard.

    A series of checkpoints is one run after the other, and the number is the last one's; a dry run probes the first.
    `began_at` is the `time.perf_counter` of the command's start. Raises SelfRepairError for whatever the user can mend, and
    for a run whose cross-check failed.
    """
    check_folder(db)  # before the model is loaded
    keep_freed_memory()
    placed = placement(request.shard, os.environ)
    batch_size = parse_batch_size(request.batch_size)
    steps = parse_checkpoints(request.checkpoint)
    check_series(request.model, steps)
    series = [replace(request, checkpoint=None if step is None else str(step)) for step in steps]
    if dry_run:
        print_estimate(
            _print_notes(make_plan(series[0], n_workers=placed.shard.count, local_rank=placed.local_rank)),
            batch_size,
            began_at,
            n_runs=len(series),
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
    shard = placed.shard
    plan = _print_notes(
        make_plan(request, None if parts == Path(f"{db}.parts") else parts, shard.count, placed.local_rank)
    )
    if request.name is None and Path(request.model).exists() and has_namesake(db, plan.record.model):
        click.echo(
            f"{db} holds another model called {plan.record.model.name}, with other weights. To tell them apart by name, stop "
            f"and add --name, such as --name {shlex.quote(_longer_name(request.model))}.",
            err=True,
        )
    try:
        with TerminalProgress() as progress:
            if request.shard is None:
                run = store_run(plan, db, parts, batch_size=batch_size, progress=progress)
            else:
                outcome = measure_run(plan, parts, db, shard=shard, batch_size=batch_size, progress=progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_interrupted_message(plan, parts, db, shard)) from None
    if request.shard is None:
        _print_outcome(plan, db, run, is_last=is_last)
        return run.run_id
    if outcome.measured + outcome.resumed == 0:
        click.echo(
            f"this run is too small to split into {shard.count} shards: {shard} has nothing to measure, and "
            "earlier shards measure all of it."
        )
        return None
    click.echo(
        f"shard {shard}: {outcome.measured} units measured, {outcome.resumed} measured before. When every shard "
        "is done, gather their parts in one folder and run: "
        f"selfrepair load {shlex.quote(str(parts))} --db {shlex.quote(str(db))}"
    )
    return None


def _longer_name(folder: str) -> str:
    """The last two names of a folder's path."""
    return "-".join(Path(folder).resolve().parts[-2:])


def _print_notes(plan: RunPlan) -> RunPlan:
    """The plan, whose notes are printed."""
    for note in (*plan.model.notes, *plan.prompts.notes):
        click.echo(note, err=True)
    return plan


def _interrupted_message(plan: RunPlan, parts: Path, db: Path, shard: Shard) -> str:
    """How far an interrupted run is, and how to continue."""
    mine = [unit for unit in plan.units if shard.has(unit.number)]
    with contextlib.suppress(SelfRepairError):  # another program has the warehouse open: its units go uncounted
        plan = as_begun(plan, parts, db, lambda text: None, wait_s=0)
    ready = PartsFolder(parts, plan.record.run_key).finished_units()
    with contextlib.suppress(SelfRepairError):
        ready |= loaded_units(db, plan.record.run_key, wait_s=0)
    done = [unit for unit in mine if unit.number in ready]
    return (
        f"Interrupted. {len(done):,} of {len(mine):,} units are finished and safe ({sum(unit.count for unit in done):,} of "
        f"{sum(unit.count for unit in mine):,} prompts; part files in {parts}); the same command continues from there."
    )


def make_plan(
    request: IngestRequest, parts: Path | None = None, n_workers: int = 1, local_rank: int | None = None
) -> RunPlan:
    """Load the model and the prompts of a request and plan the run for so many workers; `parts` where that is not the usual
    folder, `local_rank` the number of this process on this machine, where its launcher gave it one.
    """
    settings = resolve_settings(request)
    ablations = parse_ablations(settings.ablation)
    device = choose_device(request.device, local_rank)
    precision = choose_precision(request.dtype, device)
    source = open_dataset(request).with_first_row_read()  # before the model, which may take long to download
    model = load_model(
        request.model,
        precision=precision,
        device=device,
        revision=request.revision,
        checkpoint=parse_checkpoints(request.checkpoint)[0],
        trust_remote_code=request.trust_remote_code,
        called=request.name,
    )
    n_layers, n_heads = model.adapter.n_layers, model.adapter.n_heads
    chosen = parse_heads(request.layers, request.heads, n_layers, n_heads)
    heads = those_with_heads(chosen, request.heads, request.given, model.adapter.heads)
    given = parse_given(request.given, ablations, n_layers, n_heads)
    mechanisms, notes = request.chosen_mechanisms().available(model.adapter)
    model = replace(model, notes=(*model.notes, *notes))
    if source.name == RANDOM:
        rows = random_rows(model.vocabulary, seq_len=settings.seq_len, seed=request.seed)
        source = replace(source, documents=rows)
    options = PromptOptions(
        n_prompts=request.n_prompts,
        seq_len=settings.seq_len,
        packing=settings.packing,
        seed=request.seed,
        resample="resample" in ablations,
    )
    run_settings = RunSettings(
        ablations=ablations,
        heads=without_given(heads, given),
        given=given,
        mechanisms=mechanisms,
        seed=request.seed,
        precision=precision,
    )
    prompts = build_prompts(source, model.vocabulary, options)
    return plan_run(
        model,
        source,
        prompts,
        run_settings,
        command=request.command(parts),
        n_crosschecks=request.crosscheck,
        n_workers=n_workers,
    )


def _print_outcome(plan: RunPlan, db: Path, run: StoredRun, *, is_last: bool) -> None:
    """Print what this command measured; with the facts of the run, unless it is the last, whose facts the report has."""
    n_units = run.units_measured
    done = f"{n_units} {'unit' if n_units == 1 else 'units'} measured now" if n_units else "nothing was left to measure"
    model = plan.record.model
    name = model.name if model.checkpoint is None else f"{model.name}, step {model.checkpoint}"
    facts = (
        f"; {plan.record.n_measurements:,} rows in {db}, identity within {run.identity_error_max:.1e}, "
        f"{run.crosscheck_rows:,} rows cross-checked within {run.crosscheck_error_max:.1e} logits"
    )
    click.echo(f"run {run.run_id} of {name} is {run.status}: {done}{'' if is_last else facts}")
