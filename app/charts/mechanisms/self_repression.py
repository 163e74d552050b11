"""Self-repression: a head's direct effect after an output was added to its input, against the clean one."""

from typing import Final

import altair as alt
import polars as pl

from selfrepair.app.charts.heads.heatmap import head_map
from selfrepair.app.charts.style.diagonal import diagonal
from selfrepair.app.charts.style.head_colors import CHOSEN
from selfrepair.app.charts.style.zones import span
from selfrepair.app.wording.columns import title, words
from selfrepair.app.wording.whitespace import whitespace_column

TABLE = "self_repression"
VIEW = "self_repression_slope"
ADDED = {"own": CHOSEN, "other": "#3d8fd1", "random": "#e69f00"}
"""Colours of the added vectors: the head's own output, and the two controls."""

SIGNS = {"repressing": "▼", "reinforcing": "▲"}
"""Signs of heads with a verdict."""

_LEGEND: Final = (
    "datum.value == 'own' ? 'own output' : datum.value == 'other' ? \"another head's\" : 'random direction'"
)
_HEIGHT_PX = 460


def after_against_clean(rows: pl.DataFrame, fits: pl.DataFrame) -> alt.LayerChart:
    """A dot for each of `rows`, of `self_repression` with tokens, and a line for each of `fits`, of `self_repression_fits`.

    Dashed: y = x, where the addition changes nothing.
    """
    x, y = span(rows["direct_effect"]), span(rows["direct_effect_after"])
    marks = rows.with_columns(
        whitespace_column("token"), whitespace_column("target"), pl.col("added_vector").cast(pl.String)
    )
    color = alt.Color(
        "added_vector:N",
        title="Added vector",
        scale=alt.Scale(domain=list(ADDED), range=list(ADDED.values())),
        legend=alt.Legend(orient="top", labelExpr=_LEGEND, symbolOpacity=1),
    )
    dots = (
        alt.Chart(marks.sort(pl.col("added_vector") == "own"))
        .mark_circle(size=24, opacity=0.6)
        .encode(
            alt.X("direct_effect:Q", title=title(TABLE, "direct_effect"), scale=alt.Scale(domain=list(x), nice=False)),
            alt.Y(
                "direct_effect_after:Q",
                title=title(TABLE, "direct_effect_after"),
                scale=alt.Scale(domain=list(y), nice=False),
            ),
            color,
            tooltip=[
                alt.Tooltip("added_vector:N", title=words("added_vector")),
                alt.Tooltip("token:N", title=words("token")),
                alt.Tooltip("target:N", title=words("target")),
                alt.Tooltip("direct_effect:Q", title=title(TABLE, "direct_effect"), format=".4f"),
                alt.Tooltip("direct_effect_after:Q", title=title(TABLE, "direct_effect_after"), format=".4f"),
                alt.Tooltip("prompt_id:Q", title=words("prompt_id"), format="d"),
                alt.Tooltip("pos:Q", title=words("pos"), format="d"),
            ],
        )
    )
    ends = pl.DataFrame({"x": list(x)})
    lines = (
        fits.drop_nulls("slope")
        .with_columns(pl.col("added_vector").cast(pl.String))
        .join(ends, how="cross")
        .with_columns(y=pl.col("intercept") + pl.col("slope") * pl.col("x"))
    )
    fitted = (
        alt.Chart(lines)
        .mark_line(strokeWidth=2.5, clip=True)
        .encode(
            alt.X("x:Q"),
            alt.Y("y:Q"),
            color,
            tooltip=[
                alt.Tooltip("added_vector:N", title=words("added_vector")),
                *(
                    alt.Tooltip(f"{name}:Q", title=title("self_repression_fits", name), format=".4f")
                    for name in ("slope", "slope_low", "slope_high", "intercept")
                ),
            ],
        )
    )
    return alt.LayerChart(
        layer=[diagonal(x, y), dots, fitted], height=_HEIGHT_PX, usermeta={"embedOptions": {"renderer": "canvas"}}
    )


def slope_map(heads: pl.DataFrame, chosen: str, domain: tuple[float, float]) -> alt.LayerChart:
    """The heat map of `heads`, of `self_repression_slope`, by slope around 1, with a sign where there is a verdict."""
    also = (
        alt.Tooltip("slope_low:Q", title=title(VIEW, "slope_low"), format=".4f"),
        alt.Tooltip("slope_high:Q", title=title(VIEW, "slope_high"), format=".4f"),
        alt.Tooltip("other_slope:Q", title=title(VIEW, "other_slope"), format=".4f"),
        alt.Tooltip("random_slope:Q", title=title(VIEW, "random_slope"), format=".4f"),
        alt.Tooltip("verdict:N", title=words("verdict")),
    )
    cells = head_map(heads, "slope", words=title(VIEW, "slope"), centre=1.0, chosen=chosen, domain=domain, also=also)
    signed = heads.with_columns(pl.col("verdict").replace_strict(SIGNS, default="").alias("sign")).filter(
        pl.col("sign") != ""
    )
    signs = alt.Chart(signed).encode(alt.X("head:O"), alt.Y("layer:O"), text=alt.Text("sign:N"))
    halo = signs.mark_text(fontSize=12, stroke="white", strokeWidth=3, strokeJoin="round", tooltip=None)
    marks = signs.mark_text(fontSize=12, color="#333a44", tooltip=None)
    return alt.LayerChart(layer=[*cells.layer, halo, marks], params=cells.params, height=cells.height)
