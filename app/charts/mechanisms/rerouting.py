"""Re-routing: how often each MLP chooses other experts when a head is ablated, and which experts repair one head."""

from collections.abc import Sequence

import altair as alt
import polars as pl

from selfrepair.app.charts.heads.heatmap import head_selection
from selfrepair.app.charts.mechanisms.edge_matrix import label_scale, layer_axis
from selfrepair.app.charts.style.color_scale import legend
from selfrepair.app.charts.style.palette import PARTS, REFERENCE
from selfrepair.app.wording.columns import title

VIEW, EXPERTS = "rerouting", "expert_repair"
CHANGES = {"mean_rerouted_change": "chosen in one run alone", "mean_kept_change": "chosen in both"}
_CELL_PX, _BAR_PX, _MARGIN_PX = 12, 20, 140
_LOWEST_PX, _HIGHEST_PX = 320, 900


def rerouting_matrix(pairs: pl.DataFrame, ablated: Sequence[str], chosen: str) -> alt.LayerChart:
    """A cell for each of `pairs`: rows are `ablated` heads by layer, columns MLPs; `chosen` has a frame.

    A click on a cell is the selection `heatmap.HEAD_SELECTION`, the ablated head's label.
    """
    y = alt.Y(
        "label:N",
        title="Ablated head, by layer",
        scale=label_scale(ablated),
        axis=layer_axis(ablated),
        sort=list(ablated),
    )
    names = ("rerouted_share", "replaced_share", "mean_weight_distance", "mean_change", "mean_rerouted_change")
    cells = (
        alt.Chart(pairs)
        .mark_rect()
        .encode(
            alt.X("mlp_layer:O", title="Layer of the MLP", axis=alt.Axis(labelAngle=0)),
            y,
            alt.Color(
                "rerouted_share:Q",
                title=title(VIEW, "rerouted_share"),
                scale=alt.Scale(scheme="viridis", domainMin=0),
                legend=legend(),
            ),
            tooltip=[
                alt.Tooltip("label:N", title="Ablated"),
                alt.Tooltip("mlp_layer:O", title="Layer of the MLP"),
                *(
                    alt.Tooltip(f"{name}:Q", title=title(VIEW, name), format=".4f" if "change" in name else ".1%")
                    for name in names
                ),
                alt.Tooltip("n_rows:Q", title=title(VIEW, "n_rows"), format=",d"),
            ],
        )
        .add_params(head_selection())
    )
    row = (
        alt.Chart(pl.DataFrame({"label": [chosen]}))
        .mark_rect(filled=False, stroke=REFERENCE, strokeWidth=1.5, tooltip=None)
        .encode(y=y)
    )
    height = min(_HIGHEST_PX, max(_LOWEST_PX, _MARGIN_PX + _CELL_PX * len(ablated)))
    return alt.LayerChart(layer=[row, cells], height=height, usermeta={"embedOptions": {"renderer": "canvas"}})


def expert_bars(experts: pl.DataFrame) -> alt.Chart:
    """A bar for each of `experts`, by mean change: the part by rows in which it is chosen in one run alone, and the other."""
    order = experts.sort("mean_change", descending=True, maintain_order=True)["expert_label"].to_list()
    parts = experts.unpivot(
        list(CHANGES), index=[name for name in experts.columns if name not in CHANGES], variable_name="part"
    ).with_columns(pl.col("part").replace_strict(CHANGES))
    chart: alt.Chart = (
        alt.Chart(parts)
        .mark_bar(opacity=0.8)
        .encode(
            alt.X("value:Q", title=title(EXPERTS, "mean_change"), stack="zero"),
            alt.Y("expert_label:N", title=None, sort=order, axis=alt.Axis(labelOverlap=False)),
            alt.Color(
                "part:N",
                title=None,
                scale=alt.Scale(domain=list(CHANGES.values()), range=[PARTS["attention"], PARTS["MLP"]]),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=[
                alt.Tooltip("expert_label:N", title="Expert"),
                alt.Tooltip("part:N", title="Rows in which it is"),
                alt.Tooltip("value:Q", title=title(EXPERTS, "mean_change"), format=".4f"),
                alt.Tooltip("clean_rows:Q", title=title(EXPERTS, "clean_rows"), format=",d"),
                alt.Tooltip("ablated_rows:Q", title=title(EXPERTS, "ablated_rows"), format=",d"),
            ],
        )
        .properties(height=_MARGIN_PX + _BAR_PX * experts.height)
    )
    return chart
