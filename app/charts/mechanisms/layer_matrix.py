"""Repair between layers, as a matrix."""

import altair as alt
import polars as pl

from selfrepair.app.charts.style.color_scale import diverging, legend
from selfrepair.app.wording.columns import title

VIEW = "repair_matrix"
_CELL_PX = 30
_MARGIN_PX = 130
_LOWEST_PX, _HIGHEST_PX = 300, 760


def layer_matrix(pairs: pl.DataFrame, target: str, domain: tuple[float, float]) -> alt.Chart:
    """A cell for each of `pairs`: rows are layers of ablated heads, columns layers of `target`; colours span `domain`."""
    chart: alt.Chart = (
        alt.Chart(pairs)
        .mark_rect()
        .encode(
            alt.X("target_layer:O", title=f"Layer of {target}", axis=alt.Axis(labelAngle=0)),
            alt.Y("layer:O", title="Layer of the ablated heads"),
            alt.Color(
                "mean_change:Q",
                title=title(VIEW, "mean_change"),
                scale=diverging(domain),
                legend=legend(),
            ),
            tooltip=[
                alt.Tooltip("layer:O", title="Layer of the ablated heads"),
                alt.Tooltip("target_layer:O", title=f"Layer of {target}"),
                alt.Tooltip("mean_change:Q", title=title(VIEW, "mean_change"), format=".4f"),
                alt.Tooltip("share_of_effect:Q", title=title(VIEW, "share_of_effect"), format=".1%"),
                alt.Tooltip("n_heads:Q", title=title(VIEW, "n_heads"), format=",d"),
            ],
        )
        .properties(height=min(_HIGHEST_PX, max(_LOWEST_PX, _MARGIN_PX + _CELL_PX * pairs["layer"].n_unique())))
    )
    return chart
