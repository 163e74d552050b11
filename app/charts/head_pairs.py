"""Do two sides agree about each head? One number of every head on one side against the other."""

import altair as alt
import polars as pl

from selfrepair.app.charts.head_colors import CHOSEN, LAYERS
from selfrepair.app.charts.head_map import pick, when
from selfrepair.app.charts.palette import REFERENCE
from selfrepair.app.showing.wording import title, words

_HEIGHT_PX = 400


def pair_scatter(pairs: pl.DataFrame, name_a: str, name_b: str, unit: str, chosen: str = "") -> alt.LayerChart:
    """A dot for each head of `pairs` (label, layer, value_a, value_b, difference); dashed, y = x.

    `name_a` and `name_b` stand on the axes of the sides, `unit` behind the difference in tooltips.
    """
    known = pairs.drop_nulls(["value_a", "value_b"])
    values = [*known["value_a"], *known["value_b"]] or [0.0]
    room = 0.04 * (max(values) - min(values)) or 0.5
    ends = [min(values) - room, max(values) + room]
    scale = alt.Scale(domain=ends, nice=False)
    x = alt.X("value_a:Q", title=name_a, scale=scale)
    y = alt.Y("value_b:Q", title=name_b, scale=scale)
    is_chosen = alt.datum.label == chosen
    same = (
        alt.Chart(pl.DataFrame({"value_a": ends, "value_b": ends}))
        .mark_line(strokeDash=[6, 4], color=REFERENCE, strokeWidth=1.5)
        .encode(x, y)
    )
    dots = (
        alt.Chart(known)
        .mark_circle(opacity=0.9)
        .encode(
            x,
            y,
            color=alt.Color(
                "layer:Q",
                title=words("layer"),
                scale=alt.Scale(scheme=LAYERS),
                legend=alt.Legend(orient="top", tickMinStep=1, format="d", gradientLength=160, gradientThickness=10),
            ),
            size=alt.SizeValue(60, condition=when(is_chosen, 170)),
            stroke=alt.StrokeValue(REFERENCE, condition=when(is_chosen, CHOSEN)),
            strokeWidth=alt.StrokeWidthValue(0.5, condition=when(is_chosen, 3)),
            tooltip=[
                alt.Tooltip("label:N", title=title("head_repair", "label")),
                alt.Tooltip("value_a:Q", title=name_a, format=".4f"),
                alt.Tooltip("value_b:Q", title=name_b, format=".4f"),
                alt.Tooltip("difference:Q", title=f"A minus B{unit}", format=".4f"),
            ],
        )
        .add_params(pick())
    )
    return alt.LayerChart(layer=[same, dots], height=_HEIGHT_PX)
