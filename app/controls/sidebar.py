"""Model, run, ablation and rows used: drawn in the sidebar of every page about a run."""

import shlex
from typing import Any

import streamlit as st

from selfrepair.app.components.about import describe_page, span_of_rows
from selfrepair.app.controls.linked import linked_selectbox, set_widget
from selfrepair.app.data.choice import POPULATIONS, Choice
from selfrepair.app.data.chosen import choose, chosen, doubt, say, show_run, shown_run
from selfrepair.app.data.query import query_frame, warehouse_path
from selfrepair.app.wording.escape import escape_markdown
from selfrepair.queries.catalog.which_run import RUNS, Run, dataset_of, few_clusters, few_rows, label_of, newest_last
from selfrepair.warehouse.schema import ABLATIONS


def choose_run() -> Choice:
    """Draw the sidebar; what is chosen there. Ends the page with the next step when there is no run."""
    runs = all_runs()
    if not runs:
        st.info(
            f"**{warehouse_path().name}** has no runs yet. Measure the bundled model:\n\n"
            f"    selfrepair demo --db {shlex.quote(str(warehouse_path()))}\n\nor your own: `selfrepair ingest --help`.",
            icon=":material/database:",
        )
        st.page_link("app_pages/ingests.py", label="Running ingests", icon=":material/move_to_inbox:")
        st.stop()
    usable = newest_last([run for run in runs if run["status"] != "failed"] or runs)
    run = _chosen_run(usable[::-1])
    show_run(run["model"], run["run_id"])
    with st.sidebar:
        newest = {each["model"]: each for each in usable}
        set_widget("model", run["model"])
        models = list(dict.fromkeys(each["model"] for each in reversed(usable)))
        st.selectbox("Model", models, key="model", on_change=lambda: _choose(newest[st.session_state["model"]]))
        left, right = st.columns(2)  # side by side, so that all widgets fit below the list of pages
        numbers = {str(each["run_id"]): each for each in reversed(usable) if each["model"] == run["model"]}
        set_widget("run", str(run["run_id"]))
        left.selectbox(
            "Run",
            list(numbers),
            key="run",
            format_func=lambda number: label_of(numbers[number]),
            on_change=lambda: _choose(numbers[st.session_state["run"]]),
            help="Rows of different runs are never mixed. Failed runs are not listed.",
        )
        with right:
            ablation = linked_selectbox(
                "Ablation",
                [ablation for ablation in ABLATIONS if ablation in run["ablations"]],
                "ablation",
                where=f"in run {run['run_id']}",
                help=_ABLATION_HELP,
            )
        st.caption(escape_markdown(_summary(run)))
        population = linked_selectbox(
            "Rows used",
            list(POPULATIONS),
            "population",
            lambda name: _capitalised(POPULATIONS[name]),
            first=run["default_population"],
            noun="choice of rows",
            help="Top 2 %: each head's rows with the highest clean direct effect (direct logit attribution), as in the paper.",
        )
        choice = Choice(run, ablation, population)
        n_rows = {row["population"]: row for row in query_frame(rows_of_heads(choice)).to_dicts()}
        if population in n_rows:
            _show_rows(n_rows[population])
    describe_page(
        choice, {name: f"{span_of_rows(row['fewest'], row['most'])} of each head" for name, row in n_rows.items()}
    )
    return choice


def all_runs() -> list[Run]:
    """Every run of the warehouse, failed ones included, the oldest first."""
    runs: list[Run] = query_frame(RUNS).to_dicts()
    return runs


def rows_of_heads(choice: Choice) -> str:
    """SQL of the fewest and most rows that a number of one head is made of, and of its clusters, by population."""
    return (
        "SELECT population, min(n_rows) AS fewest, max(n_rows) AS most, min(n_clusters) AS n_clusters\nFROM head_repair\n"
        f"WHERE {choice.where_rows}\nGROUP BY population\nORDER BY population"
    )


_ABLATION_HELP = (
    "What replaces the head's output: its output on another prompt at the same positions (resample), its mean over all "
    "prompts (mean), or zero."
)


def _chosen_run(runs: list[Run]) -> Run:
    """The chosen one of `runs`, which come newest first; before any choice the newest, of the chosen model if there is one."""
    model, number = ({**shown_run(), **_asked()}.get(name) for name in ("model", "run"))
    of_model = [run for run in runs if run["model"] == model]
    first = (of_model or runs)[0]
    by_name = {run["run_name"]: run for run in runs}
    by_number = {str(run["run_id"]): run for run in runs}
    run = first if number is None else by_number.get(number, by_name.get(number))
    if run is None:
        doubt("run", str(number), f"run {first['run_id']}", "here, or failed its cross-check")
        run = first
    if of_model and run["model"] != model:
        of, shown = escape_markdown(run["model"]), escape_markdown(str(model))
        say(f"Run {number} of the link is a run of {of}; the newest run of {shown} is shown.")
        return first
    if model is not None and not of_model:
        doubt("model", model, run["model"])
    return run


def _asked() -> dict[str, str]:
    asked = {"model": chosen("model"), "run": chosen("run")}
    return {name: value for name, value in asked.items() if value is not None}


def _choose(run: Run) -> None:
    choose("model", run["model"])
    choose("run", str(run["run_id"]))


def _show_rows(row: dict[str, Any]) -> None:
    """Of how many rows and documents a number of one head is made, with a warning where they are few."""
    st.caption(f"{span_of_rows(row['fewest'], row['most'])} of each head")
    for few in filter(None, [few_rows(row["fewest"]), few_clusters(row["n_clusters"])]):
        st.caption(f":orange[{few}]")


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _summary(run: Run) -> str:
    given = f", {', '.join(run['given_heads'])} ablated throughout" if run["given_heads"] else ""
    return f"{run['n_prompts']:,} prompts of {dataset_of(run)}{given}, {run['status']}"
