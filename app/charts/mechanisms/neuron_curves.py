"""Sparsity of neurons: the changes in a row in order of size, against the direct effect and cumulated."""

from collections.abc import Mapping

import altair as alt
import polars as pl

from selfrepair.app.charts.style.head_colors import DOTS
from selfrepair.app.charts.style.palette import REFERENCE
from selfrepair.app.wording.columns import title

VIEW = "neuron_sparsity"
HEIGHT_PX = 360
LINES = ("#8a63d2", "#3d8fd1", "#009e73", "#e69f00", "#d6317f")
"""Colours of the shares that a change may exceed, the largest share first."""


def exceedance_curves(curve: pl.DataFrame, exceeded: Mapping[str, float]) -> alt.Chart:
    """A line for each of `exceeded`, columns of `curve` (nth, n_rows) by the share of the direct effect that they exceed."""
    shares = {name: f"{100 * share:g} %" for name, share in exceeded.items()}
    lines = curve.select("nth", "n_rows", *exceeded).unpivot(
        list(exceeded), index=["nth", "n_rows"], variable_name="column", value_name="share"
    )
    lines = lines.with_columns(pl.col("column").replace_strict(shares).alias("above"))
    chart: alt.Chart = (
        alt.Chart(lines, height=HEIGHT_PX)
        .mark_line(point={"size": 18, "filled": True})
        .encode(
            _nth(),
            alt.Y("share:Q", title="Share of rows [ratio]", scale=alt.Scale(domain=[0, 1])),
            alt.Color(
                "above:O",
                title="nth change exceeds this share of the direct effect",
                sort=list(shares.values()),
                scale=alt.Scale(domain=list(shares.values()), range=list(LINES)),
                legend=alt.Legend(orient="top", symbolType="stroke", symbolStrokeWidth=3, titleLimit=400),
            ),
            tooltip=[
                alt.Tooltip("nth:Q", title=title(VIEW, "nth"), format="d"),
                alt.Tooltip("above:O", title="Exceeded share of the direct effect"),
                alt.Tooltip("share:Q", title="Share of rows", format=".1%"),
                alt.Tooltip("n_rows:Q", title=title(VIEW, "n_rows"), format=",d"),
            ],
        )
    )
    return chart


def cumulative_curve(curve: pl.DataFrame) -> alt.LayerChart:
    """The share of the total |change| in the n largest; dashed: half."""
    half = alt.Chart(pl.DataFrame({"half": [0.5]})).mark_rule(color=REFERENCE, strokeDash=[6, 4])
    line = (
        alt.Chart(curve)
        .mark_line(color=DOTS, point={"size": 18, "filled": True, "color": DOTS})
        .encode(
            _nth(),
            alt.Y("cumulative_share:Q", title=title(VIEW, "cumulative_share"), scale=alt.Scale(domain=[0, 1])),
            tooltip=[
                alt.Tooltip("nth:Q", title=title(VIEW, "nth"), format="d"),
                alt.Tooltip("cumulative_share:Q", title=title(VIEW, "cumulative_share"), format=".1%"),
                alt.Tooltip("mean_cumulative_change:Q", title=title(VIEW, "mean_cumulative_change"), format=".4f"),
                alt.Tooltip("mean_nth_change:Q", title=title(VIEW, "mean_nth_change"), format=".4f"),
            ],
        )
    )
    return alt.LayerChart(layer=[half.encode(y=alt.Y("half:Q")), line], height=HEIGHT_PX)


def _nth() -> alt.X:
    return alt.X("nth:Q", title="Neurons of a row, the largest change first", scale=alt.Scale(nice=False, zero=False))
