"""The later heads and MLPs that change most when one head is ablated: a bar with its interval for each."""

import altair as alt
import polars as pl

from selfrepair.app.charts.style.palette import PARTS, REFERENCE
from selfrepair.app.wording.columns import title, words

VIEW = "who_repairs"
KINDS = {"head": PARTS["attention"], "mlp": PARTS["MLP"]}
_BAR_PX = 20
_MARGIN_PX = 140
_WHISKERS = {"white": 3.0, "#333a44": 1.5}
"""Colours and widths [pixels], drawn one over the other: visible on every bar and on both themes."""


def target_bars(targets: pl.DataFrame) -> alt.LayerChart:
    """`targets` has target_label, target_kind, mean_change, low, high and verdict; the largest repair comes first."""
    base = alt.Chart(targets).encode(
        alt.Y(
            "target_label:N",
            title=None,
            sort=targets.sort("mean_change", descending=True, maintain_order=True)["target_label"].to_list(),
            axis=alt.Axis(labelOverlap=False),
        ),
        tooltip=[
            alt.Tooltip("target_label:N", title="Changes"),
            alt.Tooltip("mean_change:Q", title=title(VIEW, "mean_change"), format=".4f"),
            alt.Tooltip("low:Q", title="Interval from", format=".4f"),
            alt.Tooltip("high:Q", title="to", format=".4f"),
            alt.Tooltip("verdict:N", title=words("verdict")),
            alt.Tooltip("share_of_effect:Q", title=title(VIEW, "share_of_effect"), format=".1%"),
            alt.Tooltip("target_rank:Q", title=title(VIEW, "target_rank"), format="d"),
        ],
    )
    bars = base.mark_bar(opacity=0.7).encode(
        alt.X("mean_change:Q", title=title(VIEW, "mean_change")),
        alt.Color(
            "target_kind:N",
            title=None,
            scale=alt.Scale(domain=list(KINDS), range=list(KINDS.values())),
            legend=alt.Legend(orient="top", labelExpr="datum.value == 'mlp' ? 'MLP' : datum.value"),
        ),
    )
    whiskers = [
        base.mark_rule(strokeWidth=width, color=color).encode(x=alt.X("low:Q"), x2=alt.X2("high"))
        for color, width in _WHISKERS.items()
    ]
    zero = alt.Chart(pl.DataFrame({"zero": [0.0]})).mark_rule(color=REFERENCE, strokeDash=[4, 4])
    height = _MARGIN_PX + _BAR_PX * targets.height
    return alt.LayerChart(layer=[zero.encode(x=alt.X("zero:Q")), bars, *whiskers], height=height)
