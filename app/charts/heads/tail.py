"""The complementary distribution of one head: the share of its rows that reach a value, on logarithmic axes."""

import altair as alt
import polars as pl

from selfrepair.app.charts.style.head_colors import DOTS
from selfrepair.app.wording.columns import title

_HEIGHT_PX = 300


def tail_of_head(curve: pl.DataFrame, words: str) -> alt.Chart:
    """`curve` has value (> 0), n_reached and reached_share; `words` is the value's name with its unit."""
    share = title("tail_curve", "reached_share")
    chart: alt.Chart = (
        alt.Chart(curve)
        .mark_line(point=alt.OverlayMarkDef(size=22), color=DOTS, interpolate="step-after")
        .encode(
            alt.X("value:Q", title=words, scale=alt.Scale(type="log"), axis=alt.Axis(tickCount=6, format="~g")),
            alt.Y("reached_share:Q", title=share, scale=alt.Scale(type="log"), axis=alt.Axis(tickCount=6, format="~g")),
            tooltip=[
                alt.Tooltip("value:Q", title=words, format=".4f"),
                alt.Tooltip("reached_share:Q", title=share, format=".2~%"),
                alt.Tooltip("n_reached:Q", title=title("tail_curve", "n_reached"), format=",d"),
            ],
        )
        .properties(height=_HEIGHT_PX)
    )
    return chart
