"""Who repairs whom, as a graph: heads and MLPs by layer, and a line for each of the largest mean changes."""

from collections.abc import Sequence

import altair as alt
import polars as pl

from selfrepair.app.charts.heads.heatmap import head_selection
from selfrepair.app.charts.mechanisms.edge_matrix import layer_of
from selfrepair.app.charts.style.head_colors import CHOSEN
from selfrepair.app.charts.style.palette import PARTS, REFERENCE
from selfrepair.app.wording.columns import title

VIEW = "who_repairs"
MAX_EDGES, MAX_OF_CHOSEN = 60, 20
SIGNS = {"repairs": "#e6821e", "adds to the damage": "#3d8fd1"}
"""Colours of changes up and down, as in the matrix."""

_NODE_PX = 54
_MARGIN_PX = 150
_HIGHEST_PX = 760


def largest_edges(edges: pl.DataFrame, chosen: str) -> pl.DataFrame:
    """The edges to draw of `edges`, which come in order of size: the largest of all, and those of the chosen head."""
    number = pl.int_range(pl.len())
    is_own = pl.col("label") == chosen
    return edges.filter((number < MAX_EDGES) | (is_own & (is_own.cum_sum() <= MAX_OF_CHOSEN)))


def edge_graph(
    edges: pl.DataFrame, ablated: Sequence[str], targets: Sequence[str], chosen: str, widest: float
) -> alt.LayerChart:
    """Lines from ablated heads to the heads and MLPs that change, as wide as |mean_change|; those of `chosen` are strong.

    A line is widest from `widest` logits on.

    A click on a head is the selection `heatmap.HEAD_SELECTION`.
    """
    labels = list(dict.fromkeys([*ablated, *targets]))
    deepest = 1 + max((int(label.split("H")[1]) for label in labels if "H" in label), default=0)
    places = {label: _place(label, deepest) for label in labels}
    nodes = pl.DataFrame(
        {
            "label": labels,
            "x": [places[label][0] for label in labels],
            "y": [places[label][1] for label in labels],
            "kind": ["head" if "H" in label else "mlp" for label in labels],
        }
    )
    nodes = nodes.with_columns(is_chosen=pl.col("label") == chosen)
    ends = nodes.select("label", "x", "y")
    lines = (
        edges.join(ends, on="label")
        .join(ends.rename({"label": "target_label", "x": "x2", "y": "y2"}), on="target_label")
        .with_columns(
            size=pl.col("mean_change").abs(),
            is_chosen=pl.col("label") == chosen,
            sign=pl.when(pl.col("mean_change") > 0).then(pl.lit("repairs")).otherwise(pl.lit("adds to the damage")),
        )
        .sort("size")
    )
    n_layers = 1 + max(int(layer_of(label)) for label in labels)
    x = alt.X(
        "x:Q",
        title="Layer; its MLP is to the right of its heads",
        scale=alt.Scale(domain=[-0.4, n_layers - 0.1], nice=False),
        axis=alt.Axis(values=list(range(n_layers)), format="d", grid=False),
    )
    y = alt.Y(
        "y:Q",
        title="Head",
        scale=alt.Scale(domain=[-0.6, deepest + 0.8], reverse=True, nice=False),
        axis=alt.Axis(values=list(range(deepest)), format="d", grid=False),
    )
    rules = (
        alt.Chart(lines)
        .mark_rule(strokeCap="round")
        .encode(
            x,
            y,
            alt.X2("x2"),
            alt.Y2("y2"),
            alt.Color(
                "sign:N",
                title=None,
                scale=alt.Scale(domain=list(SIGNS), range=list(SIGNS.values())),
                legend=alt.Legend(orient="top", symbolType="stroke", symbolStrokeWidth=4),
            ),
            strokeWidth=alt.StrokeWidth(
                "size:Q",
                title=f"|{title(VIEW, 'mean_change')}|",
                scale=alt.Scale(domain=[0, widest], range=[0.8, 8], clamp=True),
                legend=None,
            ),
            opacity=alt.OpacityValue(0.3, condition=_if_chosen(0.95)),
            tooltip=[
                alt.Tooltip("label:N", title="Ablated"),
                alt.Tooltip("target_label:N", title="Changes"),
                alt.Tooltip("mean_change:Q", title=title(VIEW, "mean_change"), format=".4f"),
                alt.Tooltip("standard_error:Q", title=title(VIEW, "standard_error"), format=".4f"),
            ],
        )
    )
    # a layer of their own for MLPs: only heads can be chosen
    mlps, dots = (
        alt.Chart(nodes.filter(pl.col("kind") == kind))
        .mark_point(filled=True, opacity=1, shape=shape)
        .encode(
            x,
            y,
            size=alt.SizeValue(90, condition=_if_chosen(220)),
            fill=alt.FillValue(color, condition=_if_chosen(CHOSEN)),
            tooltip=[alt.Tooltip("label:N", title="Name")],
        )
        for kind, shape, color in (("mlp", "square", PARTS["MLP"]), ("head", "circle", REFERENCE))
    )
    height = min(_HIGHEST_PX, _MARGIN_PX + _NODE_PX * (deepest + 1))
    return alt.LayerChart(layer=[rules, mlps, dots.add_params(head_selection())], height=height)


def _if_chosen(value: float | str) -> dict[str, float | str]:
    """The condition that gives `value` to the marks of the chosen head; `alt.condition` is ten times slower."""
    return {"test": "datum.is_chosen", "value": value}


def _place(label: str, deepest: int) -> tuple[float, float]:
    """The position of a head or MLP: layers from left to right, an MLP after its layer's heads and below them."""
    layer = float(layer_of(label))
    return (layer, float(label.split("H")[1])) if "H" in label else (layer + 0.5, float(deepest))
