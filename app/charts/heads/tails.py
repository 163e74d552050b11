"""Tails of several heads: complementary distribution, Lorenz curve and Hill plot, a colour for each head.

Heads and the extent of axes come with the data, so that a browser updates a chart for other heads instead of redrawing it.
"""

from collections.abc import Sequence

import altair as alt
import polars as pl

from selfrepair.app.charts.style.palette import REFERENCE
from selfrepair.app.wording.columns import column, effect_words, title

HEADS = ("#d6317f", "#3d8fd1", "#e69f00", "#009e73", "#8a63d2", "#56b4e9", "#a6761d", "#999999")
"""The chosen head's colour, then those of the others in the order they were chosen."""

HEIGHT_PX = 420
_LIMITS = (1.0, 2.0)
"""Hill indices up to which a power law's mean, and its variance, grow with the number of rows."""

STABLE_SHARE = 0.005
"""Hill indices of at least this share of rows determine the axis: those of fewer rows are too noisy."""


def tail_curves(points: pl.DataFrame, labels: Sequence[str], measure: str) -> alt.Chart:
    """The share of a head's rows that reach a value, on logarithmic axes.

    `points`: label, value (> 0), n_reached and reached_share of `tail_curve`. `labels`: the chosen head, then the others.
    """
    view = "tail_curve"
    return _curves(points, labels).encode(
        alt.X(
            "value:Q",
            title=f"{effect_words(measure)} [{column(view, 'value').unit}]",
            scale=alt.Scale(type="log", nice=False),
            axis=_LOG_AXIS,
        ),
        alt.Y(
            "reached_share:Q",
            title="Share of rows that reach it [ratio]",
            scale=_SHARES,
            axis=_LOG_AXIS,
        ),
        tooltip=[
            alt.Tooltip("label:N", title="Head"),
            alt.Tooltip("value:Q", title=title(view, "value"), format=".4f"),
            alt.Tooltip("reached_share:Q", title=title(view, "reached_share"), format=".4%"),
            alt.Tooltip("n_reached:Q", title=title(view, "n_reached"), format=",d"),
        ],
    )


def lorenz_curves(points: pl.DataFrame, labels: Sequence[str]) -> alt.LayerChart:
    """The share of the sum in the lowest rows. `points`: label, lowest_share and total_share of `lorenz_curve`."""
    view = "lorenz_curve"
    x = alt.X("lowest_share:Q", title="Share of rows, lowest values first [ratio]", scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("total_share:Q", title="Share of the sum in these rows [ratio]", scale=alt.Scale(domain=[0, 1]))
    equal = alt.Chart(pl.DataFrame({"lowest_share": [0.0, 1.0], "total_share": [0.0, 1.0]}))
    curves = _curves(points, labels).encode(
        x,
        y,
        tooltip=[
            alt.Tooltip("label:N", title="Head"),
            alt.Tooltip("lowest_share:Q", title=title(view, "lowest_share"), format=".2%"),
            alt.Tooltip("total_share:Q", title=title(view, "total_share"), format=".2%"),
        ],
    )
    return equal.mark_line(color=REFERENCE, strokeDash=[5, 4]).encode(x, y) + curves


def hill_curves(points: pl.DataFrame, labels: Sequence[str]) -> alt.LayerChart:
    """The Hill index by number of top rows; shaded: 95 % interval of the chosen head, `labels[0]`.

    `points`: label, n_top, top_share, cut_value, hill and hill_se of `hill_curve`.
    """
    view = "hill_curve"
    stable = points.filter(pl.col("top_share") >= STABLE_SHARE)
    highest = (points if stable.is_empty() else stable)["hill"].max()
    top = max(1.4 * float(highest) if isinstance(highest, float) else 1.0, 2.5)
    interval = points.filter(pl.col("label") == labels[0]).select(
        "top_share",
        low=(pl.col("hill") - 1.96 * pl.col("hill_se")).clip(0, top),
        high=(pl.col("hill") + 1.96 * pl.col("hill_se")).clip(0, top),
    )
    x = alt.X("top_share:Q", title=title(view, "top_share"), scale=_SHARES, axis=_LOG_AXIS)
    y = alt.Y("hill:Q", title=title(view, "hill"), scale=alt.Scale(domainMin=0, nice=False))
    within = points.with_columns(
        pl.when(pl.col("hill") <= top).then("hill").alias("hill")
    )  # the line breaks above the axis
    curves = _curves(within, labels).encode(
        x,
        y,
        tooltip=[
            alt.Tooltip("label:N", title="Head"),
            alt.Tooltip("hill:Q", title=title(view, "hill"), format=".3f"),
            alt.Tooltip("hill_se:Q", title=title(view, "hill_se"), format=".3f"),
            alt.Tooltip("n_top:Q", title=title(view, "n_top"), format=",d"),
            alt.Tooltip("top_share:Q", title=title(view, "top_share"), format=".3%"),
            alt.Tooltip("cut_value:Q", title=title(view, "cut_value"), format=".4f"),
        ],
    )
    chosen = alt.Chart(interval).mark_area(opacity=0.2, color=HEADS[0])
    limits = alt.Chart(pl.DataFrame({"limit": _LIMITS})).mark_rule(color=REFERENCE, strokeDash=[5, 4])
    end = alt.Chart(pl.DataFrame({"end": [top]})).mark_point(opacity=0, tooltip=None)  # extends the axis up to there
    return (
        chosen.encode(x, alt.Y("low:Q"), alt.Y2("high:Q"))
        + limits.encode(y=alt.Y("limit:Q"))
        + end.encode(y=alt.Y("end:Q"))
        + curves
    )


_LOG_AXIS = alt.Axis(tickCount=6, format="~g")
_SHARES = alt.Scale(type="log", domainMax=1.0, nice=False)
"""Logarithmic, up to all rows."""


def _curves(points: pl.DataFrame, labels: Sequence[str]) -> alt.Chart:
    # an empty row for each head fixes the order of heads, and so their colours
    in_order = pl.DataFrame({"label": labels, "place": range(len(labels))})
    marks = pl.concat([in_order, points], how="diagonal").with_columns(is_first=pl.col("label") == labels[0])
    return (
        alt.Chart(marks, height=HEIGHT_PX)
        .mark_line(point={"size": 24, "filled": True})
        .encode(
            color=alt.Color(
                "label:N",
                title="Head",
                sort=alt.EncodingSortField(field="place", op="min"),
                scale=alt.Scale(range=list(HEADS)),
                legend=alt.Legend(orient="top"),
            ),
            strokeWidth=alt.condition(alt.datum.is_first, alt.value(2.8), alt.value(1.4)),
        )
    )
