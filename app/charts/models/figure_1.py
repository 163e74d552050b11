"""The paper's Figure 1, self-repair by depth: a dot for each head, a line through the means of layers."""

import altair as alt
import polars as pl

from selfrepair.app.charts.style.palette import REFERENCE
from selfrepair.app.wording.columns import title

_HEIGHT_PX = 360


def by_depth(heads: pl.DataFrame, layers: pl.DataFrame, measure: str) -> alt.LayerChart:
    """`heads` has run, label, depth [%] and `measure`; `layers` has run, depth and `measure`. A colour for each run."""
    depth = alt.X("depth:Q", title=title("head_repair", "depth"), scale=alt.Scale(domain=[0, 100]))
    y = alt.Y(f"{measure}:Q", title=title("head_repair", measure))
    color = alt.Color("run:N", title="Run", legend=alt.Legend(orient="top"))
    dots = (
        alt.Chart(heads)
        .mark_circle(size=45, opacity=0.55)
        .encode(
            depth,
            y,
            color,
            tooltip=[
                alt.Tooltip("run:N", title="Run"),
                alt.Tooltip("label:N", title=title("head_repair", "label")),
                alt.Tooltip("depth:Q", title=title("head_repair", "depth"), format=".0f"),
                alt.Tooltip(f"{measure}:Q", title=title("head_repair", measure), format=".4f"),
            ],
        )
    )
    lines = alt.Chart(layers).mark_line(strokeWidth=2.5).encode(depth, y, color)
    zero = (
        alt.Chart(pl.DataFrame({"zero": [0.0]})).mark_rule(strokeDash=[4, 4], color=REFERENCE).encode(y=alt.Y("zero:Q"))
    )
    return (zero + dots + lines).properties(height=_HEIGHT_PX)
