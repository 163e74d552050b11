"""What `selfrepair ingest --shard` says beside its progress: where the folder is, and what the other shards have to do."""

from pathlib import Path
from shlex import quote

import click

from selfrepair.ingest.request.scheduler import Placement
from selfrepair.ingest.request.selection import Shard
from selfrepair.warehouse.parts.sharing import disk_of_one_machine
from selfrepair.warehouse.parts.status import MEASURED, statuses


def print_placement(placed: Placement, parts: Path) -> None:
    """Print what a share was taken from; and, where several machines may have the others, that they cannot see the folder."""
    if placed.told:
        click.echo(placed.told, err=True)
    kind = disk_of_one_machine(parts) if placed.on_several_machines else None
    if kind is not None:
        click.echo(
            f"Part files go to {parts}, on a disk of this machine alone ({kind}): shards on other machines do not see them. "
            "Name a folder that all share with --parts, or gather the folders in one before the load.",
            err=True,
        )


def shard_outcome(
    shard: Shard, measured: int, resumed: int, *, run_key: str, n_units: int, parts: Path, db: Path
) -> str:
    """What a shard did (`measured` units now, `resumed` before), which others are not known to have begun, and the load."""
    load = f"selfrepair load {quote(str(parts))} --db {quote(str(db))}"
    if measured + resumed == 0:
        return (
            f"this run is too small to split into {shard.count} shards: it has {n_units} units, and {shard} has none of them "
            f"to measure. The others measure all of it; then: {load}"
        )
    found = statuses(parts, db, [run_key])[0]
    did = f"shard {shard}: {measured} {'unit' if measured == 1 else 'units'} measured, {resumed} measured before."
    if any(run.is_whole for run in found):
        return f"{did} All of the run is in {db}. Next: selfrepair runs --db {quote(str(db))}"
    if any(run.status == MEASURED for run in found):
        return f"{did} All of the run is measured. Next: {load}"
    silent = [one for run in found for one in run.silent if one.endswith(f"/{shard.count}")]
    named = ", ".join(silent[:8]) + (f" and {len(silent) - 8} more" if len(silent) > 8 else "")
    others = f"{parts} has nothing of {named} yet: if they have begun, they do not see this folder. " if silent else ""
    return f"{did} {others}When every shard is done, gather their part files in one folder and run: {load}"
