"""Self-repair over training: one measure at every checkpoint, of all heads together, of each layer, or of one head."""

import altair as alt
import polars as pl

from selfrepair.app.charts.style.head_colors import DOTS, LAYERS
from selfrepair.app.charts.style.palette import REFERENCE
from selfrepair.app.wording.columns import title, words

VIEW = "repair_over_training"
FINAL = "final"
"""The axis label of weights without a training step."""

_HEIGHT_PX = 380


def over_training(points: pl.DataFrame, measure: str) -> alt.LayerChart:
    """`points`: rows of `repair_over_training` of one level with `measure`, low and high; a line for each layer of level layer.

    Checkpoints are evenly spaced, whatever their steps: these are mostly chosen as powers.
    """
    points = points.with_columns(
        pl.col("checkpoint").map_elements("{:,}".format, pl.String, skip_nulls=True).fill_null(FINAL).alias("step")
    )
    order = points.sort("checkpoint_place")["step"].unique(maintain_order=True).to_list()
    is_by_layer = points["level"].first() == "layer"
    x = alt.X("step:O", title=title(VIEW, "checkpoint"), sort=order, axis=alt.Axis(labelAngle=0, labelOverlap=True))
    y = alt.Y(f"{measure}:Q", title=title(VIEW, measure))
    tooltip = [
        alt.Tooltip("step:N", title=title(VIEW, "checkpoint")),
        *([alt.Tooltip("layer:Q", title=words("layer"), format="d")] if is_by_layer else []),
        alt.Tooltip(f"{measure}:Q", title=title(VIEW, measure), format=".4f"),
        alt.Tooltip("low:Q", title="Interval from", format=".4f"),
        alt.Tooltip("high:Q", title="to", format=".4f"),
        alt.Tooltip("n_rows:Q", title=title(VIEW, "n_rows"), format=",d"),
        alt.Tooltip("run_id:Q", title="Run", format="d"),
    ]
    zero = alt.Chart(pl.DataFrame({"zero": [0.0]})).mark_rule(color=REFERENCE, strokeDash=[4, 4])
    base = alt.Chart(points)
    if is_by_layer:
        color = alt.Color(
            "layer:Q",
            title=words("layer"),
            scale=alt.Scale(scheme=LAYERS),
            legend=alt.Legend(orient="top", tickMinStep=1, format="d", gradientLength=160, gradientThickness=10),
        )
        drawn = [
            base.mark_line(strokeWidth=2, point={"size": 45, "filled": True}).encode(
                x, y, color, detail="layer:N", tooltip=tooltip
            )
        ]
    else:
        drawn = [
            base.mark_area(opacity=0.2, color=DOTS, tooltip=None).encode(x, alt.Y("low:Q"), alt.Y2("high")),
            base.mark_line(strokeWidth=2.5, color=DOTS, point={"size": 60, "filled": True, "color": DOTS}).encode(
                x, y, tooltip=tooltip
            ),
        ]
    return alt.LayerChart(layer=[zero.encode(y=alt.Y("zero:Q")), *drawn], height=_HEIGHT_PX)
