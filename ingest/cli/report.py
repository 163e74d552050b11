"""What `selfrepair ingest` prints of a run beside its progress, whoever measures it. Without torch."""

import contextlib
import shlex
from collections.abc import Mapping
from pathlib import Path

import click

from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.runs.outcome import StoredRun, has_namesake
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.loader import loaded_units
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.records import ModelRecord, RunRecord


def warn_of_namesake(request: IngestRequest, model: ModelRecord, db: Path) -> None:
    """Say where `db` holds a local model of the same name with other weights."""
    if request.series is None and Path(request.model).exists() and has_namesake(db, model):
        click.echo(
            f"{db} holds another model called {model.name}, with other weights. To tell them apart by name, stop "
            f"and add --series, such as --series {shlex.quote(_longer_name(request.model))}.",
            err=True,
        )


def _longer_name(folder: str) -> str:
    """The last two names of a folder's path."""
    return "-".join(Path(folder).resolve().parts[-2:])


def interrupted_message(
    run_key: str, prompts_of: Mapping[int, int], parts: Path, db: Path, command: str | None = None
) -> str:
    """How far an interrupted run is, and how to continue, by `command` where it is given; `prompts_of` has the number of
    prompts of each of its units.
    """
    ready = PartsFolder(parts, run_key).finished_units()
    with contextlib.suppress(SelfRepairError):  # another program has the warehouse open: its units go uncounted
        ready |= loaded_units(db, run_key, wait_s=0)
    done = [count for unit, count in prompts_of.items() if unit in ready]
    return (
        f"Interrupted. {len(done):,} of {len(prompts_of):,} units are finished and safe ({sum(done):,} of "
        f"{sum(prompts_of.values()):,} prompts; part files in {parts}); the same command continues from there"
        f"{'.' if command is None else f': {command}'}"
    )


def print_outcome(record: RunRecord, db: Path, run: StoredRun, *, is_last: bool) -> None:
    """Print what this command measured; with the facts of the run, unless it is the last, whose facts the report has."""
    n_units = run.units_measured
    done = f"{n_units} {'unit' if n_units == 1 else 'units'} measured now" if n_units else "nothing was left to measure"
    model = record.model
    name = model.name if model.checkpoint is None else f"{model.name}, step {model.checkpoint}"
    facts = (
        f"; {record.n_measurements:,} rows in {db}, identity within {run.identity_error_max:.1e}, "
        f"{run.crosscheck_rows:,} rows cross-checked within {run.crosscheck_error_max:.1e} logits"
    )
    called = "" if run.run_name is None else f" ({run.run_name})"
    click.echo(f"run {run.run_id}{called} of {name} is {run.status}: {done}{'' if is_last else facts}")
    if record.run_name not in (None, run.run_name) and run.run_name is not None:
        click.echo(
            f"it keeps the name {run.run_name}; to change it: selfrepair name {run.run_id} {shlex.quote(record.run_name)} "
            f"--db {shlex.quote(str(db))}"
        )
