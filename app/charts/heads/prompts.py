"""Histogram over prompts of one head's mean self-repair."""

import altair as alt
import polars as pl

from selfrepair.app.charts.style.head_colors import CHOSEN, DOTS
from selfrepair.app.charts.style.palette import REFERENCE
from selfrepair.app.wording.columns import title

_HEIGHT_PX = 300


def prompt_histogram(bins: pl.DataFrame, mean: float | None) -> alt.LayerChart:
    """`bins` has low, high [logits] and n_prompts; a line marks `mean`, that of all rows [logits]."""
    words = title("prompt_repair", "mean_self_repair")
    count = title("head_noise", "n_prompts")
    bars = (
        alt.Chart(bins)
        .mark_bar(color=DOTS, opacity=0.75)
        .encode(
            alt.X("low:Q", title=words),
            alt.X2("high:Q"),
            alt.Y("n_prompts:Q", title=count, axis=alt.Axis(tickMinStep=1)),
            y2=alt.datum(0),
            tooltip=[
                alt.Tooltip("low:Q", title=f"{words} from", format=".4f"),
                alt.Tooltip("high:Q", title="to", format=".4f"),
                alt.Tooltip("n_prompts:Q", title=count, format=",d"),
            ],
        )
    )
    layers = [bars, _rule(0.0, REFERENCE, "no self-repair", dash=[4, 4])]
    if mean is not None:
        layers.append(_rule(mean, CHOSEN, "mean of all rows"))
    return alt.LayerChart(layer=layers, height=_HEIGHT_PX)


def _rule(value: float, color: str, text: str, dash: list[int] | None = None) -> alt.Chart:
    rule: alt.Chart = (
        alt.Chart(pl.DataFrame({"value": [value], "text": [text]}))
        .mark_rule(color=color, strokeWidth=2, strokeDash=dash or [1, 0])
        .encode(
            x=alt.X("value:Q"),
            tooltip=[alt.Tooltip("text:N", title=" "), alt.Tooltip("value:Q", title="at", format=".4f")],
        )
    )
    return rule
