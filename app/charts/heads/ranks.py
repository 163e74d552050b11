"""Does ablation find the important heads? Ranks by direct effect against ranks by ablation."""

import altair as alt
import polars as pl

from selfrepair.app.charts.heads.heatmap import head_selection
from selfrepair.app.charts.style.head_colors import CHOSEN
from selfrepair.app.charts.style.palette import REFERENCE
from selfrepair.app.wording.columns import title

VIEW = "importance_rank"
BY_EFFECT, BY_CHANGE = "direct_effect_rank", "logit_change_rank"
MISSED, FOUND = "#e8590c", "#7a8fa6"
"""Colours of the heads that a ranking by ablation misses, and of all others."""

N_NAMED = 10
"""Number of labelled heads: those that move most; all missed ones are labelled, too."""


def effect_against_ablation(heads: pl.DataFrame, chosen: str) -> alt.LayerChart:
    """`heads`: rows of `importance_rank` of one run, ablation and population. Dashed: y = x.

    A click on a head is the selection `heatmap.HEAD_SELECTION`; `chosen`, a label, has a ring.
    """
    heads = heads.with_columns(
        pl.when("missed_in_top10").then(pl.lit("missed in the top 10")).otherwise(pl.lit("other heads")).alias("found")
    )
    last = max(heads.height, 2)
    x = alt.X(f"{BY_EFFECT}:Q", title=title(VIEW, BY_EFFECT), scale=alt.Scale(domain=[0, last + 1], nice=False))
    y = alt.Y(f"{BY_CHANGE}:Q", title=title(VIEW, BY_CHANGE), scale=alt.Scale(domain=[0, last + 1], nice=False))
    color = alt.Color(
        "found:N",
        title=None,
        scale=alt.Scale(domain=["missed in the top 10", "other heads"], range=[MISSED, FOUND]),
        legend=alt.Legend(orient="top"),
    )
    dots = (
        alt.Chart(heads, height=460)
        .mark_point(filled=True, size=70, opacity=0.85)
        .encode(
            x,
            y,
            color,
            alt.Shape(
                "found:N",
                title=None,
                scale=alt.Scale(domain=["missed in the top 10", "other heads"], range=["diamond", "circle"]),
            ),
            tooltip=[
                alt.Tooltip("label:N", title="Head"),
                *(
                    alt.Tooltip(f"{name}:Q", title=title(VIEW, name))
                    for name in (BY_EFFECT, BY_CHANGE, "rank_difference")
                ),
                *(
                    alt.Tooltip(f"{name}:Q", title=title(VIEW, name), format=".4f")
                    for name in ("mean_direct_effect", "mean_logit_change", "mean_self_repair")
                ),
                alt.Tooltip("missed_in_top10:N", title=title(VIEW, "missed_in_top10")),
                alt.Tooltip("missed_in_top20:N", title=title(VIEW, "missed_in_top20")),
            ],
        )
    )
    ring = (
        alt.Chart(heads.filter(pl.col("label") == chosen))
        .mark_point(shape="circle", size=220, color=CHOSEN, strokeWidth=2.5)
        .encode(x, y)
    )
    names = (
        alt.Chart(heads.filter(is_labelled(heads)))
        .mark_text(align="left", dx=8, fontSize=12)
        .encode(x, y, text=alt.Text("label:N"), color=color)
    )
    same = alt.Chart(pl.DataFrame({BY_EFFECT: [1, last], BY_CHANGE: [1, last]}))
    return (
        same.mark_line(color=REFERENCE, strokeDash=[5, 4]).encode(x, y)
        + ring
        + names
        + dots.add_params(head_selection())
    )


def is_labelled(heads: pl.DataFrame) -> pl.Series:
    """Which of the heads are labelled; heads with the same rank twice never are."""
    moved = heads["rank_difference"].abs()
    return heads["missed_in_top10"] | ((moved.rank("ordinal", descending=True) <= N_NAMED) & (moved > 0))
