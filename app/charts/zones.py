"""The ground of every picture of direct effect against change in logit: the line of no self-repair, and what lies beside it."""

from typing import Any, Literal

import altair as alt
import polars as pl

from selfrepair.app.charts.palette import REFERENCE

Span = tuple[float, float]

_NEAR = 0.45
"""Up to this share of the width two names may not stand beside each other."""


def span(values: pl.Series) -> Span:
    """From the lowest to the highest of the values, 0 among them, with room at both ends."""
    known = values.drop_nulls().to_list()
    low, high = min(0.0, *known, 0.0), max(0.0, *known, 0.0)
    room = 0.06 * (high - low) or 0.5
    return low - room, high + room


def zones(x: Span, y: Span) -> alt.LayerChart:
    """The dashed line y = -x and the names of what it parts, drawn into the axes `x` and `y`."""
    ends = pl.DataFrame({"x": [x[0], x[1]], "y": [-x[0], -x[1]]})
    line = (
        alt.Chart(ends)
        .mark_line(strokeDash=[6, 4], color=REFERENCE, clip=True, strokeWidth=1.5)
        .encode(
            alt.X("x:Q", scale=alt.Scale(domain=list(x), nice=False)),
            alt.Y("y:Q", scale=alt.Scale(domain=list(y), nice=False)),
        )
    )
    leaves_at = min(x[1], -y[0])
    # A steep line leaves low on the left, where "breakage" stands: its name then goes to its other side.
    steep = 0.8 * leaves_at - x[0] < _NEAR * (x[1] - x[0])
    side: dict[str, Any] = (
        {"align": "left", "baseline": "bottom", "dx": 8, "dy": -4}
        if steep
        else {"align": "right", "baseline": "top", "dx": -8, "dy": 4}
    )
    return alt.LayerChart(
        layer=[
            line,
            _word("self-repaired", (x[1], y[1]), align="right", baseline="top", dx=-6, dy=6),
            _word("breakage", (x[0], y[0]), align="left", baseline="bottom", dx=6, dy=-6),
            _word("no self-repair", (0.8 * leaves_at, -0.8 * leaves_at), **side),
        ]
    )


def _word(
    text: str,
    place: tuple[float, float],
    *,
    align: Literal["left", "right"],
    baseline: Literal["top", "bottom"],
    dx: int,
    dy: int,
) -> alt.Chart:
    frame = pl.DataFrame({"x": [place[0]], "y": [place[1]], "text": [text]})
    word: alt.Chart = (
        alt.Chart(frame)
        .mark_text(color=REFERENCE, fontSize=12, fontStyle="italic", align=align, baseline=baseline, dx=dx, dy=dy)
        .encode(x=alt.X("x:Q"), y=alt.Y("y:Q"), text=alt.Text("text:N"))
    )
    return word
