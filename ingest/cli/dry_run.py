"""What `selfrepair ingest --dry-run` prints."""

import math

import click

from selfrepair.ingest.engine.memory import available_mb
from selfrepair.ingest.request.selection import Shard
from selfrepair.ingest.runs.estimate import FLOOR_BYTES, Estimate, estimate
from selfrepair.ingest.runs.estimated_memory import GPUMemory
from selfrepair.ingest.runs.plan import RunPlan


def print_estimate(
    plan: RunPlan,
    batch_size: int | None,
    began_at: float,
    n_runs: int,
    n_workers: int = 1,
    n_processes: int = 1,
    shard: Shard | None = None,
) -> None:
    """Print what the run takes on this device, and on `n_workers` like it, and what a series of `n_runs` like it takes; of a
    `shard`, how many units of the run are its. So many processes share the memory of this machine.
    """
    cost = estimate(plan, batch_size, began_at)
    model, device = plan.record.model, plan.record.device
    click.echo(f"{model.name}: {model.n_layers} layers x {model.n_heads} heads on {device}, {plan.record.dtype}")
    stages = ", ".join(f"{stage} {_duration(seconds)}" for stage, seconds in cost.seconds.items())
    for label, value in (
        ("rows", f"{cost.rows:,}"),
        ("bytes", f"about {cost.bytes:,} in a new warehouse"),
        ("forwards", f"{cost.forwards:,} ablated sequences, {cost.batch_size} in one forward"),
        ("time", f"about {_duration(cost.seconds_with(1))}: {stages}"),
        *_of_workers(cost, n_workers),
        ("memory", _memory(cost.memory_mb, n_processes)),
        *((gpu.device, _of_gpu(gpu)) for gpu in cost.gpus),
    ):
        click.echo(f"  {label:<9} {value}")
    short = [gpu.device for gpu in cost.gpus if gpu.peak_mb > gpu.room_mb]
    if short:
        click.echo(f"{' and '.join(short)} may run out of memory: name more devices, or a smaller --dtype.")
    most = available_mb()
    if most is not None and n_processes * cost.memory_mb > most:
        click.echo(f"This machine has {most:,.0f} MB of RAM to spare, which is less: name fewer processes or prompts.")
    if n_runs > 1:
        all_bytes = FLOOR_BYTES + n_runs * (cost.bytes - FLOOR_BYTES)
        click.echo(
            f"All {n_runs} checkpoints: {n_runs * cost.rows:,} rows, about {all_bytes:,} bytes and "
            f"{_duration(n_runs * cost.seconds_with(n_workers))}, if the others load as fast as the first."
        )
    if shard is not None and shard.count > 1:
        n_units = len(plan.units)
        mine = sum(shard.has(unit.number) for unit in plan.units)
        click.echo(
            f"These numbers are of the whole run on one device; shard {shard} has {mine} of its {n_units} units."
        )
    if cost.crosscheck_failure is not None:
        click.echo(f"After measuring, {cost.crosscheck_failure}")
    click.echo("Nothing was written. Leave out --dry-run to measure.")


def _of_workers(cost: Estimate, n_workers: int) -> list[tuple[str, str]]:
    """The time that so many workers take."""
    if n_workers == 1:
        return []
    each = math.ceil(cost.n_units / n_workers)
    time = f"about {_duration(cost.seconds_with(n_workers))}: of {cost.n_units} units, each measures {each} at most"
    return [(f"{n_workers} workers", f"{time}; until they are loaded, part files take as much again")]


def _memory(own_mb: float, n_processes: int) -> str:
    whole = f", {n_processes * own_mb:,.0f} MB in {n_processes} processes" if n_processes > 1 else ""
    return f"about {own_mb:,.0f} MB of RAM{whole}"


def _of_gpu(gpu: GPUMemory) -> str:
    return f"{gpu.layers}: about {gpu.peak_mb:,.0f} MB, {gpu.weights_mb:,.0f} MB of it weights; it has {gpu.room_mb:,.0f} MB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
