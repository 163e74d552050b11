"""Does the definition matter? A heat map of the fraction of self-repair under every definition."""

import altair as alt
import polars as pl

from selfrepair.app.wording.columns import title

VIEW = "repair_sensitivity"
ROW_PX = 44

SATURATION = 0.5
"""Colours saturate at this fraction; the numbers in the cells do not."""

PAPER = (
    (pl.col("top_percent") == 2) & pl.col("with_first") & pl.col("clipped") & (pl.col("average") == "mean of ratios")
)
"""The paper's definition (section 3, Figure 1)."""


def sensitivity_grid(fractions: pl.DataFrame) -> alt.LayerChart:
    """`fractions`: rows of `repair_sensitivity` of one component, and one head or model. Framed: the paper's definition."""
    cells = fractions.with_columns(
        pl.concat_str(
            "average",
            pl.when("clipped").then(pl.lit(", clipped")).otherwise(pl.lit("")),
            pl.when("with_first").then(pl.lit(", with position 0")).otherwise(pl.lit(", without position 0")),
        ).alias("definition"),
        PAPER.alias("paper"),
    )
    x = alt.X("top_percent:O", title=title(VIEW, "top_percent"), axis=alt.Axis(labelAngle=0, orient="top"))
    y = alt.Y("definition:N", title=None, sort=DEFINITIONS, axis=alt.Axis(labelLimit=320))
    base = alt.Chart(cells, height=ROW_PX * len(DEFINITIONS)).encode(x, y)
    colored = base.mark_rect(stroke="white", strokeWidth=1).encode(
        alt.Color(
            "fraction:Q",
            title=title(VIEW, "fraction"),
            scale=alt.Scale(scheme="blueorange", domain=[-SATURATION, 0, SATURATION], clamp=True),
            legend=alt.Legend(format="+.0%", gradientLength=200),
        ),
        tooltip=[
            alt.Tooltip("average:N", title=title(VIEW, "average")),
            alt.Tooltip("clipped:N", title=title(VIEW, "clipped")),
            alt.Tooltip("with_first:N", title=title(VIEW, "with_first")),
            alt.Tooltip("top_percent:Q", title=title(VIEW, "top_percent")),
            *(
                alt.Tooltip(f"{name}:Q", title=title(VIEW, name), format=".4f")
                for name in ("fraction", "fraction_low", "fraction_high")
            ),
            alt.Tooltip("n_rows:Q", title=title(VIEW, "n_rows"), format=",d"),
            alt.Tooltip("undefined_ratios:Q", title=title(VIEW, "undefined_ratios"), format=",d"),
        ],
    )
    numbers = base.mark_text(fontSize=13).encode(
        text=alt.Text("fraction:Q", format=".1%"),
        color=alt.condition(f"abs(datum.fraction) > {0.7 * SATURATION}", alt.value("white"), alt.value("black")),
    )
    paper = base.transform_filter("datum.paper").mark_rect(filled=False, stroke="black", strokeWidth=3)
    return colored + numbers + paper


DEFINITIONS = [
    f"{average}{clipped}{first}"
    for average in ("mean of ratios", "ratio of means")
    for clipped in (", clipped", "")
    for first in (", with position 0", ", without position 0")
]
"""The rows of the grid, the paper's definition first."""
