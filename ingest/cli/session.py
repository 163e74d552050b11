"""One `selfrepair ingest`: read the request, load the model and the text, measure, load the parts, say what came of it."""

import contextlib
import gc
from dataclasses import replace
from pathlib import Path

import click
import torch

from selfrepair.ingest.cli.progress import TerminalProgress
from selfrepair.ingest.models.hub.revisions import check_series, parse_checkpoints
from selfrepair.ingest.models.loading import load_model
from selfrepair.ingest.request.devices import choose_device, choose_precision
from selfrepair.ingest.request.ingest_request import Request
from selfrepair.ingest.request.selection import (
    Shard,
    parse_ablations,
    parse_batch_size,
    parse_given,
    parse_heads,
    parse_mechanisms,
    parse_shard,
    without_given,
)
from selfrepair.ingest.runs.estimate import FLOOR_BYTES, estimate
from selfrepair.ingest.runs.plan import RunPlan, plan_run
from selfrepair.ingest.runs.runner import measure_run
from selfrepair.ingest.runs.stored_run import StoredRun, store_run
from selfrepair.ingest.text.prompts import build_prompts
from selfrepair.ingest.text.random_tokens import random_rows
from selfrepair.ingest.text.sources import RANDOM
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.loader import loaded_units
from selfrepair.warehouse.parts.folder import PartsFolder


def ingest(request: Request, *, db: Path, parts: Path, dry_run: bool, began_at: float) -> int | None:
    """Carry the request out; returns the run's number in the warehouse (None for a dry run or a shard).

    Of a series of checkpoints there is one run after the other, and the number is the last one's; a dry run probes the first.
    `began_at` is the `time.perf_counter` of the command's start. Raises SelfRepairError for whatever the user can mend, and
    for a run whose cross-check failed.
    """
    shard = parse_shard(request.shard)
    batch_size = parse_batch_size(request.batch_size)
    steps = parse_checkpoints(request.checkpoint)
    check_series(request.model, steps)
    series = [replace(request, checkpoint=None if step is None else str(step)) for step in steps]
    if dry_run:
        _print_estimate(_noted(make_plan(series[0])), batch_size, began_at, n_runs=len(series))
        return None
    run_id = None
    for one in series:
        run_id = _ingest_one(one, db, parts, shard, batch_size)
        _free_memory()
    return run_id


def _free_memory() -> None:
    """Give back what a measured model took: the cross-check's hooks and modules refer to each other."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _ingest_one(request: Request, db: Path, parts: Path, shard: Shard, batch_size: int | None) -> int | None:
    plan = _noted(make_plan(request))
    try:
        with TerminalProgress() as progress:
            if request.shard is None:
                run = store_run(plan, db, parts, batch_size=batch_size, progress=progress)
            else:
                outcome = measure_run(plan, parts, db, shard=shard, batch_size=batch_size, progress=progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_how_far(plan, parts, db, shard)) from None
    if request.shard is None:
        _tell(plan, db, run)
        return run.run_id
    if outcome.measured + outcome.resumed == 0:
        click.echo(f"shard {request.shard} has nothing to do: the run has only {len(plan.units)} units.")
        return None
    click.echo(
        f"shard {request.shard}: {outcome.measured} units measured, {outcome.resumed} were there. When every shard is "
        f"done, gather their parts in one folder and run: selfrepair load {parts} --db {db}"
    )
    return None


def _noted(plan: RunPlan) -> RunPlan:
    """The plan, of whose text it was said what is left out."""
    for note in plan.prompts.notes:
        click.echo(note, err=True)
    return plan


def _how_far(plan: RunPlan, parts: Path, db: Path, shard: Shard) -> str:
    """What an interrupted run has got, and how to go on."""
    mine = [unit for unit in plan.units if shard.has(unit.number)]
    ready = PartsFolder(parts, plan.record.run_key).finished_units()
    with contextlib.suppress(SelfRepairError):  # another program has the warehouse open: its units go uncounted
        ready |= loaded_units(db, plan.record.run_key, wait_s=0)
    done = [unit for unit in mine if unit.number in ready]
    return (
        f"Interrupted. {len(done):,} of {len(mine):,} units are finished and safe ({sum(unit.count for unit in done):,} of "
        f"{sum(unit.count for unit in mine):,} prompts; part files in {parts}); the same command goes on from there."
    )


def make_plan(request: Request) -> RunPlan:
    """Load the model and the prompts of a request and plan the run."""
    settings = request.settled()
    ablations = parse_ablations(settings.ablation)
    device = choose_device(request.device)
    precision = choose_precision(request.dtype, device)
    source = request.source().begun()  # before the model, which may take long to come
    model = load_model(
        request.model,
        precision=precision,
        device=device,
        revision=request.revision,
        checkpoint=parse_checkpoints(request.checkpoint)[0],
        trust_remote_code=request.trust_remote_code,
    )
    heads = parse_heads(request.layers, request.heads, model.atlas.n_layers, model.atlas.n_heads)
    given = parse_given(request.given, ablations, model.atlas.n_layers, model.atlas.n_heads)
    if source.name == RANDOM:
        rows = random_rows(
            model.tokenizer,
            seq_len=settings.seq_len,
            d_vocab=model.atlas.d_vocab,
            context=model.atlas.context,
            seed=request.seed,
        )
        source = replace(source, documents=rows)
    prompts = build_prompts(
        source,
        model.tokenizer,
        n_prompts=request.n_prompts,
        seq_len=settings.seq_len,
        d_vocab=model.atlas.d_vocab,
        context=model.atlas.context,
        seed=request.seed,
        resample="resample" in ablations,
        packing=settings.packing,
    )
    return plan_run(
        model,
        source,
        prompts,
        ablations=ablations,
        heads=without_given(heads, given),
        seed=request.seed,
        precision=precision,
        mechanisms=parse_mechanisms(
            request.neurons,
            edges=request.edges,
            logit_lens=request.logit_lens,
            logprobs=request.logprobs or request.mechanisms,
            self_repression=request.self_repression or request.mechanisms,
        ),
        given=given,
    )


def _tell(plan: RunPlan, db: Path, run: StoredRun) -> None:
    n_units = run.units_measured
    done = f"{n_units} {'unit' if n_units == 1 else 'units'} measured now" if n_units else "nothing was left to measure"
    model = plan.record.model
    name = model.name if model.checkpoint is None else f"{model.name}, step {model.checkpoint}"
    checks = (
        f"identity within {run.identity_error_max:.1e}, {run.crosscheck_rows:,} rows cross-checked within "
        f"{run.crosscheck_error_max:.1e} logits"
    )
    rows = f"{plan.record.n_measurements:,} rows of {name}"
    click.echo(f"run {run.run_id}: {rows}, {run.status}, in {db}; {done} ({checks})")


def _print_estimate(plan: RunPlan, batch_size: int | None, began_at: float, n_runs: int) -> None:
    """What the run takes, and what a series of `n_runs` like it does."""
    cost = estimate(plan, batch_size, began_at)
    model = plan.record.model
    click.echo(
        f"{model.name}: {model.n_layers} layers x {model.n_heads} heads on {plan.record.device}, {plan.record.dtype}"
    )
    stages = ", ".join(f"{stage} {_duration(seconds)}" for stage, seconds in cost.seconds.items())
    for label, value in (
        ("rows", f"{cost.rows:,}"),
        ("bytes", f"{cost.bytes:,} in a new warehouse, about"),
        ("forwards", f"{cost.forwards:,} ablated sequences, {cost.batch_size} at once"),
        ("time", f"{_duration(sum(cost.seconds.values()))}, about: {stages}"),
        ("memory", _memory(cost.memory_mb, cost.gpu_memory_mb)),
    ):
        click.echo(f"  {label:<9} {value}")
    if n_runs > 1:
        all_bytes = FLOOR_BYTES + n_runs * (cost.bytes - FLOOR_BYTES)
        click.echo(
            f"All {n_runs} checkpoints: {n_runs * cost.rows:,} rows, {all_bytes:,} bytes and "
            f"{_duration(n_runs * sum(cost.seconds.values()))}, about, if the others are loaded as fast as the first."
        )
    if cost.crosscheck_failure is not None:
        click.echo(f"After measuring, {cost.crosscheck_failure}")
    click.echo("Nothing was written. Leave out --dry-run to measure.")


def _memory(own_mb: float, gpu_mb: float | None) -> str:
    on_gpu = "" if gpu_mb is None else f"{gpu_mb:,.0f} MB on the GPU, "
    return f"{on_gpu}{own_mb:,.0f} MB of the machine's own, about"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
