"""Scatter plot of heads, coloured by layer: one of their numbers against another. A click chooses a head."""

from collections.abc import Sequence

import altair as alt
import polars as pl

from selfrepair.app.charts.heads.heatmap import chosen_row, head_selection
from selfrepair.app.charts.style.diagonal import diagonal
from selfrepair.app.charts.style.head_colors import CHOSEN, LAYERS
from selfrepair.app.charts.style.palette import REFERENCE
from selfrepair.app.charts.style.zones import span
from selfrepair.app.wording.columns import title, words

_HEIGHT_PX = 420


def head_dots(heads: pl.DataFrame, view: str, x: str, y: str, chosen: str, more: Sequence[str] = ()) -> alt.LayerChart:
    """A dot for each of `heads` (label, layer and columns of `view`), at columns `x` and `y`; dashed: y = x.

    `more` are further columns of the tooltip.
    """
    known = heads.drop_nulls([x, y])
    ends = span(pl.concat([known[x], known[y]]))
    scale = alt.Scale(domain=list(ends), nice=False)
    dots = dots_by_layer(
        known,
        alt.X(f"{x}:Q", title=title(view, x), scale=scale),
        alt.Y(f"{y}:Q", title=title(view, y), scale=scale),
        [
            alt.Tooltip("label:N", title="Head"),
            *(alt.Tooltip(f"{name}:Q", title=title(view, name), format=_format(heads, name)) for name in (x, y, *more)),
        ],
        chosen,
    )
    return alt.LayerChart(layer=[diagonal(ends, ends), *dots], height=_HEIGHT_PX)


def dots_by_layer(
    heads: pl.DataFrame, x: alt.X, y: alt.Y, tooltip: Sequence[alt.Tooltip], chosen: str
) -> list[alt.Chart]:
    """Two layers: the dots of `heads` (label, layer and the columns of the channels), and the `chosen` one larger and framed.

    A click on a head is the selection `heatmap.HEAD_SELECTION`.
    """
    color = alt.Color(
        "layer:Q",
        title=words("layer"),
        scale=alt.Scale(scheme=LAYERS),
        legend=alt.Legend(orient="top", tickMinStep=1, format="d", gradientLength=160, gradientThickness=10),
    )
    dots = (
        alt.Chart(heads)
        .mark_circle(opacity=0.9, size=60, stroke=REFERENCE, strokeWidth=0.5)
        .encode(x, y, color, tooltip=list(tooltip))
        .add_params(head_selection())
    )
    framed = (
        alt.Chart(chosen_row(heads, chosen))
        .mark_circle(opacity=0.9, size=170, stroke=CHOSEN, strokeWidth=3, tooltip=None)
        .encode(x, y, color)
    )
    return [dots, framed]


def _format(frame: pl.DataFrame, name: str) -> str:
    return ",d" if frame.schema[name].is_integer() else ".4f"
