"""A layer x head heat map of one number; a click chooses a head."""

import altair as alt
import polars as pl

from selfrepair.app.charts.style.color_domain import domain_of
from selfrepair.app.charts.style.color_scale import diverging, legend
from selfrepair.app.charts.style.head_colors import CHOSEN, SEQUENTIAL
from selfrepair.app.charts.style.palette import REFERENCE
from selfrepair.app.wording.columns import title

PICK = "cell"
"""The selection of the clicked cell; it holds the head's `label`."""

_CELL_PX = 26
_AROUND_PX = 130  # legend and axis, which the height of a chart in a page includes
_LOWEST_PX, _HIGHEST_PX = 300, 760


def head_map(
    heads: pl.DataFrame,
    value: str,
    *,
    words: str,
    centre: float | None = None,
    chosen: str = "",
    domain: tuple[float, float] | None = None,
    also: tuple[alt.Tooltip, ...] = (),
) -> alt.LayerChart:
    """A cell for each of `heads` (layer, head, label and the column `value`), grey where it is NULL.

    `words` names the value with its unit. Colours diverge from `centre`, where there is one; they span `domain`, which is
    that of `heads` alone if not given. `chosen` is the label of the head with a frame; `also` adds to what a hover shows.
    """
    ends = domain or domain_of([heads[value]], centre)
    scale = alt.Scale(scheme=SEQUENTIAL, domain=list(ends), clamp=True) if centre is None else diverging(ends)
    color = alt.Color(
        f"{value}:Q",
        title=words,
        scale=scale,
        legend=legend(),
    )
    x = alt.X("head:O", title=title("head_repair", "head"), axis=alt.Axis(labelAngle=0))
    y = alt.Y("layer:O", title=title("head_repair", "layer"))
    cells = (
        alt.Chart(heads)
        .mark_rect(invalid=None)
        .encode(
            x,
            y,
            color=color.condition(test=f"!isValid(datum['{value}'])", value=f"{REFERENCE}55"),
            tooltip=[
                alt.Tooltip("label:N", title=title("head_repair", "label")),
                alt.Tooltip(f"{value}:Q", title=words, format=".4f"),
                *also,
            ],
        )
        .add_params(pick())
    )
    frame = (
        alt.Chart(only(heads, chosen).select("layer", "head"))
        .mark_rect(filled=False, stroke=CHOSEN, strokeWidth=3, tooltip=None)
        .encode(x, y)
    )
    height = min(_HIGHEST_PX, max(_LOWEST_PX, _AROUND_PX + _CELL_PX * heads["layer"].n_unique()))
    return alt.LayerChart(layer=[cells, frame], height=height)


def pick() -> alt.Parameter:
    """The selection by a click, for any chart of heads. Each click changes it: on a head in it, it takes that out."""
    return alt.selection_point(name=PICK, fields=["label"], toggle="true", clear=False)


def only(heads: pl.DataFrame, chosen: str) -> pl.DataFrame:
    """The row of the `chosen` head, to be drawn on top: for another one a browser changes this row alone, not the chart."""
    return heads.filter(pl.col("label") == chosen)
