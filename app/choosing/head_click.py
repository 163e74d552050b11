"""A click on a picture of heads chooses the head for the whole page, and for the link to it."""

from typing import Any

import altair as alt
import streamlit as st

from selfrepair.app.charts.head_map import PICK
from selfrepair.app.showing.figure import draw


def clickable(chart: alt.Chart | alt.LayerChart, name: str, chosen: str) -> None:
    """Draw a chart in which `PICK` selects the label of a head; `chosen` is the one that is chosen now."""
    # With the chosen head in its key the chart is a new one after every choice: no click of before is left in it, which
    # would make the next click on the same head no change.
    key = f"{name} {chosen}"
    draw(chart, key=key, on_select=lambda: take(st.session_state[key]))


def take(event: Any) -> None:
    """Choose the head of a click, as Streamlit tells it; a click beside all heads changes nothing."""
    picked = event["selection"].get(PICK) or []
    if picked:
        st.session_state["head"] = picked[0]["label"]
