"""A click on a chart of heads chooses the head for the whole page, and for the link to it."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import streamlit as st

from selfrepair.app.charts.heads.heatmap import HEAD_SELECTION
from selfrepair.app.components.figure import draw_chart
from selfrepair.app.data.chosen import choose


def clickable_chart(chart: alt.Chart | alt.LayerChart, name: str) -> None:
    """Draw a chart in which `HEAD_SELECTION` selects labels of heads, as `heatmap.head_selection` does."""
    before: list[str] = []
    draw_chart(chart, key=name, on_select=lambda: select_clicked(before, st.session_state[name]))
    before += _labels(
        st.session_state.get(name)
    )  # not empty at first in a browser that was connected to an earlier server


def select_clicked(before: Sequence[str], event: Any) -> None:
    """Choose the clicked head: the one that the click added to the selection `before`, or removed from it."""
    after = _labels(event)
    changed = [label for label in after if label not in before] or [label for label in before if label not in after]
    if changed:
        choose("head", changed[-1])


def _labels(event: Any) -> list[str]:
    """Labels of the selected heads in the order of clicks, from Streamlit's event."""
    return [selected["label"] for selected in event["selection"].get(HEAD_SELECTION) or []] if event else []
