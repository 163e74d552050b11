"""Does the output change less than the direct effect? Direct effect against change in logit, of heads and of single rows."""

import altair as alt
import polars as pl

from selfrepair.app.charts.head_colors import CHOSEN, DOTS, LAYERS
from selfrepair.app.charts.head_map import pick, when
from selfrepair.app.charts.palette import REFERENCE
from selfrepair.app.charts.zones import Span, span, zones
from selfrepair.app.showing.visible import visible_column
from selfrepair.app.showing.wording import title, words

_HEIGHT_PX = 380


def of_heads(heads: pl.DataFrame, chosen: str = "") -> alt.LayerChart:
    """A dot for each head, coloured by layer: label, layer, mean_direct_effect and mean_logit_change of `heads`."""
    x, y = span(heads["mean_direct_effect"]), span(heads["mean_logit_change"])
    is_chosen = alt.datum.label == chosen
    dots = (
        alt.Chart(heads)
        .mark_circle(opacity=0.9)
        .encode(
            _axis(alt.X, "mean_direct_effect", "head_repair", x),
            _axis(alt.Y, "mean_logit_change", "head_repair", y),
            alt.Color(
                "layer:Q",
                title=words("layer"),
                scale=alt.Scale(scheme=LAYERS),
                legend=alt.Legend(orient="top", tickMinStep=1, format="d", gradientLength=160, gradientThickness=10),
            ),
            size=alt.SizeValue(60, condition=when(is_chosen, 170)),
            stroke=alt.StrokeValue(REFERENCE, condition=when(is_chosen, CHOSEN)),
            strokeWidth=alt.StrokeWidthValue(0.5, condition=when(is_chosen, 3)),
            tooltip=[
                alt.Tooltip("label:N", title=title("head_repair", "label")),
                *(
                    alt.Tooltip(f"{name}:Q", title=title("head_repair", name), format=".4f")
                    for name in ("mean_direct_effect", "mean_logit_change", "mean_self_repair")
                ),
            ],
        )
        .add_params(pick())
    )
    return alt.LayerChart(layer=[zones(x, y), dots], height=_HEIGHT_PX)


def of_rows(rows: pl.DataFrame, slope: float | None, intercept: float | None) -> alt.LayerChart:
    """A dot for each row of one head, with its tokens, and the line fitted through all rows, where there is one.

    `rows` has prompt_id, pos, token, target, direct_effect, logit_change and self_repair.
    """
    x, y = span(rows["direct_effect"]), span(rows["logit_change"])
    dots = (
        alt.Chart(rows.with_columns(visible_column("token"), visible_column("target")))
        .mark_circle(size=18, opacity=0.45, color=DOTS)
        .encode(
            _axis(alt.X, "direct_effect", "self_repair", x),
            _axis(alt.Y, "logit_change", "self_repair", y),
            tooltip=[
                alt.Tooltip("token:N", title=words("token")),
                alt.Tooltip("target:N", title=words("target")),
                *(
                    alt.Tooltip(f"{name}:Q", title=title("self_repair", name), format=".4f")
                    for name in ("direct_effect", "logit_change", "self_repair")
                ),
                alt.Tooltip("prompt_id:Q", title=words("prompt_id"), format="d"),
                alt.Tooltip("pos:Q", title=words("pos"), format="d"),
            ],
        )
    )
    layers = [zones(x, y), dots]
    if slope is not None and intercept is not None:
        ends = pl.DataFrame({"x": list(x), "y": [intercept + slope * end for end in x]})
        fit = alt.Chart(ends).mark_line(color=CHOSEN, strokeWidth=2, clip=True).encode(x=alt.X("x:Q"), y=alt.Y("y:Q"))
        layers.append(fit)
    # thousands of marks: as pixels they are drawn in a third of the time that the page's usual SVG takes
    return alt.LayerChart(layer=layers, height=_HEIGHT_PX, usermeta={"embedOptions": {"renderer": "canvas"}})


def _axis(channel: type[alt.X] | type[alt.Y], name: str, view: str, domain: Span) -> alt.X | alt.Y:
    return channel(f"{name}:Q", title=title(view, name), scale=alt.Scale(domain=list(domain), nice=False))
