"""Who repairs whom, as a matrix: the mean change in every later head and MLP for every ablated head."""

from collections.abc import Sequence

import altair as alt
import polars as pl

from selfrepair.app.charts.heads.heatmap import head_selection
from selfrepair.app.charts.style.color_scale import diverging, legend
from selfrepair.app.charts.style.palette import REFERENCE
from selfrepair.app.wording.columns import title

VIEW = "who_repairs"
_CELL_PX = 12
_MARGIN_PX = 130
_LOWEST_PX, _HIGHEST_PX = 320, 900


def edge_matrix(
    edges: pl.DataFrame, ablated: Sequence[str], targets: Sequence[str], chosen: str, domain: tuple[float, float]
) -> alt.LayerChart:
    """A cell for each of `edges`; rows are `ablated` heads, columns `targets`, both by layer; `chosen` has a frame.

    Colours span `domain` [logits], that of all pairs.

    A click on a cell is the selection `heatmap.HEAD_SELECTION`, the ablated head's label.
    """
    x = alt.X(
        "target_label:N",
        title="Later heads by layer, then the layer's MLP",
        scale=label_scale(targets),
        axis=layer_axis(targets),
        sort=list(targets),
    )
    y = alt.Y(
        "label:N",
        title="Ablated head, by layer",
        scale=label_scale(ablated),
        axis=layer_axis(ablated),
        sort=list(ablated),
    )
    cells = (
        alt.Chart(edges)
        .mark_rect()
        .encode(
            x,
            y,
            alt.Color(
                "mean_change:Q",
                title=title(VIEW, "mean_change"),
                scale=diverging(domain),
                legend=legend(),
            ),
            tooltip=[
                alt.Tooltip("label:N", title="Ablated"),
                alt.Tooltip("target_label:N", title="Changes"),
                alt.Tooltip("mean_change:Q", title=title(VIEW, "mean_change"), format=".4f"),
                alt.Tooltip("standard_error:Q", title=title(VIEW, "standard_error"), format=".4f"),
                alt.Tooltip("share_of_effect:Q", title=title(VIEW, "share_of_effect"), format=".1%"),
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


def label_scale(labels: Sequence[str]) -> alt.Scale:
    """Of an axis with these labels."""
    return alt.Scale(domain=list(labels), paddingInner=0.06)


def layer_axis(labels: Sequence[str]) -> alt.Axis:
    """A line and a label at the first head of each layer."""
    firsts: dict[str, str] = {}
    for label in labels:
        if "H" in label:  # a layer with an MLP alone has no room for a label
            firsts.setdefault(layer_of(label), label)
    is_first = f"indexof({list(firsts.values())!r}, datum.value) >= 0"
    return alt.Axis(
        labelExpr=f"{is_first} ? split(datum.value, 'H')[0] : ''",
        labelAngle=0,
        labelOverlap=False,
        bandPosition=0,
        ticks=False,
        grid=True,
        gridOpacity={"condition": {"test": is_first, "value": 1}, "value": 0},
    )


def layer_of(label: str) -> str:
    """The number of the layer of a head or MLP, by its label."""
    return label.removeprefix("MLP").removeprefix("L").split("H")[0]
