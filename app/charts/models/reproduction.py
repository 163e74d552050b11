"""A run against the paper: every head's number against the published one; agreement and claims with intervals."""

from collections.abc import Sequence

import altair as alt
import polars as pl

from selfrepair.app.charts.heads.dots import dots_by_layer
from selfrepair.app.charts.style.diagonal import diagonal
from selfrepair.app.charts.style.palette import REFERENCE
from selfrepair.app.charts.style.zones import span
from selfrepair.app.wording.columns import title, words

NO_VERDICT = "no verdict"
VERDICTS = {
    "agrees": "#009e73",
    "differs": "#e8590c",
    "unclear": "#b59b00",
    "not enough data": "#7a8b99",
    NO_VERDICT: REFERENCE,
}
"""Colours of verdicts; all but the last are the views'."""

PUBLISHED = "#cc79a7"
"""Colour of the paper's numbers, and of the authors' own agreement."""

_HEIGHT_PX = 460
_ROW_PX = 36
_MARGIN_PX = 110


def measured_against_published(heads: pl.DataFrame, name: str, unit: str, chosen: str) -> alt.LayerChart:
    """A dot for each of `heads` (label, layer, published_value, measured_value, low, high, difference); dashed: y = x.

    `name` is the quantity, `unit` its suffix, ' [logits]'. Rules are intervals of the measured values.
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
    return alt.LayerChart(layer=[diagonal(ends, ends), rules, *dots], height=_HEIGHT_PX)


def claims_with_intervals(claims: pl.DataFrame) -> alt.LayerChart:
    """A line for each of `claims`, rows of `reproduction_claims`: a dot with its interval, and the paper's number.

    A diamond is a published number, a tick a lower bound from the paper's text.
    """
    rows = _labelled(claims, "claim")
    view, order = "reproduction_claims", rows["claim"].to_list()
    base = _lines(rows, "claim", view, ["value", "low", "high", "published_value", "expected_above"], order)
    expected = base.mark_tick(thickness=3, size=26, color=PUBLISHED, opacity=1).encode(alt.X("expected_above:Q"))
    at = alt.X(
        "value:Q", title=title(view, "value"), scale=alt.Scale(zero=True, padding=14), axis=alt.Axis(tickCount=8)
    )
    return _with_intervals(base, rows, at, ("low", "high"), "published_value", expected)


def agreement_with_intervals(agreements: pl.DataFrame) -> alt.LayerChart:
    """A line for each of `agreements`, rows of `reproduction_agreement`: Spearman's correlation and its interval.

    A diamond is the correlation between two runs of the authors.
    """
    rows = _labelled(agreements, "quantity")
    view, order = "reproduction_agreement", rows["quantity"].to_list()
    base = _lines(
        rows,
        "quantity",
        view,
        ["spearman", "spearman_low", "spearman_high", "authors_spearman", "pearson", "slope"],
        order,
    )
    at = alt.X(
        "spearman:Q", title=title(view, "spearman"), scale=alt.Scale(zero=True, padding=10), axis=alt.Axis(tickCount=6)
    )
    return _with_intervals(base, rows, at, ("spearman_low", "spearman_high"), "authors_spearman")


def _labelled(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    return rows.with_columns(pl.col("verdict").fill_null(NO_VERDICT), pl.col(name).map_elements(words, pl.String))


def _lines(rows: pl.DataFrame, name: str, view: str, numbers: Sequence[str], order: Sequence[str]) -> alt.Chart:
    whole = "statement" if "statement" in rows.columns else name
    return alt.Chart(rows).encode(
        alt.Y(
            f"{name}:N", title=None, sort=list(order), axis=alt.Axis(labelLimit=260, labelFontSize=12, labelFlush=False)
        ),
        tooltip=[
            alt.Tooltip(f"{whole}:N", title=words(name)),
            *(alt.Tooltip(f"{number}:Q", title=title(view, number), format=".4f") for number in numbers),
            alt.Tooltip("verdict:N", title=words("verdict")),
        ],
    )


def _with_intervals(
    base: alt.Chart, rows: pl.DataFrame, at: alt.X, interval: tuple[str, str], published: str, *more: alt.Chart
) -> alt.LayerChart:
    low, high = interval
    color = alt.Color(
        "verdict:N",
        title=None,
        scale=alt.Scale(domain=list(VERDICTS), range=list(VERDICTS.values())),
        legend=alt.Legend(
            orient="top", symbolOpacity=1, values=[name for name in VERDICTS if name in set(rows["verdict"])]
        ),
    )
    intervals = base.mark_rule(strokeWidth=4, opacity=0.55).encode(alt.X(f"{low}:Q"), alt.X2(f"{high}:Q"), color)
    dots = base.mark_circle(size=150, opacity=1).encode(at, color)
    diamonds = base.mark_point(shape="diamond", size=170, filled=False, strokeWidth=2.5, color=PUBLISHED, opacity=1)
    return alt.LayerChart(
        layer=[intervals, dots, *more, diamonds.encode(alt.X(f"{published}:Q"))],
        height=_MARGIN_PX + _ROW_PX * max(rows.height, 1),
    )
