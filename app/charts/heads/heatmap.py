"""Heat map of one number, layer x head; a click chooses a head."""

import altair as alt
import polars as pl

from selfrepair.app.charts.style.color_domain import color_domain
from selfrepair.app.charts.style.color_scale import diverging, legend
from selfrepair.app.charts.style.head_colors import CHOSEN, SEQUENTIAL
from selfrepair.app.charts.style.palette import REFERENCE
from selfrepair.app.wording.columns import title

HEAD_SELECTION = "cell"
"""The selection of the clicked cell; it holds the head's `label`."""

_CELL_PX = 26
_MARGIN_PX = 130  # legend and axis, which the height of a chart in a page includes
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

    `words` is the value's name with its unit. Colours diverge from `centre`, if there is one, and span `domain`, by default
    that of `heads`. The head with the label `chosen` has a frame; `also` are further tooltips.
    """
    ends = domain or color_domain([heads[value]], centre)
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
        .add_params(head_selection())
    )
    frame = (
        alt.Chart(chosen_row(heads, chosen).select("layer", "head"))
        .mark_rect(filled=False, stroke=CHOSEN, strokeWidth=3, tooltip=None)
        .encode(x, y)
    )
    height = min(_HIGHEST_PX, max(_LOWEST_PX, _MARGIN_PX + _CELL_PX * heads["layer"].n_unique()))
    return alt.LayerChart(layer=[cells, frame], height=height)


def head_selection() -> alt.Parameter:
    """The selection by clicks, for any chart of heads. A click on a selected head removes it from the selection."""
    return alt.selection_point(name=HEAD_SELECTION, fields=["label"], toggle="true", clear=False)


def chosen_row(heads: pl.DataFrame, chosen: str) -> pl.DataFrame:
    """The row of the `chosen` head, drawn on top: for another head a browser updates this row alone, not the chart."""
    return heads.filter(pl.col("label") == chosen)
