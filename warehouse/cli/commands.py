"""`selfrepair load`, `verify`, `runs` and `remove`. Imports happen when a command runs, so that help is quick."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import click

from selfrepair.warehouse.cli.options import db_option, json_option
from selfrepair.warehouse.database.lake.address import parts_beside

_RUNS = """
SELECT
    runs.run_id,
    runs.run_name AS name,
    models.name || coalesce('@' || models.revision, '') || coalesce(' step ' || models.checkpoint, '') AS model,
    datasets.name || coalesce('/' || datasets.split, '') || coalesce(' (' || nullif(runs.logit_of, 'next_token') || ')', '')
        AS dataset,
    runs.n_prompts AS prompts,
    datasets.seq_len,
    format('{:,}', coalesce(loaded.n_measurements, 0))
        || CASE
            WHEN loaded.n_measurements = runs.n_measurements THEN ''
            ELSE format(' of {:,}', runs.n_measurements)
        END AS rows,
    array_to_string(runs.ablations, ', ') AS ablations,
    {'labels': runs.selected_heads, 'n_layers': models.n_layers, 'n_heads': models.n_heads} AS heads,
    nullif(array_to_string(runs.given_heads, ', '), '') AS given,
    nullif(array_to_string(runs.mechanisms, ', '), '') AS mechanisms,
    runs.dtype,
    {'status': runs.status, 'run_key': runs.run_key} AS status,
    runs.identity_error_max,
    runs.crosscheck_error_max,
    coalesce(runs.checks, 'identity, cross-check (TransformerBridge)') AS checks,
    date_trunc('second', runs.started_at) AS started_at_utc,
    nullif(array_to_string(runs.tags, ', '), '') AS tags,
    runs.note
FROM runs
LEFT JOIN models USING (model_id)
LEFT JOIN datasets USING (dataset_id)
LEFT JOIN (SELECT run_id, sum(n_measurements) AS n_measurements FROM units GROUP BY run_id) AS loaded
    USING (run_id)
ORDER BY runs.run_id
"""

_RUN_RECORDS = """
SELECT
    runs.*,
    models.name AS model,
    models.revision,
    models.checkpoint,
    datasets.name AS dataset,
    datasets.split,
    datasets.seq_len,
    coalesce(loaded.n_measurements, 0) AS n_measurements_loaded
FROM runs
LEFT JOIN models USING (model_id)
LEFT JOIN datasets USING (dataset_id)
LEFT JOIN (SELECT run_id, sum(n_measurements)::BIGINT AS n_measurements FROM units GROUP BY run_id) AS loaded
    USING (run_id)
ORDER BY runs.run_id
"""
"""The runs for programs: columns of the tables, under their names there."""

_HOLDS = "SELECT (SELECT count(*) FROM runs), (SELECT coalesce(sum(n_measurements), 0) FROM units)"


@click.command()
@click.argument("parts_folder", type=click.Path(file_okay=False, path_type=Path), required=False)
@db_option
@click.option("--keep-parts", is_flag=True, help="Keep the part files after loading them.")
@click.option(
    "--whole",
    is_flag=True,
    help="Exit with 1 unless each run of the folder is whole and its cross-check agrees; without part files, as after a load "
    "that took all of them, unless the run that is named (PARTS_FOLDER/KEY) is.",
)
@click.option("--rows-only", is_flag=True, help="Skip the summaries; selfrepair refresh makes them later.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait while another program has the warehouse open.",
)
@click.pass_context
def load(
    ctx: click.Context,
    parts_folder: Path | None,
    db: Path,
    keep_parts: bool,
    whole: bool,
    rows_only: bool,
    wait_s: float,
) -> None:
    """Load finished units into the warehouse.

    PARTS_FOLDER is the folder of part files that ingest wrote; by default the one next to the warehouse (<db>.parts). Each
    unit is loaded exactly once: a load that was killed can be repeated, and units that are loaded already are skipped; where
    there is nothing to load, it says so. It loads what is finished, whatever else failed or is still measured; the last line
    says what of a run is then missing, and how to measure it. Loading also upgrades a warehouse of an older version.
    """
    from selfrepair.warehouse.cli.status import loaded_runs, why_not_whole
    from selfrepair.warehouse.load.loader import load as load_parts
    from selfrepair.warehouse.parts.records import is_run_key
    from selfrepair.warehouse.parts.status import COMPLETE

    if parts_folder is not None and (parts_folder.exists() or parts_folder.absolute() != parts_beside(db).absolute()):
        _check_parts(parts_folder, db)
    parts, run_key = parts_folder or parts_beside(db), None
    is_removed = parts_folder is not None and not parts.exists() and is_run_key(parts.absolute().name)
    if is_removed or (parts / "run.json").is_file():  # the folder of one run, in that of all
        parts, run_key = parts.absolute().parent, parts.absolute().name
    report = load_parts(
        db,
        parts,
        run_key=run_key,
        wait_s=wait_s,
        keep_parts=keep_parts,
        keep_folder=parts_folder is not None,
        on_wait=lambda text: click.echo(text, err=True),
        after_load=not rows_only,
    )
    if report.units or report.crosschecks:
        click.echo(
            f"loaded {_counted(report.units, 'unit')}, {_counted(report.rows, 'row')} and "
            f"{_counted(report.crosschecks, 'cross-checked cell')} in {report.seconds:.1f} s"
        )
    elif report.runs:
        click.echo(f"nothing new in {parts}: every finished unit in it is loaded already")
    elif parts.is_dir():
        click.echo(f"nothing to load: no part files in {parts}; they are removed once they are loaded")
    else:
        click.echo(f"nothing to load: there is no folder {parts}; part files are removed once they are loaded")
    click.echo(f"{db} now holds {holds(db)}")
    keys = report.runs or ([run_key] if run_key else [])
    found = loaded_runs(parts, db, keys, wait_s) if keys else []
    for run in found:
        if text := why_not_whole(run, db, parts):
            click.echo(f"\n{text}", err=whole)
    if whole and not (found and all(run.status == COMPLETE for run in found)):
        if not found:
            click.echo(
                f"--whole: there are no part files in {parts}. Nothing was measured, another folder is the one that the shards "
                f"write into, or all of it was loaded before: selfrepair load {quote(str(parts))}/KEY --db {quote(str(db))} "
                "--whole ends well if the run of that key (selfrepair status --json) is whole",
                err=True,
            )
        ctx.exit(1)
    if whole:
        before = "" if report.runs else ", loaded before"
        click.echo(f"whole: {', '.join(f'run {run.run_id}' for run in found)}{before}")


@click.command()
@db_option
@json_option
@click.pass_context
def verify(ctx: click.Context, db: Path, as_json: bool) -> None:
    """Check the consistency of a warehouse.

    Reads every row and changes nothing. Exits with 1 when a rule is violated.
    """
    from selfrepair.warehouse.cli.terminal import print_json, print_table
    from selfrepair.warehouse.database.publication import address_of
    from selfrepair.warehouse.verify.verification import verify as verify_rules

    checks = verify_rules(db)
    if as_json:
        print_json({"rule": check.name, "holds": check.ok, "detail": check.detail} for check in checks)
        ctx.exit(int(not all(check.ok for check in checks)))
    print_table(
        ("rule", "holds", "detail"), [(check.name, "yes" if check.ok else "NO", check.detail) for check in checks]
    )
    n_violated = sum(not check.ok for check in checks)
    if n_violated:
        click.echo(
            f"\n{n_violated} of {len(checks)} rules are violated: {address_of(db)} holds {holds(db)}, some of them wrong. "
            "Restore a copy, or remove the run and measure it again: selfrepair remove RUN_ID",
            err=True,
        )
        ctx.exit(1)
    click.echo(f"\nall {len(checks)} rules hold: {address_of(db)} holds {holds(db)}")


@click.command()
@db_option
@json_option
def runs(db: Path, as_json: bool) -> None:
    """List the runs of a warehouse.

    Of a run that is not whole, it says whether a process is measuring it and, if not, why and how to continue. Part files are
    looked for next to the warehouse (<db>.parts). How far each run is, and who measures it: selfrepair status.
    """
    if as_json:
        print_rows_as_json(db, _RUN_RECORDS)
        return
    from selfrepair.warehouse.cli.head_names import short_heads
    from selfrepair.warehouse.cli.unfinished import sentences, status_now

    parts = parts_beside(db)
    shown_as = {"heads": lambda stored: short_heads(**stored), "status": lambda stored: status_now(parts, **stored)}
    print_rows(db, _RUNS, shown_as, only_if_any=("name", "tags", "note"))
    for text in sentences(db, parts):
        click.echo(f"\n{text}")


@click.command(short_help="Remove a run from a warehouse, with all its rows.")
@click.argument("run")
@db_option
@click.option(
    "--parts",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of its part files  [default: <db>.parts]",
)
@click.option("--yes", is_flag=True, help="Remove without asking for confirmation.")
def remove(run: str, db: Path, parts: Path | None, yes: bool) -> None:
    """Remove a run, with all its rows and part files.

    RUN is the number or name that selfrepair runs shows. Asks for confirmation. A removed run can only be measured
    again; to keep a copy first: selfrepair export. If this is interrupted, the same command, with the run's number,
    finishes it. The file does not shrink, but later runs use the free space; the run's number is never given to another
    one. Stop an ingest of the run first, or its next units restore the run.
    """
    from selfrepair.warehouse.cli.terminal import cell_text
    from selfrepair.warehouse.load.names import run_number
    from selfrepair.warehouse.load.removal import finish_removal, remove_run, stored_run, was_removed

    def say(text: str) -> None:
        click.echo(text, err=True)

    run_id = run_number(db, run, on_wait=say)
    if not run.isdecimal():
        say(f"{cell_text(run)} is run {run_id}")  # a name goes with the run: what is left is removed by the number
    if was_removed(db, run_id, on_wait=say):
        finish_removal(db, on_wait=say)  # it may have been stopped before its end
        click.echo(f"run {run_id} was removed before, and nothing of it is left\n{db} now holds {holds(db)}")
        return
    stored = stored_run(db, run_id, on_wait=say)
    named = cell_text(
        f"run {run_id} ({stored.model} on {stored.dataset}, {stored.status}, {stored.n_measurements:,} rows)"
    )
    if not yes:
        click.confirm(f"Remove {named} from {db}?", abort=True)
    remove_run(db, stored, parts or parts_beside(db), on_wait=say)
    click.echo(f"removed {named}\n{db} now holds {holds(db)}")


def _check_parts(folder: Path, db: Path) -> None:
    """Raise SelfRepairError where the folder was named and is not one of part files, now or before they were loaded."""
    from selfrepair.warehouse.errors import SelfRepairError
    from selfrepair.warehouse.load.loader import loaded_units
    from selfrepair.warehouse.parts.records import is_run_key

    if folder.is_dir():
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        if not names or any((folder / name / "run.json").is_file() for name in names) or "run.json" in names:
            return
        found = f"{folder} has no part files: it holds {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
    elif is_run_key(folder.name) and loaded_units(db, folder.name):
        return  # the folder of a run, which is removed once all of it is loaded
    else:
        found = f"there is no folder {folder}"
    raise SelfRepairError(f"{found}. Nothing was loaded. Name the folder that ingest wrote, such as {db}.parts")


def print_rows(
    db: Path,
    query: str,
    shown_as: Mapping[str, Callable[[Any], str]] | None = None,
    only_if_any: Collection[str] = (),
) -> None:
    """Print the rows of `query`, or that the warehouse holds no run yet.

    `shown_as` maps columns to functions that turn their values into text; those `only_if_any` row has a value are left out
    else.
    """
    from selfrepair.warehouse.cli.terminal import print_records
    from selfrepair.warehouse.database.connection import open_reader
    from selfrepair.warehouse.errors import no_run

    with open_reader(db) as con:
        result = con.execute(query)
        columns = [column[0] for column in result.description or ()]
        rows = result.fetchall()
    for name, show in (shown_as or {}).items():
        index = columns.index(name)
        rows = [(*row[:index], show(row[index]), *row[index + 1 :]) for row in rows]
    shown = [
        index
        for index, name in enumerate(columns)
        if name not in only_if_any or any(row[index] is not None for row in rows)
    ]
    if rows:
        print_records([columns[index] for index in shown], [[row[index] for index in shown] for row in rows])
    else:
        click.echo(no_run(db))


def print_rows_as_json(db: Path, query: str) -> None:
    """Print the rows of `query` as an array of JSON objects."""
    from selfrepair.warehouse.cli.terminal import print_json
    from selfrepair.warehouse.database.connection import open_reader

    with open_reader(db) as con:
        result = con.execute(query)
        columns = [column[0] for column in result.description or ()]
        rows = result.fetchall()
    print_json(dict(zip(columns, row, strict=True)) for row in rows)


def holds(db: Path) -> str:
    """Contents of the warehouse: `2 runs, 3,657,600 rows`."""
    from selfrepair.warehouse.database.connection import open_reader

    with open_reader(db) as con:
        ((n_runs, n_rows),) = con.execute(_HOLDS).fetchall()
    return f"{_counted(n_runs, 'run')}, {_counted(n_rows, 'row')}"


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
