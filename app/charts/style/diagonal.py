"""The dashed line y = x, the reference of charts of two values of the same quantity."""

import altair as alt
import polars as pl

from selfrepair.app.charts.style.palette import REFERENCE
from selfrepair.app.charts.style.zones import Span


def diagonal(x: Span, y: Span) -> alt.Chart:
    """The part of the line that lies within both axes."""
    ends = [max(x[0], y[0]), min(x[1], y[1])]
    line: alt.Chart = (
        alt.Chart(pl.DataFrame({"x": ends, "y": ends}))
        .mark_line(strokeDash=[6, 4], color=REFERENCE, strokeWidth=1.5, clip=True)
        .encode(
            alt.X("x:Q", scale=alt.Scale(domain=list(x), nice=False)),
            alt.Y("y:Q", scale=alt.Scale(domain=list(y), nice=False)),
        )
    )
    return line
