"""A click on a picture of heads chooses the head for the whole page, and for the link to it."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import streamlit as st

from selfrepair.app.charts.heads.heatmap import PICK
from selfrepair.app.components.figure import draw


def clickable(chart: alt.Chart | alt.LayerChart, name: str) -> None:
    """Draw a chart in which `PICK` selects labels of heads, as `head_map.pick` does."""
    before: list[str] = []
    draw(chart, key=name, on_select=lambda: take(before, st.session_state[name]))
    before += _labels(st.session_state.get(name))  # of a browser that knew an earlier server, from the first time on


def take(before: Sequence[str], event: Any) -> None:
    """Choose the head of a click: the one that it put into the selection of `before`, or took out of it."""
    after = _labels(event)
    changed = [label for label in after if label not in before] or [label for label in before if label not in after]
    if changed:
        st.session_state["head"] = changed[-1]


def _labels(event: Any) -> list[str]:
    """Labels of the selected heads in the order of clicks, as Streamlit tells them."""
    return [picked["label"] for picked in event["selection"].get(PICK) or []] if event else []
