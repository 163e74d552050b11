"""Direct effects of single neurons: clean against ablated."""

import altair as alt
import polars as pl

from selfrepair.app.charts.style.diagonal import diagonal
from selfrepair.app.charts.style.head_colors import CHOSEN
from selfrepair.app.charts.style.palette import PARTS, REFERENCE
from selfrepair.app.charts.style.zones import span
from selfrepair.app.wording.columns import title, words
from selfrepair.app.wording.whitespace import whitespace_column

VIEW = "neuron_top_rows"
ANTI_ERASURE, OTHER = "anti-erasure", "other changes"
HEIGHT_PX = 460


def clean_against_ablated(rows: pl.DataFrame, neuron: int) -> alt.LayerChart:
    """A dot for each of `rows`, of `neuron_top_rows`; those of `neuron` with a colour of their own. Dashed: y = x."""
    chosen = f"neuron {neuron}"
    both = pl.concat([rows["clean_effect"], rows["ablated_effect"]])
    x = y = span(both)
    marks = rows.with_columns(
        whitespace_column("token"),
        whitespace_column("target"),
        pl.when(pl.col("neuron") == neuron)
        .then(pl.lit(chosen))
        .when("is_anti_erasure")
        .then(pl.lit(ANTI_ERASURE))
        .otherwise(pl.lit(OTHER))
        .alias("kind"),
    ).sort(pl.col("kind") == chosen)  # the chosen neuron's dots are drawn last, over the others
    zero = pl.DataFrame({"zero": [0.0]})
    axes = [
        alt.Chart(zero).mark_rule(color=REFERENCE, opacity=0.5).encode(x=alt.X("zero:Q")),
        alt.Chart(zero).mark_rule(color=REFERENCE, opacity=0.5).encode(y=alt.Y("zero:Q")),
    ]
    is_chosen = {"test": repr(alt.datum.kind == chosen), "value": 70}
    dots = (
        alt.Chart(marks)
        .mark_circle(opacity=0.6)
        .encode(
            alt.X("clean_effect:Q", title=title(VIEW, "clean_effect"), scale=alt.Scale(domain=list(x), nice=False)),
            alt.Y("ablated_effect:Q", title=title(VIEW, "ablated_effect"), scale=alt.Scale(domain=list(y), nice=False)),
            alt.Color(
                "kind:N",
                title=None,
                scale=alt.Scale(domain=[ANTI_ERASURE, OTHER, chosen], range=[PARTS["MLP"], REFERENCE, CHOSEN]),
                legend=alt.Legend(orient="top"),
            ),
            size=alt.SizeValue(26, condition=is_chosen),
            tooltip=[
                alt.Tooltip("neuron:Q", title=words("neuron"), format="d"),
                alt.Tooltip("token:N", title=words("token")),
                alt.Tooltip("target:N", title=words("target")),
                *(
                    alt.Tooltip(f"{name}:Q", title=title(VIEW, name), format=".4f")
                    for name in ("clean_effect", "ablated_effect", "change", "direct_effect")
                ),
                alt.Tooltip("rank:Q", title=title(VIEW, "rank"), format="d"),
                alt.Tooltip("prompt_id:Q", title=words("prompt_id"), format="d"),
                alt.Tooltip("pos:Q", title=words("pos"), format="d"),
            ],
        )
    )
    return alt.LayerChart(
        layer=[*axes, diagonal(x, y), dots], height=HEIGHT_PX, usermeta={"embedOptions": {"renderer": "canvas"}}
    )
