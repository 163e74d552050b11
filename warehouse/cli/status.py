"""`selfrepair status`: how far each run is, who measures it, and what to type next."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from selfrepair.warehouse.cli.options import db_option, json_option
from selfrepair.warehouse.database.lake.address import parts_beside

if TYPE_CHECKING:
    from selfrepair.warehouse.parts.status import RunStatus, TimeLeft

_MOST_NAMED = 8


@click.command()
@click.argument("parts_folder", metavar="[PARTS]", type=click.Path(path_type=Path), required=False)
@db_option
@json_option
def status(parts_folder: Path | None, db: Path, as_json: bool) -> None:
    """Show how far each run is, while it is measured or after.

    PARTS is the folder of part files that ingest writes; by default the one next to the warehouse (<db>.parts). Of each run:
    units that are loaded, in part files and missing, who measured them, why others stopped, how long is left, and the
    command to go on with. It changes nothing, and needs no torch.
    """
    from selfrepair.warehouse.cli.terminal import cell_text, print_json
    from selfrepair.warehouse.errors import SelfRepairError
    from selfrepair.warehouse.parts.status import statuses

    parts, run_keys = parts_folder or parts_beside(db), None
    if (parts / "run.json").is_file():  # the folder of one run, in that of all
        parts, run_keys = parts.absolute().parent, [parts.absolute().name]
    if not parts.is_dir() and (parts_folder is not None or not db.exists()):
        also = "" if db.exists() else f", and no warehouse {db}"
        raise SelfRepairError(
            f"there is no folder of part files {parts}{also}. Name the folder that ingest writes, as in its --parts, or the "
            "warehouse with --db."
        )
    found, notes = statuses(parts, db, run_keys)
    for note in notes:
        click.echo(cell_text(note), err=True)
    if as_json:
        print_json(map(_as_json, found))
    elif found:
        click.echo("\n\n".join(described(run) for run in found))
    else:
        click.echo(f"no run in {parts}{f' or {db}' if db.exists() else ''}: selfrepair ingest begins one")


def described(run: "RunStatus") -> str:
    """A run's status in lines."""
    from selfrepair.warehouse.cli.terminal import cell_text, plain_lines
    from selfrepair.warehouse.parts.command import warning_of_code

    lines = [head(run)]
    if run.status != "complete":
        lines += [f"  {name:9} {text}" for name, text in _facts(run) if text]
    if run.by:
        rows = [
            (one.shard, one.host, one.device, one.status, one.units, one.seconds and f"{one.seconds:,.1f}", one.reason)
            for one in run.by
        ]
        names = ["shard", "host", "device", "state", "units", "s/unit", ""]
        cells = [[cell_text(value) for value in row] for row in rows]
        shown = [i for i in range(len(names)) if any(row[i] not in (None, "") for row in rows)]
        table = plain_lines(
            [names[i] for i in shown], [[row[i] for i in shown] for row in cells], [i in (4, 5) for i in shown]
        )
        lines += [f"  {line}" for line in table]
    if run.why and not any(one.reason for one in run.by):
        lines.append(f"  {'why':9} {cell_text(run.why)}")
    lines += [f"  {'damaged':9} {cell_text(text)}" for text in run.damaged[:_MOST_NAMED]]
    if run.damaged:
        lines.append("            Delete these units' folders: the ingest command then measures them again.")
    n_named = _MOST_NAMED if len(run.next) > _MOST_NAMED + 1 else len(run.next)
    lines += [f"  {'' if i else 'next':9} {command}" for i, command in enumerate(run.next[:n_named])]
    if n_named < len(run.next):
        lines.append(f"            and {len(run.next) - n_named - 1} more; the same array again does all of them")
        lines.append(f"            {run.next[-1]}")
    lines += [f"            {warning}" for command in run.next[:1] if (warning := warning_of_code(command))]
    return "\n".join(lines)


def loaded_runs(parts: Path, db: Path, run_keys: Sequence[str], wait_s: float) -> list["RunStatus"]:
    """How far the runs of these keys are that a load found in the folder `parts`; without keys, all in the warehouse."""
    from selfrepair.warehouse.parts.status import statuses

    return statuses(parts, db, run_keys or None, wait_s)[0]


def why_not_whole(run: "RunStatus", db: Path, parts: Path) -> str:
    """What is said after a load of a run that is not whole: its status; in the last line what is missing and what to type."""
    if run.status == "complete":
        return ""
    if run.is_whole:
        return run.why
    load = f"selfrepair load {quote(str(parts))} --db {quote(str(db))}"
    first = f"when they have ended, {load}" if run.status == "running" and not run.next else f"then {load}"
    commands = [command for command in run.next if command != load]
    measure = f"{commands[0]}{' (and so for the others)' if len(commands) > 1 else ''}, " if commands else ""
    return f"{described(run)}\nrun {run.run_id} is not whole, it misses {missing_text(run)}. Next: {measure}{first}"


def head(run: "RunStatus") -> str:
    """`run 2, baseline (gpt2 on stdlib, 400 prompts) is running: 120 of 160 units measured, 40 of them loaded`."""
    from selfrepair.warehouse.cli.terminal import cell_text

    name = f"run {cell_text(run.run_key)}" if run.run_id is None else f"run {run.run_id}"
    if run.run_name is not None:
        name += f", {cell_text(run.run_name)}"
    of = cell_text(f"({run.model} on {run.dataset}, {run.n_prompts:,} prompts)")
    done = run.n_units - len(run.missing)
    loaded = f", {'all' if run.loaded == done else f'{run.loaded:,}'} of them loaded" if done else ""
    return f"{name} {of} is {run.status}: {done:,} of {run.n_units:,} units measured{loaded}"


def missing_text(run: "RunStatus") -> str:
    """What is missing, by shard where the run is shared: `20 units: 10 of shard 2/4, 10 of shard 4/4 (which never wrote)`."""
    if not run.missing:
        cells = run.n_cells - run.cells
        return f"the cross-check of {cells:,} cells" if cells > 0 else ""
    units = f"{len(run.missing):,} {'unit' if len(run.missing) == 1 else 'units'}"
    if run.by_shard:
        named = [
            f"{count:,} of shard {shard}{', which never wrote into this folder' if shard in run.silent else ''}"
            for shard, count in run.by_shard.items()
        ]
    else:
        named = [str(unit) for unit in run.missing]
    more = [f"and {len(named) - _MOST_NAMED} more"] if len(named) > _MOST_NAMED else []
    return f"{units}: {'; '.join([*named[:_MOST_NAMED], *more]) if run.by_shard else ', '.join([*named[:_MOST_NAMED], *more])}"


def _facts(run: "RunStatus") -> list[tuple[str, str]]:
    units = "unit" if run.in_parts == 1 else "units"
    unloaded = f"{run.in_parts:,} {units} in part files, to be loaded" if run.in_parts else ""
    if not unloaded and run.cells_in_parts:
        unloaded = f"the cross-check of {run.cells_in_parts:,} cells in part files, to be loaded"
    last = ""
    if run.last is not None:
        unit, host, at = run.last
        by = f" on {host}, by its clock" if host else ""
        last = f"unit {unit}, {at:%Y-%m-%d %H:%M:%S} UTC{by}"
    return [("parts", unloaded), ("missing", missing_text(run)), ("last", last), ("left", left_text(run.time))]


def left_text(time: "TimeLeft") -> str:
    """How long is left: of what is being measured or, where nobody measures, of all that is missing for one process."""
    if time.seconds_left is not None and time.rows_per_s:
        if not time.seconds_left:
            return "the cross-check"
        return f"about {in_time(time.seconds_left)} at {time.rows_per_s:,.0f} rows/s, for what is being measured"
    if time.seconds_of_one is not None:
        return f"about {in_time(time.seconds_of_one)} for one process, apart from the start and the cross-check"
    return ""


def in_time(seconds: float) -> str:
    """A duration in words: `40 s`, `12 min`, `3 h 5 min`, `4 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} days"


def _as_json(run: "RunStatus") -> dict[str, Any]:
    last = run.last and dict(zip(("unit", "host", "measured_at"), run.last, strict=True))
    found = asdict(run)
    time = found.pop("time")
    return {**found, **time, "last": last, "is_whole": run.is_whole}
