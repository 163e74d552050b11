"""Which head is looked at: the same widget, URL parameter and first choice on every page."""

import polars as pl
import streamlit as st

from selfrepair.app.components.export_context import note
from selfrepair.app.controls.named_list import choose_name
from selfrepair.app.data.answers import ask
from selfrepair.app.data.choice import Choice


def heads_of_run(choice: Choice) -> pl.DataFrame:
    """label, layer, head and mean_direct_effect [logits] over all positions of the run's heads, in order of layer, head.

    Empty as long as the run has no summaries.
    """
    return ask(
        f"SELECT label, layer, head, mean_direct_effect\nFROM head_repair\nWHERE {choice.where_rows} AND population = 'all'\n"
        "ORDER BY layer, head"
    )


def choose_head(heads: pl.DataFrame, *, disabled: bool = False) -> str:
    """Draw the widget; the label of one of `heads` (not empty). Before any choice: the one of the highest direct effect.

    Draw it `disabled`, rather than not at all, where no head is needed: the link keeps the head that way.
    """
    labels = heads["label"].to_list()
    wanted = st.query_params.get("head")
    if wanted is not None and wanted not in labels and not st.session_state.get(f"told head {wanted}"):
        st.session_state[f"told head {wanted}"] = True
        st.sidebar.warning("The link asks for a head that this run has not measured; another one is shown.")
    label = choose_name(
        "Head",
        labels,
        "head",
        first=labels[heads["mean_direct_effect"].arg_max() or 0],
        help="Begin to type a name such as L4H3. At first it is the head with the highest mean direct effect.",
        disabled=disabled,
        width=160,
    )
    if not disabled:
        note(label)
    return label
