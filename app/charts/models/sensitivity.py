"""One fraction, computed in every way: a heat map of how much 'about 30 %' hangs on choices."""

import altair as alt
import polars as pl

from selfrepair.app.wording.columns import title

VIEW = "repair_sensitivity"
ROW_PX = 44

STRONGEST = 0.5
"""Fractions from here on have the strongest colour; their numbers tell them apart."""

PAPER = (
    (pl.col("top_percent") == 2) & pl.col("with_first") & pl.col("clipped") & (pl.col("average") == "mean of ratios")
)
"""The paper's own way (section 3, Figure 1)."""


def grid(fractions: pl.DataFrame) -> alt.LayerChart:
    """`fractions`: rows of `repair_sensitivity` of one part, and one head or model. The paper's own cell has a frame."""
    cells = fractions.with_columns(
        pl.concat_str(
            "average",
            pl.when("clipped").then(pl.lit(", clipped")).otherwise(pl.lit("")),
            pl.when("with_first").then(pl.lit(", with position 0")).otherwise(pl.lit(", without position 0")),
        ).alias("way"),
        PAPER.alias("paper"),
    )
    x = alt.X("top_percent:O", title=title(VIEW, "top_percent"), axis=alt.Axis(labelAngle=0, orient="top"))
    y = alt.Y("way:N", title=None, sort=WAYS, axis=alt.Axis(labelLimit=320))
    base = alt.Chart(cells, height=ROW_PX * len(WAYS)).encode(x, y)
    colored = base.mark_rect(stroke="white", strokeWidth=1).encode(
        alt.Color(
            "fraction:Q",
            title=title(VIEW, "fraction"),
            scale=alt.Scale(scheme="blueorange", domain=[STRONGEST, 0, -STRONGEST][::-1], clamp=True),
            legend=alt.Legend(format="+.0%", gradientLength=200),
        ),
        tooltip=[
            alt.Tooltip("average:N", title=title(VIEW, "average")),
            alt.Tooltip("clipped:N", title=title(VIEW, "clipped")),
            alt.Tooltip("with_first:N", title=title(VIEW, "with_first")),
            alt.Tooltip("top_percent:Q", title=title(VIEW, "top_percent")),
            alt.Tooltip("fraction:Q", title=title(VIEW, "fraction"), format=".4f"),
            alt.Tooltip("n_rows:Q", title=title(VIEW, "n_rows"), format=",d"),
            alt.Tooltip("undefined_ratios:Q", title=title(VIEW, "undefined_ratios"), format=",d"),
        ],
    )
    numbers = base.mark_text(fontSize=13).encode(
        text=alt.Text("fraction:Q", format=".1%"),
        color=alt.condition(f"abs(datum.fraction) > {0.7 * STRONGEST}", alt.value("white"), alt.value("black")),
    )
    paper = base.transform_filter("datum.paper").mark_rect(filled=False, stroke="black", strokeWidth=3)
    return colored + numbers + paper


WAYS = [
    f"{average}{clipped}{first}"
    for average in ("mean of ratios", "ratio of means")
    for clipped in (", clipped", "")
    for first in (", with position 0", ", without position 0")
]
"""The rows of the grid, the paper's own way first."""
