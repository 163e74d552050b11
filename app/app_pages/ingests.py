"""How far every run has come, what waits to be loaded, and the command that goes on with it."""

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import streamlit as st

from selfrepair.app.components.figure import below
from selfrepair.app.components.headers import headers
from selfrepair.app.data.answers import MOST_ROWS, answered, tell, warehouse_path
from selfrepair.app.data.part_files import WaitingRun, pace_s, waiting_runs
from selfrepair.app.data.resume_command import RECORDS, command, not_written_down, written_down
from selfrepair.app.wording.columns import meaning, words
from selfrepair.app.wording.escape import plain
from selfrepair.warehouse.errors import SelfRepairError

REFRESH_S = 5
QUIET = timedelta(minutes=2)
"""For how long at least no unit may be finished before a run counts as interrupted."""

OVERVIEW = """SELECT
    run_id,
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

LEDGER = """SELECT run_id, unit, units.n_measurements, measured_at
FROM units
INNER JOIN runs USING (run_id)
WHERE status = 'running'"""


def asked(sql: str) -> pl.DataFrame | None:
    """The answer; None, and a line on the page, when the file cannot be asked: its part files can be told of all the same."""
    try:
        rows = answered(sql, MOST_ROWS)
    except SelfRepairError as error:
        st.info(plain(str(error)), icon=":material/database:")
        return None
    tell(rows)
    return rows.frame


def now() -> datetime:
    """The time as the warehouse writes it: UTC, without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)


def lasting(time: timedelta) -> str:
    """A length of time in words: '40 s', '12 min', '3 h 5 min', '4 days'."""
    seconds = max(0, round(time.total_seconds()))
    if seconds < 90:
        return f"{seconds} s"
    minutes, hours = seconds // 60, seconds // 3600
    if minutes < 60:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} days"


def unfinished(
    run: Mapping[str, Any], loaded: Mapping[int, tuple[int, datetime]], waiting: WaitingRun | None, db: Path
) -> None:
    """A run that is not whole: how far it is, and what to type. `loaded`: rows and time of finishing by unit."""
    in_parts = {} if waiting is None else waiting.units
    units = {number: (unit.n_rows, unit.measured_at) for number, unit in in_parts.items()} | dict(loaded)
    not_loaded = in_parts.keys() - loaded.keys()
    n_units, n_rows = run["n_units"], sum(rows for rows, _ in units.values())
    with st.container(border=True):
        st.markdown(f"**{plain(run['model'])}** on {plain(run['dataset'])}, {run['n_prompts']:,} prompts")
        st.progress(
            min(1.0, len(units) / n_units),
            f"{len(units):,} of {n_units:,} units measured, {len(loaded):,} loaded; "
            f"{n_rows:,} of {run['n_measurements']:,} rows",
        )
        st.caption(f"Begun {run['started_at']:%Y-%m-%d %H:%M} UTC. {pace([at for _, at in units.values()], n_units)}")
        if not_loaded:
            st.markdown(f"In part files, not loaded yet: {len(not_loaded):,} of these units. Load them:")
            st.code(shlex.join(["selfrepair", "load", "--db", str(db)]), language="bash", wrap_lines=True)
        if len(units) < n_units:
            st.markdown("If nothing measures it any more, go on; finished units are not measured again:")
        else:
            st.markdown("Every unit is measured. The same command again finishes the cross-check:")
        st.code(command(run, db), language="bash", wrap_lines=True)
        st.caption(
            "As far as it is written down: before a local model or dataset goes its path, a column of text that is not `text` "
            "had its --text-column, a model with code of its own --trust-remote-code, a share of a run its --shard. Only part "
            "files beside the warehouse are counted here."
            f"{not_written_down(run)}"
        )


def pace(measured_at: list[datetime], n_units: int) -> str:
    """When the last unit was finished, and how long the others may take."""
    if not measured_at:
        return "No unit is finished yet."
    quiet = now() - max(measured_at)
    told = f"The last unit was finished {lasting(quiet)} ago"
    seconds = pace_s(measured_at)
    if len(measured_at) >= n_units:
        return f"{told}."
    if seconds is not None and quiet <= max(QUIET, timedelta(seconds=3 * seconds)):
        return f"{told}; about {lasting(timedelta(seconds=seconds * (n_units - len(measured_at))))} to go at this pace."
    return f"{told}: it is interrupted, or a unit takes long." if quiet > QUIET else f"{told}."


def page() -> bool:
    """Draw it all; True while there is something that moves on."""
    db = warehouse_path()
    waiting, wrong = waiting_runs(Path(f"{db}.parts"))
    overview = records = ledger = None
    if db.exists():
        overview = asked(OVERVIEW)
        records, ledger = (None, None) if overview is None else (asked(RECORDS), asked(LEDGER))
    in_file = {} if records is None else {run["run_key"]: run for run in records.to_dicts()}
    loaded: dict[int, dict[int, tuple[int, datetime]]] = {}
    for row in [] if ledger is None else ledger.to_dicts():
        loaded.setdefault(row["run_id"], {})[row["unit"]] = (row["n_measurements"], row["measured_at"])
    for text in wrong:
        st.warning(plain(text), icon=":material/error:")

    running = {key: run for key, run in in_file.items() if run["status"] == "running"}
    running |= {key: written_down(run.record) for key, run in waiting.items() if key not in in_file}
    for key, run in sorted(running.items(), key=lambda item: item[1]["started_at"], reverse=True):
        unfinished(run, loaded.get(run.get("run_id", -1), {}), waiting.get(key), db)

    if overview is not None and not overview.is_empty():
        st.subheader("Runs in the warehouse")
        known = ["run_id", "model", "status", "rows_expected", "rows_loaded", "health"]
        config = headers("run_health", known)
        config |= {
            name: st.column_config.Column(words(name), help=meaning("runs", name))
            for name in ("started_at", "finished_at", "n_units")
        }
        config["units_loaded"] = st.column_config.Column(
            words("units_loaded"), help="Of all units, those in the warehouse"
        )
        config["dataset"] = st.column_config.Column("Dataset", help=meaning("datasets", "name"))
        st.dataframe(overview, hide_index=True, column_config=config)
        below(overview, OVERVIEW, name="ingests")
    elif not running:
        st.info("Nothing was measured yet. The bundled model, in one to two minutes:", icon=":material/science:")
        st.code(shlex.join(["selfrepair", "demo", "--db", str(db)]), language="bash")
        st.markdown("One of your own:")
        st.code(
            shlex.join(["selfrepair", "ingest", "--model", "gpt2", "--dataset", "NeelNanda/pile-10k", "--db", str(db)]),
            language="bash",
        )
    return bool(running)


st.title("Ingests")
st.caption("Measuring and loading run in a terminal; this page only looks. Commands are there to be copied.")
live = st.toggle(f"Refresh every {REFRESH_S} s", value=True, key="live", bind="query-params")
st.fragment(page, run_every=REFRESH_S if live else None)()
