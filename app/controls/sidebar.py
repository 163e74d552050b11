"""What is looked at: model, run, ablation and population, chosen in the sidebar and kept in the URL."""

import streamlit as st

from selfrepair.app.components.export_context import note
from selfrepair.app.controls.named_list import choose_name
from selfrepair.app.data.answers import ask, warehouse_path
from selfrepair.app.data.choice import POPULATIONS, Choice
from selfrepair.app.wording.escape import plain
from selfrepair.queries.catalog.which_run import RUNS, Run, dataset_of
from selfrepair.warehouse.schema import ABLATIONS, NEXT_TOKEN


def choose() -> Choice:
    """Draw the sidebar; what it comes to. Ends the page with what to do when there is nothing to choose."""
    runs = runs_of_warehouse()
    if not runs:
        st.info(
            f"**{warehouse_path().name}** holds no runs yet. Measure the bundled model:\n\n"
            f"    selfrepair demo --db {warehouse_path()}\n\nor one of your own: `selfrepair ingest --help`.",
            icon=":material/database:",
        )
        st.page_link("app_pages/ingests.py", label="What is being measured now", icon=":material/move_to_inbox:")
        st.stop()
    usable = [run for run in runs if run["status"] != "failed"] or runs
    _say_what_the_link_lost(usable)
    _take_model_of_linked_run(usable)
    with st.sidebar:
        models = list(dict.fromkeys(run["model"] for run in reversed(usable)))
        model = st.selectbox("Model", models, key="model", bind="query-params")
        of_model = {str(run["run_id"]): run for run in reversed(usable) if run["model"] == model}
        left, right = st.columns(2)  # beside each other, so that all choices are in sight below the pages' names
        with left:
            number = choose_name(
                "Run",
                list(of_model),
                "run",
                help="Rows of different runs are never mixed. Failed runs are left out.",
                always_in_link=True,  # which run is the newest changes, and the model is the run's
            )
        run = of_model[number]
        kinds = [kind for kind in ABLATIONS if kind in run["ablations"]]
        ablation = right.selectbox("Ablation", kinds, key="ablation", bind="query-params", help=_HELP_ABLATION)
        st.caption(plain(_told(run)))
        population = choose_name(
            "Population",
            list(POPULATIONS),
            "population",
            lambda name: _capitalised(POPULATIONS[name]),
            first="top2" if run["logit_of"] == NEXT_TOKEN else "all",  # of an answer a prompt there are few rows
            help="Which rows of a head count. Top: by clean direct effect, as in the paper.",
        )
    note(model, f"run {number}", ablation, population)
    return Choice(run, ablation, population)


def runs_of_warehouse() -> list[Run]:
    """Every run, failed ones among them, the oldest first."""
    found: list[Run] = ask(RUNS).to_dicts()
    return found


_HELP_ABLATION = (
    "What stands in for the head's output: another prompt's at the same positions (resample), its mean over all prompts, "
    "or nothing (zero)."
)


def _take_model_of_linked_run(runs: list[Run]) -> None:
    """A link may name a run without its model."""
    linked = st.query_params.get("run")
    if linked is not None and linked != st.session_state.get("run in the link") and "model" not in st.query_params:
        models = {str(run["run_id"]): run["model"] for run in runs}
        if linked in models:
            st.session_state["model"] = models[linked]


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _told(run: Run) -> str:
    gone = f", {', '.join(run['given_heads'])} gone" if run["given_heads"] else ""
    return f"{run['n_prompts']:,} prompts of {dataset_of(run)}{gone}, {run['status']}"


def _say_what_the_link_lost(runs: list[Run]) -> None:
    known = {
        "model": {run["model"] for run in runs},
        "run": {str(run["run_id"]) for run in runs},
        "ablation": set(ABLATIONS),
        "population": set(POPULATIONS),
    }
    for name, values in known.items():
        wanted = st.query_params.get(name)
        if wanted is not None and wanted not in values:
            _say_once(f"The link asks for {name} '{plain(wanted[:100])}', which is not here; another one is shown.")
    model, number = st.query_params.get("model"), st.query_params.get("run")
    other: str | None = next((run["model"] for run in runs if str(run["run_id"]) == number), model)
    is_new_link = number != st.session_state.get("run in the link")
    if is_new_link and model in known["model"] and other != model:
        _say_once(
            f"Run {number} of the link is one of {plain(str(other))}; the newest of {plain(str(model))} is shown."
        )


def _say_once(text: str) -> None:
    if not st.session_state.get(f"told {text}"):
        st.session_state[f"told {text}"] = True
        st.warning(text)
