"""The background of charts of direct effect against change in logit: the line of no self-repair, and the zones beside it."""

import altair as alt
import polars as pl

from selfrepair.app.charts.style.palette import REFERENCE

Span = tuple[float, float]

DATA_EXTENT = alt.Scale(nice=False, zero=False)
"""The scale of an axis whose ends come with the data: a browser then updates the chart instead of redrawing it."""

_NEAR = 0.45
"""Names closer than this share of the width would overlap."""


def span(values: pl.Series) -> Span:
    """From the lowest to the highest of the values, 0 included, with a margin at both ends."""
    known = values.drop_nulls().to_list()
    low, high = min(0.0, *known, 0.0), max(0.0, *known, 0.0)
    room = 0.06 * (high - low) or 0.5
    return low - room, high + room


def zones(x: Span, y: Span) -> list[alt.Chart]:
    """Layers: the dashed line y = -x and the names of the zones on its sides.

    They reach the corners of the axes `x` and `y`, so that the scale `DATA_EXTENT` needs no domain.
    """
    line = (
        alt.Chart(within(x, y, -1.0, 0.0))
        .mark_line(strokeDash=[6, 4], color=REFERENCE, strokeWidth=1.5)
        .encode(alt.X("x:Q", scale=DATA_EXTENT), alt.Y("y:Q", scale=DATA_EXTENT))
    )
    leaves_at = min(x[1], -y[0])
    # A steep line ends at the lower left, where "breakage" is: its own name then goes to its other side.
    steep = 0.8 * leaves_at - x[0] < _NEAR * (x[1] - x[0])
    words = pl.DataFrame(
        [
            ("self-repaired", x[1], y[1], "right", "top", -6, 6),
            ("breakage", x[0], y[0], "left", "bottom", 6, -6),
            ("no self-repair", 0.8 * leaves_at, -0.8 * leaves_at)
            + (("left", "bottom", 8, -4) if steep else ("right", "top", -8, 4)),
        ],
        schema=["text", "x", "y", "align", "baseline", "dx", "dy"],
        orient="row",
    )
    names = (
        alt.Chart(words)
        .mark_text(
            color=REFERENCE,
            fontSize=12,
            fontStyle="italic",
            align=alt.ExprRef("datum.align"),
            baseline=alt.ExprRef("datum.baseline"),
            dx=alt.ExprRef("datum.dx"),
            dy=alt.ExprRef("datum.dy"),
        )
        .encode(x=alt.X("x:Q"), y=alt.Y("y:Q"), text=alt.Text("text:N"))
    )
    return [line, names]


def within(x: Span, y: Span, slope: float | None, intercept: float | None) -> pl.DataFrame:
    """Both ends, `x` and `y`, of the part of a line that lies within two axes; no rows where none of it does, or without a
    line.
    """
    nothing = pl.DataFrame(schema={"x": pl.Float64, "y": pl.Float64})
    if slope is None or intercept is None:
        return nothing
    crossings = sorted((end - intercept) / slope for end in y) if slope else x
    low, high = max(x[0], crossings[0]), min(x[1], crossings[1])
    if low > high or not y[0] <= intercept + slope * (low + high) / 2 <= y[1]:
        return nothing
    return pl.DataFrame({"x": [low, high], "y": [intercept + slope * low, intercept + slope * high]})
