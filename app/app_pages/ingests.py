"""Progress of every run, units that are not loaded yet, and the command that resumes each run."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import streamlit as st

from selfrepair.app.components.figure import data_popover
from selfrepair.app.components.tables import column_headers
from selfrepair.app.controls.linked import linked_toggle
from selfrepair.app.data.part_files import UnloadedRun, unloaded_runs
from selfrepair.app.data.query import notify, query_rows, warehouse_path
from selfrepair.app.data.resume_command import RUN_RECORDS, missing_options, resume_command, run_row
from selfrepair.app.wording.columns import meaning, words
from selfrepair.app.wording.escape import escape_markdown
from selfrepair.queries.sandbox.served import MAX_ROWS
from selfrepair.warehouse.cli.status import left_text
from selfrepair.warehouse.database.lake.address import parts_beside
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.parts.activity import activity_of_run
from selfrepair.warehouse.parts.manifest import MeasuredBy
from selfrepair.warehouse.parts.records import is_run_key
from selfrepair.warehouse.parts.status import FinishedUnit, time_left
from selfrepair.warehouse.parts.workers import INCOMPLETE, RUNNING, workers

REFRESH_S = 5

OVERVIEW = """SELECT
    run_id,
    run_health.run_name,
    run_health.model,
    datasets.name AS dataset,
    run_health.status,
    run_health.health,
    runs.started_at,
    runs.finished_at,
    runs.n_units,
    coalesce(loaded.n_units, 0) AS units_loaded,
    run_health.rows_expected,
    coalesce(run_health.rows_loaded, 0) AS rows_loaded
FROM run_health
INNER JOIN runs USING (run_id)
LEFT JOIN datasets USING (dataset_id)
LEFT JOIN (SELECT run_id, count(*) AS n_units FROM units GROUP BY run_id) AS loaded USING (run_id)
ORDER BY run_id DESC"""

LEDGER = """SELECT run_id, unit, units.n_measurements, measured_at, units.host, units.device, units.worker, units.seconds
FROM units
INNER JOIN runs USING (run_id)
WHERE status = 'incomplete'"""


def optional_frame(sql: str) -> pl.DataFrame | None:
    """The result of `sql`; None, and a message, where the file cannot be read: its part files can still be shown."""
    try:
        rows = query_rows(sql, MAX_ROWS)
    except SelfRepairError as error:
        st.info(escape_markdown(str(error)), icon=":material/database:")
        return None
    notify(rows)
    return rows.frame


def unfinished(
    run: Mapping[str, Any], loaded: Mapping[int, FinishedUnit], unloaded: UnloadedRun | None, db: Path
) -> None:
    """Draw an unfinished run: its progress, and the commands to load and resume it."""
    in_parts = {} if unloaded is None else unloaded.units
    units = in_parts | dict(loaded)
    not_loaded = in_parts.keys() - loaded.keys()
    n_units, n_rows = run["n_units"], sum(unit.rows for unit in units.values())
    with st.container(border=True):
        st.markdown(
            f"**{escape_markdown(run['model'])}** on {escape_markdown(run['dataset'])}, {run['n_prompts']:,} prompts"
        )
        st.progress(
            min(1.0, len(units) / n_units),
            f"{len(units):,} of {n_units:,} units measured, {len(loaded):,} loaded; "
            f"{n_rows:,} of {run['n_measurements']:,} rows",
        )
        st.caption(f"Started {run['started_at']:%Y-%m-%d %H:%M} UTC. {pace(run, units, parts_beside(db))}")
        if not_loaded:
            st.markdown(f"{len(not_loaded):,} of these units are in part files and not loaded yet. Load them:")
            st.code(shlex.join(["selfrepair", "load", "--db", str(db)]), language="bash", wrap_lines=True)
        state = activity_of_run(parts_beside(db), run["run_key"])
        if state.status == RUNNING:
            st.markdown("A process is measuring it. If it is stopped, this continues it:")
        elif len(units) < n_units:
            why = f"{state.status.capitalize()}: {escape_markdown(state.reason)}."
            st.markdown(f"{why} Continue it; finished units are not measured again:")
        else:
            st.markdown("Every unit is measured. The same command finishes the cross-check:")
        if (command := resume_command(run, db)) is not None:
            st.code(command, language="bash", wrap_lines=True)
        st.caption(f"{missing_options(run)} Only part files next to the warehouse are counted.".strip())


def pace(run: Mapping[str, Any], units: Mapping[int, FinishedUnit], parts: Path) -> str:
    """When the last unit was finished, by the clock of its machine, and how long the remaining ones may take."""
    if not units:
        return "No unit is finished yet."
    last = max(units.values(), key=lambda unit: unit.at)
    by = f" on {escape_markdown(last.by.host)}" if last.by else ""
    known = workers(parts / run["run_key"]) if is_run_key(run["run_key"]) else []
    left = left_text(time_left(run["n_measurements"], run["n_units"], units, known))
    return f"The last unit was finished{by} at {last.at:%Y-%m-%d %H:%M} UTC.{f' Left: {left}.' if left else ''}"


def page() -> bool:
    """Draw the page; True while a run is unfinished."""
    db = warehouse_path()
    unloaded, errors = unloaded_runs(parts_beside(db))
    overview = records = ledger = None
    if db.exists():
        overview = optional_frame(OVERVIEW)
        records, ledger = (None, None) if overview is None else (optional_frame(RUN_RECORDS), optional_frame(LEDGER))
    in_file = {} if records is None else {run["run_key"]: run for run in records.to_dicts()}
    loaded: dict[int, dict[int, FinishedUnit]] = {}
    for row in [] if ledger is None else ledger.to_dicts():
        by = None if row["worker"] is None else MeasuredBy(row["host"], row["device"], row["worker"], row["seconds"])
        unit = FinishedUnit(row["n_measurements"], row["measured_at"], by)
        loaded.setdefault(row["run_id"], {})[row["unit"]] = unit
    for text in errors:
        st.warning(escape_markdown(text), icon=":material/error:")

    not_whole = {key: run for key, run in in_file.items() if run["status"] == INCOMPLETE}
    not_whole |= {key: run_row(run.record) for key, run in unloaded.items() if key not in in_file}
    for key, run in sorted(not_whole.items(), key=lambda item: item[1]["started_at"], reverse=True):
        unfinished(run, loaded.get(run.get("run_id", -1), {}), unloaded.get(key), db)

    if overview is not None and not overview.is_empty():
        st.subheader("Runs in the warehouse")
        if overview["run_name"].is_null().all():
            overview = overview.drop("run_name")
        known = ["run_id", "run_name", "model", "status", "rows_expected", "rows_loaded", "health"]
        config = column_headers("run_health", known)
        config |= {
            name: st.column_config.Column(words(name), help=meaning("runs", name))
            for name in ("started_at", "finished_at", "n_units")
        }
        config["units_loaded"] = st.column_config.Column(words("units_loaded"), help="Units in the warehouse")
        config["dataset"] = st.column_config.Column("Dataset", help=meaning("datasets", "name"))
        states = {
            run["run_id"]: activity_of_run(parts_beside(db), key).status
            for key, run in in_file.items()
            if key in not_whole
        }
        status = pl.col("run_id").replace_strict(
            states, default=pl.col("status").cast(pl.String), return_dtype=pl.String
        )
        st.dataframe(overview.with_columns(status=status), hide_index=True, column_config=config)
        data_popover(overview, OVERVIEW, name="ingests")
    elif not not_whole:
        st.info(
            "Nothing has been measured yet. Measure the bundled model, in one to four minutes:",
            icon=":material/science:",
        )
        st.code(shlex.join(["selfrepair", "demo", "--db", str(db)]), language="bash")
        st.markdown("Or your own model:")
        st.code(
            shlex.join(["selfrepair", "ingest", "--model", "gpt2", "--dataset", "NeelNanda/pile-10k", "--db", str(db)]),
            language="bash",
        )
    return bool(not_whole)


st.title("Ingests")
st.caption("Measuring and loading run in a terminal; this page shows their progress, and commands to copy.")
live = linked_toggle(f"Refresh every {REFRESH_S} s", "live", first=True)
st.fragment(page, run_every=REFRESH_S if live else None)()
