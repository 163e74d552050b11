"""The chosen head: the same widget, link parameter and default on every page."""

import polars as pl
import streamlit as st

from selfrepair.app.controls.linked import linked_selectbox
from selfrepair.app.data.choice import Choice
from selfrepair.app.data.query import query_frame


def run_heads(choice: Choice) -> pl.DataFrame:
    """label, layer, head and mean_direct_effect [logits] over all positions of the run's heads, ordered by layer, head.

    Empty as long as the run has no summaries.
    """
    return query_frame(
        f"SELECT label, layer, head, mean_direct_effect\nFROM head_repair\nWHERE {choice.where_rows} AND population = 'all'\n"
        "ORDER BY layer, head"
    )


def heads_or_stop(choice: Choice) -> pl.DataFrame:
    """`run_heads`; ends the page with the next step where the run has no summaries."""
    heads = run_heads(choice)
    if heads.is_empty():
        st.info(
            "This run has no summaries, or failed its cross-check: run `selfrepair refresh`, then `selfrepair runs`.",
            icon=":material/info:",
        )
        st.stop()
    return heads


def choose_head(heads: pl.DataFrame, *, disabled: bool = False) -> str:
    """Draw the widget; the label of one of `heads` (not empty), at first the one with the highest direct effect.

    Where no head is needed, draw it `disabled`.
    """
    labels: list[str] = heads["label"].to_list()
    return linked_selectbox(
        "Head",
        labels,
        "head",
        first=labels[heads["mean_direct_effect"].arg_max() or 0],
        where="in this run",
        help="Type a label such as L4H3. Default: the head with the highest mean direct effect (direct logit attribution).",
        disabled=disabled,
        width=160,
    )
