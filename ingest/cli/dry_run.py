"""What `selfrepair ingest --dry-run` prints."""

import click

from selfrepair.ingest.request.selection import Shard
from selfrepair.ingest.runs.estimate import FLOOR_BYTES, estimate
from selfrepair.ingest.runs.plan import RunPlan


def print_estimate(
    plan: RunPlan, batch_size: int | None, began_at: float, n_runs: int, n_devices: int = 1, shard: Shard | None = None
) -> None:
    """Print what the run takes, measured by so many devices like this one, and what a series of `n_runs` like it takes; of a
    `shard`, how many units of the run are its.
    """
    cost = estimate(plan, batch_size, began_at)
    seconds_of = cost.seconds | {"measuring": cost.seconds["measuring"] / n_devices}
    model, device = plan.record.model, plan.record.device
    devices = f"{n_devices} devices such as {device}" if n_devices > 1 else device
    click.echo(f"{model.name}: {model.n_layers} layers x {model.n_heads} heads on {devices}, {plan.record.dtype}")
    stages = ", ".join(f"{stage} {_duration(seconds)}" for stage, seconds in seconds_of.items())
    for label, value in (
        ("rows", f"{cost.rows:,}"),
        ("bytes", f"about {cost.bytes:,} in a new warehouse"),
        ("forwards", f"{cost.forwards:,} ablated sequences, {cost.batch_size} in one forward"),
        ("time", f"about {_duration(sum(seconds_of.values()))}: {stages}"),
        ("memory", _memory(cost.memory_mb, cost.gpu_memory_mb)),
    ):
        click.echo(f"  {label:<9} {value}")
    if n_runs > 1:
        all_bytes = FLOOR_BYTES + n_runs * (cost.bytes - FLOOR_BYTES)
        click.echo(
            f"All {n_runs} checkpoints: {n_runs * cost.rows:,} rows, about {all_bytes:,} bytes and "
            f"{_duration(n_runs * sum(seconds_of.values()))}, if the others load as fast as the first."
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


def _memory(own_mb: float, gpu_mb: float | None) -> str:
    on_gpu = "" if gpu_mb is None else f"{gpu_mb:,.0f} MB on the GPU, "
    return f"about {on_gpu}{own_mb:,.0f} MB of RAM"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
