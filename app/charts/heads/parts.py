"""One head's self-repair by component: a bar with its interval for each, and their total."""

import altair as alt
import polars as pl

from selfrepair.app.charts.style.palette import PARTS, REFERENCE

COLORS = {"total": REFERENCE, **PARTS}
"""The total and the components, in the order of the bars."""

_HEIGHT_PX = 240
_WHISKERS = {"white": 4.0, "#333a44": 2.0}
"""Colours and widths [pixels], drawn one over the other: visible on every bar and on both themes."""


def part_bars(parts: pl.DataFrame, words: str, form: str) -> alt.LayerChart:
    """`parts` has part (a name in `COLORS`), value, low and high; no interval where these are NULL.

    `words` is the value's name with its unit, `form` its d3 format.
    """
    base = alt.Chart(parts).encode(
        alt.Y("part:N", title=None, sort=list(COLORS), axis=alt.Axis(labelFontSize=13)),
        tooltip=[
            alt.Tooltip("part:N", title="Component"),
            alt.Tooltip("value:Q", title=words, format=form),
            alt.Tooltip("low:Q", title="Interval from", format=form),
            alt.Tooltip("high:Q", title="to", format=form),
        ],
    )
    bars = base.mark_bar(height={"band": 0.6}, opacity=0.65).encode(
        alt.X("value:Q", title=words, axis=alt.Axis(format=form, tickCount=6)),
        alt.Color("part:N", scale=alt.Scale(domain=list(COLORS), range=list(COLORS.values())), legend=None),
    )
    whiskers = [
        base.mark_rule(strokeWidth=width, color=color).encode(x=alt.X("low:Q"), x2=alt.X2("high"))
        for color, width in _WHISKERS.items()
    ]
    zero = (
        alt.Chart(pl.DataFrame({"zero": [0.0]})).mark_rule(color=REFERENCE, strokeDash=[4, 4]).encode(x=alt.X("zero:Q"))
    )
    return alt.LayerChart(layer=[zero, bars, *whiskers], height=_HEIGHT_PX)
