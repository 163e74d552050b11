"""LayerNorm frozen against free: every head's change in logit with the final norm's scale frozen, and recomputed."""

import altair as alt
import polars as pl

from selfrepair.app.charts.style.head_colors import LAYERS
from selfrepair.app.charts.style.palette import REFERENCE
from selfrepair.app.wording.columns import title

VIEW = "frozen_layernorm"
FREE, FROZEN = "mean_logit_change", "mean_frozen_logit_change"


def free_against_frozen(heads: pl.DataFrame) -> alt.LayerChart:
    """`heads`: rows of `frozen_layernorm`. A dot for each head, coloured by layer; dashed: y = x."""
    values = pl.concat([heads[FREE], heads[FROZEN]]).drop_nulls()
    ends = [min(values.min() or 0.0, 0.0), max(values.max() or 0.0, 0.0)]
    dots = (
        alt.Chart(heads, height=460)
        .mark_circle(size=70, opacity=0.85)
        .encode(
            alt.X(f"{FREE}:Q", title=title(VIEW, FREE)),
            alt.Y(f"{FROZEN}:Q", title=title(VIEW, FROZEN)),
            alt.Color(
                "layer:Q",
                title="Layer",
                scale=alt.Scale(scheme=LAYERS),
                legend=alt.Legend(format="d", tickMinStep=1),
            ),
            tooltip=[
                alt.Tooltip("label:N", title="Head"),
                *(
                    alt.Tooltip(f"{name}:Q", title=title(VIEW, name), format=".4f")
                    for name in (FREE, FROZEN, "mean_repair_layernorm", "larger_frozen_share")
                ),
                alt.Tooltip("n_rows:Q", title=title(VIEW, "n_rows"), format=",d"),
            ],
        )
    )
    diagonal = alt.Chart(pl.DataFrame({"x": ends, "y": ends})).mark_line(color=REFERENCE, strokeDash=[5, 4])
    return diagonal.encode(alt.X("x:Q", title=title(VIEW, FREE)), alt.Y("y:Q", title=title(VIEW, FROZEN))) + dots
