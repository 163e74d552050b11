"""Does ablation shrink the final norm's scale? Overlaid histograms of S/S', a colour for each ablation."""

import altair as alt
import polars as pl

from selfrepair.app.charts.style.palette import ABLATIONS, REFERENCE
from selfrepair.app.wording.columns import title

VIEW = "layernorm_histogram"
BINS_PER_UNIT = 200
"""Bins are 1 / BINS_PER_UNIT wide."""


def ratio_histograms(bins: pl.DataFrame) -> alt.LayerChart:
    """`bins` has ablation, bin_low, bin_high, n_rows and bin_share of `layernorm_histogram`, for one head or one model."""
    bins = with_empty_bins(bins)
    found = [ablation for ablation in ABLATIONS if ablation in bins["ablation"]]
    x = alt.X(
        "bin_low:Q",
        title="S/S', clean over ablated scale of the final norm [ratio]",
        scale=alt.Scale(zero=False, nice=False),
    )
    outlines = (
        alt.Chart(bins, height=380)
        .mark_area(interpolate="step-after", fillOpacity=0.18, line={"strokeWidth": 2})
        .encode(
            x,
            alt.Y("bin_share:Q", title=title(VIEW, "bin_share"), stack=None, axis=alt.Axis(format="~%")),
            alt.Color(
                "ablation:N",
                title="Ablation",
                scale=alt.Scale(domain=found, range=[ABLATIONS[ablation] for ablation in found]),
                legend=alt.Legend(orient="top"),
            ),
        )
    )
    one = alt.Chart(pl.DataFrame({"one": [1.0]})).mark_rule(color=REFERENCE, strokeDash=[5, 4], strokeWidth=1.5)
    return outlines + one.encode(x=alt.X("one:Q")) + _hovered(bins, found, x)


def _hovered(bins: pl.DataFrame, found: list[str], x: alt.X) -> alt.Chart:
    """A column of full height for each bin, whose tooltip has the values of all histograms."""
    over = alt.selection_point(name="bin", on="pointerover", clear="pointerout", fields=["bin_low"], empty=False)
    return (
        alt.Chart(bins.pivot("ablation", index=["bin_low", "bin_high"], values="bin_share"))
        .mark_rect(color=REFERENCE)
        .encode(
            x,
            x2=alt.X2("bin_high"),
            opacity=alt.condition(over, alt.value(0.25), alt.value(0)),
            tooltip=[
                alt.Tooltip("bin_low:Q", title=title(VIEW, "bin_low"), format=".3f"),
                alt.Tooltip("bin_high:Q", title=title(VIEW, "bin_high"), format=".3f"),
                *(
                    alt.Tooltip(f"{name}:Q", title=f"{name}: {title(VIEW, 'bin_share')}", format=".3%")
                    for name in found
                ),
            ],
        )
        .add_params(over)
    )


def with_empty_bins(bins: pl.DataFrame) -> pl.DataFrame:
    """The same with empty bins added, one after the last included, where each outline returns to 0."""
    if bins.is_empty():
        return bins
    place = (pl.col("bin_low") * BINS_PER_UNIT).round().cast(pl.Int64)
    placed = bins.select(pl.col("ablation").cast(pl.String), place.alias("bin"), "n_rows", "bin_share")
    first, last = placed["bin"].min(), placed["bin"].max()
    assert isinstance(first, int)
    assert isinstance(last, int)
    every = (
        placed.select("ablation")
        .unique(maintain_order=True)
        .join(pl.DataFrame({"bin": range(first - 1, last + 2)}, schema={"bin": pl.Int64}), how="cross")
    )
    return every.join(placed, on=["ablation", "bin"], how="left", maintain_order="left").select(
        "ablation",
        (pl.col("bin") / BINS_PER_UNIT).alias("bin_low"),
        ((pl.col("bin") + 1) / BINS_PER_UNIT).alias("bin_high"),
        pl.col("n_rows").fill_null(0),
        pl.col("bin_share").fill_null(0.0),
    )
