"""Which measure of the heads is shown: one of all that the warehouse has."""

import streamlit as st

from selfrepair.app.controls.named_list import choose_name
from selfrepair.app.data.measures import EFFECTS, Measure, measures
from selfrepair.app.wording.columns import effect_words, words


def choose_measure() -> Measure:
    """Draw the widget of all measures."""
    wanted = st.query_params.get("measure")
    if wanted is not None and wanted not in measures() and not st.session_state.get(f"told measure {wanted}"):
        st.session_state[f"told measure {wanted}"] = True
        st.warning("The link asks for a measure that heads do not have; another one is shown.")
    name = choose_name(
        "Measure",
        list(measures()),
        "measure",
        words,
        first="mean_self_repair",
        help="A column of head_repair, head_noise or head_tail. What it is called there, the SQL below the map has.",
        width=320,
    )
    return measures()[name]


def choose_effect() -> str:
    """Draw the widget of `EFFECTS`."""
    return choose_name(
        "Tails of",
        EFFECTS,
        "effect",
        effect_words,
        first="abs_self_repair",
        help="Which number of a row it is whose tail is described. Size: without the sign, abs_ in the views.",
        width=280,
    )
