"""Direct effect against change in logit, of heads and of single rows: above the line y = -x there is self-repair."""

from typing import TypeVar

import altair as alt
import polars as pl

from selfrepair.app.charts.heads.dots import dots_by_layer
from selfrepair.app.charts.style.head_colors import CHOSEN, DOTS
from selfrepair.app.charts.style.zones import DATA_EXTENT, span, within, zones
from selfrepair.app.wording.columns import title, words
from selfrepair.app.wording.whitespace import whitespace_column

_HEIGHT_PX = 380

_Axis = TypeVar("_Axis", alt.X, alt.Y)


def head_scatter(heads: pl.DataFrame, chosen: str = "") -> alt.LayerChart:
    """A dot for each head, coloured by layer: label, layer, mean_direct_effect and mean_logit_change of `heads`."""
    x, y = span(heads["mean_direct_effect"]), span(heads["mean_logit_change"])
    dots = dots_by_layer(
        heads,
        _axis(alt.X, "head_repair", "mean_direct_effect"),
        _axis(alt.Y, "head_repair", "mean_logit_change"),
        [
            alt.Tooltip("label:N", title=title("head_repair", "label")),
            *(
                alt.Tooltip(f"{name}:Q", title=title("head_repair", name), format=".4f")
                for name in ("mean_direct_effect", "mean_logit_change", "mean_self_repair")
            ),
        ],
        chosen,
    )
    return alt.LayerChart(layer=[*zones(x, y), *dots], height=_HEIGHT_PX)


def row_scatter(rows: pl.DataFrame, slope: float | None, intercept: float | None) -> alt.LayerChart:
    """A dot for each row of one head, with its tokens, and the regression line of all rows, where there is one.

    `rows` has prompt_id, pos, token, target, direct_effect, logit_change and self_repair.
    """
    x, y = span(rows["direct_effect"]), span(rows["logit_change"])
    dots = (
        alt.Chart(rows.with_columns(whitespace_column("token"), whitespace_column("target")))
        .mark_circle(size=18, opacity=0.45, color=DOTS)
        .encode(
            _axis(alt.X, "self_repair", "direct_effect"),
            _axis(alt.Y, "self_repair", "logit_change"),
            tooltip=[
                alt.Tooltip("token:N", title=words("token")),
                alt.Tooltip("target:N", title=words("target")),
                *(
                    alt.Tooltip(f"{name}:Q", title=title("self_repair", name), format=".4f")
                    for name in ("direct_effect", "logit_change", "self_repair")
                ),
                alt.Tooltip("prompt_id:Q", title=words("prompt_id"), format="d"),
                alt.Tooltip("pos:Q", title=words("pos"), format="d"),
            ],
        )
    )
    fit = (
        alt.Chart(within(x, y, slope, intercept))
        .mark_line(color=CHOSEN, strokeWidth=2)
        .encode(x=alt.X("x:Q"), y=alt.Y("y:Q"))
    )
    # thousands of marks: a canvas draws them in a third of the time of the usual SVG
    on_canvas = {"embedOptions": {"renderer": "canvas"}}
    return alt.LayerChart(layer=[*zones(x, y), dots, fit], height=_HEIGHT_PX, usermeta=on_canvas)


def _axis(channel: type[_Axis], view: str, name: str) -> _Axis:
    return channel(f"{name}:Q", title=title(view, name), scale=DATA_EXTENT)
