"""The logit lens by layer: the target's mean log-probability, and the share of positions where it is predicted."""

import altair as alt
import polars as pl

from selfrepair.app.charts.style.head_colors import DOTS
from selfrepair.app.wording.columns import title, words

VIEW = "logit_lens_by_layer"
SHARES = {"top10_share": "#3d8fd1", "top1_share": "#e69f00", "top1_from_here_share": "#009e73"}
"""Colours of the shares of positions, from the largest share to the smallest."""

_HEIGHT_PX = 340


def logprob_by_layer(layers: pl.DataFrame) -> alt.Chart:
    """`layers`: rows of `logit_lens_by_layer`. The target's mean log-probability."""
    chart: alt.Chart = (
        alt.Chart(layers, height=_HEIGHT_PX)
        .mark_line(color=DOTS, point={"size": 50, "filled": True, "color": DOTS})
        .encode(
            _layer(),
            alt.Y("mean_target_logprob:Q", title=title(VIEW, "mean_target_logprob")),
            tooltip=[
                alt.Tooltip("layer:Q", title=words("layer"), format="d"),
                alt.Tooltip("mean_target_logprob:Q", title=title(VIEW, "mean_target_logprob"), format=".4f"),
                alt.Tooltip("mean_target_logit:Q", title=title(VIEW, "mean_target_logit"), format=".4f"),
                alt.Tooltip("median_rank:Q", title=title(VIEW, "median_rank"), format=",d"),
            ],
        )
    )
    return chart


def shares_by_layer(layers: pl.DataFrame) -> alt.Chart:
    """The shares of positions where the target is in the top 10, top-1, and top-1 from there on."""
    shares = layers.unpivot(list(SHARES), index=["layer", "n_rows"], variable_name="name", value_name="share")
    names = {name: words(name) for name in SHARES}
    chart: alt.Chart = (
        alt.Chart(shares.with_columns(pl.col("name").replace_strict(names)), height=_HEIGHT_PX)
        .mark_line(point={"size": 50, "filled": True})
        .encode(
            _layer(),
            alt.Y("share:Q", title="Share of positions [ratio]", scale=alt.Scale(domain=[0, 1])),
            alt.Color(
                "name:N",
                title=None,
                scale=alt.Scale(domain=list(names.values()), range=list(SHARES.values())),
                legend=alt.Legend(orient="top", symbolType="stroke", symbolStrokeWidth=4),
            ),
            tooltip=[
                alt.Tooltip("layer:Q", title=words("layer"), format="d"),
                alt.Tooltip("name:N", title="Share"),
                alt.Tooltip("share:Q", title="Share of positions", format=".1%"),
                alt.Tooltip("n_rows:Q", title=title(VIEW, "n_rows"), format=",d"),
            ],
        )
    )
    return chart


def _layer() -> alt.X:
    return alt.X("layer:Q", title=words("layer"), axis=alt.Axis(format="d", tickMinStep=1), scale=alt.Scale(nice=False))
