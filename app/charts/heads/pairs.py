"""Scatter plot of two sides: one number of every head on one side against the other."""

import altair as alt
import polars as pl

from selfrepair.app.charts.heads.dots import dots_by_layer
from selfrepair.app.charts.style.diagonal import diagonal
from selfrepair.app.wording.columns import title

_HEIGHT_PX = 400


def pair_scatter(pairs: pl.DataFrame, name_a: str, name_b: str, unit: str, chosen: str = "") -> alt.LayerChart:
    """A dot for each head of `pairs` (label, layer, value_a, value_b, difference); dashed, y = x.

    `name_a` and `name_b` are the titles of the axes, `unit` is the suffix of the difference in tooltips.
    """
    known = pairs.drop_nulls(["value_a", "value_b"])
    values = [*known["value_a"], *known["value_b"]] or [0.0]
    room = 0.04 * (max(values) - min(values)) or 0.5
    ends = min(values) - room, max(values) + room
    scale = alt.Scale(domain=list(ends), nice=False)
    dots = dots_by_layer(
        known,
        alt.X("value_a:Q", title=name_a, scale=scale),
        alt.Y("value_b:Q", title=name_b, scale=scale),
        [
            alt.Tooltip("label:N", title=title("head_repair", "label")),
            alt.Tooltip("value_a:Q", title=name_a, format=".4f"),
            alt.Tooltip("value_b:Q", title=name_b, format=".4f"),
            alt.Tooltip("difference:Q", title=f"A minus B{unit}", format=".4f"),
        ],
        chosen,
    )
    return alt.LayerChart(layer=[diagonal(ends, ends), *dots], height=_HEIGHT_PX)
