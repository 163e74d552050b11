"""A run beside the paper: every head's number against the published one, and the paper's claims with their intervals."""

import altair as alt
import polars as pl

from selfrepair.app.charts.diagonal import diagonal
from selfrepair.app.charts.head_dots import dots_by_layer
from selfrepair.app.charts.palette import REFERENCE
from selfrepair.app.charts.zones import span
from selfrepair.app.showing.wording import title, words

VERDICTS = {"agrees": "#009e73", "differs": "#e8590c", "unclear": "#b59b00", "no verdict": REFERENCE}
"""Colours of verdicts, all but the last as the views have them."""

PUBLISHED = "#cc79a7"
"""What the paper says."""

_HEIGHT_PX = 460
_ROW_PX = 52
_AROUND_PX = 110


def measured_against_published(heads: pl.DataFrame, name: str, unit: str, chosen: str) -> alt.LayerChart:
    """A dot for each of `heads` (label, layer, published_value, measured_value, low, high, difference); dashed: y = x.

    `name` is what the values are, `unit` stands behind it, ' [logits]'. A rule is a measured value's interval.
    """
    known = heads.drop_nulls(["published_value", "measured_value"])
    ends = span(pl.concat([known["published_value"], known["measured_value"]]))
    scale = alt.Scale(domain=list(ends), nice=False)
    x = alt.X("published_value:Q", title=f"Published: {name}{unit}", scale=scale)
    dots = dots_by_layer(
        known,
        x,
        alt.Y("measured_value:Q", title=f"Measured: {name}{unit}", scale=scale),
        [
            alt.Tooltip("label:N", title=words("label")),
            alt.Tooltip("published_value:Q", title=f"Published{unit}", format=".4f"),
            alt.Tooltip("measured_value:Q", title=f"Measured{unit}", format=".4f"),
            alt.Tooltip("low:Q", title="Interval from", format=".4f"),
            alt.Tooltip("high:Q", title="to", format=".4f"),
            alt.Tooltip("difference:Q", title=f"Measured minus published{unit}", format=".4f"),
        ],
        chosen,
    )
    rules = (
        alt.Chart(known.drop_nulls(["low", "high"]))
        .mark_rule(color=REFERENCE, opacity=0.6, clip=True, tooltip=None)
        .encode(x, alt.Y("low:Q", scale=scale), alt.Y2("high"))
    )
    return alt.LayerChart(layer=[diagonal(ends, ends), rules, dots], height=_HEIGHT_PX)


def claims_with_intervals(claims: pl.DataFrame) -> alt.LayerChart:
    """A line for each of `claims`, rows of `reproduction_claims`: a dot and its interval, and where the paper puts it.

    A diamond is a published number; a triangle points to where the paper's words say that the value lies.
    """
    view = "reproduction_claims"
    told = claims.with_columns(
        pl.col("verdict").fill_null("no verdict"), pl.col("claim").map_elements(words, pl.String)
    )
    base = alt.Chart(told).encode(
        alt.Y("claim:N", title=None, sort=told["claim"].to_list(), axis=alt.Axis(labelLimit=260, labelFontSize=13)),
        tooltip=[
            alt.Tooltip("statement:N", title=words("claim")),
            *(
                alt.Tooltip(f"{name}:Q", title=title(view, name), format=".4f")
                for name in ("value", "low", "high", "published_value", "expected_above")
            ),
            alt.Tooltip("verdict:N", title=words("verdict")),
        ],
    )
    color = alt.Color(
        "verdict:N",
        title=None,
        scale=alt.Scale(domain=list(VERDICTS), range=list(VERDICTS.values())),
        legend=alt.Legend(orient="top", values=[name for name in VERDICTS if name in set(told["verdict"])]),
    )
    at = alt.X("value:Q", title=title(view, "value"), scale=alt.Scale(zero=True))
    intervals = base.mark_rule(strokeWidth=4, opacity=0.55).encode(alt.X("low:Q"), alt.X2("high:Q"), color)
    dots = base.mark_circle(size=150, opacity=1).encode(at, color)
    published = base.mark_point(
        shape="diamond", size=170, filled=False, strokeWidth=2.5, color=PUBLISHED, opacity=1
    ).encode(alt.X("published_value:Q"))
    expected = base.mark_point(shape="triangle-right", size=110, filled=True, color=PUBLISHED, opacity=1).encode(
        alt.X("expected_above:Q")
    )
    return alt.LayerChart(
        layer=[expected, intervals, dots, published], height=_AROUND_PX + _ROW_PX * max(told.height, 1)
    )
