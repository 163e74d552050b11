"""Model, run, ablation and rows used: chosen in the sidebar and kept in the link."""

import streamlit as st

from selfrepair.app.components.export_context import add_context
from selfrepair.app.controls.linked import linked_selectbox, warn_once, warn_unknown
from selfrepair.app.data.choice import POPULATIONS, Choice
from selfrepair.app.data.query import query_frame, warehouse_path
from selfrepair.app.wording.escape import escape_markdown
from selfrepair.queries.catalog.which_run import RUNS, Run, dataset_of
from selfrepair.warehouse.schema import ABLATIONS, NEXT_TOKEN


def choose_run() -> Choice:
    """Draw the sidebar; what is chosen there. Ends the page with the next step when there is no run."""
    runs = all_runs()
    if not runs:
        st.info(
            f"**{warehouse_path().name}** has no runs yet. Measure the bundled model:\n\n"
            f"    selfrepair demo --db {warehouse_path()}\n\nor your own: `selfrepair ingest --help`.",
            icon=":material/database:",
        )
        st.page_link("app_pages/ingests.py", label="Running ingests", icon=":material/move_to_inbox:")
        st.stop()
    usable = [run for run in runs if run["status"] != "failed"] or runs
    _warn_about_link(usable)
    _take_model_of_linked_run(usable)
    with st.sidebar:
        models = list(dict.fromkeys(run["model"] for run in reversed(usable)))
        model = st.selectbox("Model", models, key="model", bind="query-params")
        of_model = {str(run["run_id"]): run for run in reversed(usable) if run["model"] == model}
        left, right = st.columns(2)  # side by side, so that all widgets fit below the list of pages
        with left:
            number = linked_selectbox(
                "Run",
                list(of_model),
                "run",
                help="Rows of different runs are never mixed. Failed runs are not listed.",
                always_in_link=True,  # the newest run changes, and the model follows from the run
            )
        run = of_model[number]
        ablations = [ablation for ablation in ABLATIONS if ablation in run["ablations"]]
        ablation = right.selectbox("Ablation", ablations, key="ablation", bind="query-params", help=_ABLATION_HELP)
        st.caption(escape_markdown(_summary(run)))
        population = linked_selectbox(
            "Rows used",
            list(POPULATIONS),
            "population",
            lambda name: _capitalised(POPULATIONS[name]),
            first="top2" if run["logit_of"] == NEXT_TOKEN else "all",  # few rows where one answer a prompt is scored
            help="Top 2 %: each head's rows with the highest clean direct effect (direct logit attribution), as in the paper.",
        )
    add_context(model, f"run {number}", ablation, population)
    return Choice(run, ablation, population)


def all_runs() -> list[Run]:
    """Every run of the warehouse, failed ones included, the oldest first."""
    runs: list[Run] = query_frame(RUNS).to_dicts()
    return runs


_ABLATION_HELP = (
    "What replaces the head's output: its output on another prompt at the same positions (resample), its mean over all "
    "prompts (mean), or zero."
)


def _take_model_of_linked_run(runs: list[Run]) -> None:
    """Choose the model of a link that names a run alone."""
    linked = st.query_params.get("run")
    if linked is not None and linked != st.session_state.get("run in the link") and "model" not in st.query_params:
        models = {str(run["run_id"]): run["model"] for run in runs}
        if linked in models:
            st.session_state["model"] = models[linked]


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _summary(run: Run) -> str:
    given = f", {', '.join(run['given_heads'])} ablated throughout" if run["given_heads"] else ""
    return f"{run['n_prompts']:,} prompts of {dataset_of(run)}{given}, {run['status']}"


def _warn_about_link(runs: list[Run]) -> None:
    models = {run["model"] for run in runs}
    warn_unknown("model", "model", models)
    warn_unknown("run", "run", {str(run["run_id"]) for run in runs})
    warn_unknown("ablation", "ablation", ABLATIONS)
    warn_unknown("population", "choice of rows", POPULATIONS)
    model, number = st.query_params.get("model"), st.query_params.get("run")
    model_of_run: str | None = next((run["model"] for run in runs if str(run["run_id"]) == number), model)
    is_new_link = number != st.session_state.get("run in the link")
    if is_new_link and model in models and model_of_run != model:
        of, shown = escape_markdown(str(model_of_run)), escape_markdown(str(model))
        warn_once(f"Run {number} of the link is a run of {of}; the newest run of {shown} is shown.")
