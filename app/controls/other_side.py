"""What a run is compared with: a second run and ablation, chosen on the page and kept in the URL."""

import dataclasses

import streamlit as st

from selfrepair.app.components.export_context import note
from selfrepair.app.controls.sidebar import runs_of_warehouse
from selfrepair.app.data.choice import Choice
from selfrepair.app.wording.escape import plain
from selfrepair.queries.catalog.which_run import Run
from selfrepair.warehouse.schema import ABLATIONS


def choose_other(choice: Choice) -> Choice | None:
    """Draw the two widgets; the other side, which is never `choice` itself. None: there is nothing to compare it with.

    At first it is another ablation of the same run.
    """
    runs = [run for run in runs_of_warehouse() if run["status"] != "failed" or run["run_id"] == choice.run["run_id"]]
    found = {str(run["run_id"]): run for run in runs if _kinds(run, choice)}
    if not found:
        return None
    _say_what_the_link_lost(set(found))
    own = str(choice.run["run_id"])
    number = st.selectbox(
        "Compare with run",
        list(found),
        index=list(found).index(own) if own in found else 0,
        key="run_b",
        bind="query-params",
        help="The number of a run, as the sidebar and selfrepair runs list them.",
        width=200,
    )
    run = found[number]
    kinds = _kinds(run, choice)
    same = number != own and choice.ablation in kinds
    ablation = st.selectbox(
        "under ablation",
        kinds,
        index=kinds.index(choice.ablation) if same else 0,
        key="ablation_b",
        bind="query-params",
        help="Of another run: at first the same ablation. Of the same run: another one.",
        width=160,
    )
    note(f"against run {number}", ablation)
    return dataclasses.replace(choice, run=run, ablation=ablation)


def named(side: Choice) -> str:
    """A side in a few words, as plain text: 'gpt2 (run 1), mean'."""
    return f"{side.run['model']} (run {side.run['run_id']}), {side.ablation}"


def _kinds(run: Run, choice: Choice) -> list[str]:
    """The run's ablations that are not the other side itself."""
    itself = choice.ablation if run["run_id"] == choice.run["run_id"] else None
    return [kind for kind in ABLATIONS if kind in run["ablations"] and kind != itself]


def _say_what_the_link_lost(runs: set[str]) -> None:
    for name, noun, values in (("run_b", "run", runs), ("ablation_b", "ablation", set(ABLATIONS))):
        wanted = st.query_params.get(name)
        if wanted is not None and wanted not in values and not st.session_state.get(f"told {name} {wanted}"):
            st.session_state[f"told {name} {wanted}"] = True
            st.warning(
                f"The link compares with {noun} '{plain(wanted[:100])}', which is not here; another one is shown."
            )
