"""Self-repair as a stack of its components, such as LayerNorm repair; those that add to the damage are below zero."""

from collections.abc import Sequence

import altair as alt
import polars as pl

from selfrepair.app.charts.style.palette import PARTS, REFERENCE
from selfrepair.app.wording.columns import title

HEIGHT_PX = 400


def stacked_parts(
    frame: pl.DataFrame,
    view: str,
    parts: dict[str, str],
    total: str,
    *,
    x: str,
    x_title: str,
    order: str,
    more: Sequence[str] = (),
) -> alt.LayerChart:
    """A bar for each row of `frame`, at `x` in the order of `order`, with a mark at the `total` of the parts.

    `parts` are the columns of the stack by their names in `palette.PARTS`. Columns are those of `view`; `more` are
    further columns of the tooltips.
    """
    y_title = title(view, total)
    in_order = frame.sort(order)[x].to_list()
    shared = list(dict.fromkeys([x, order, total, *more]))
    bars = frame.select(*shared, **{part: pl.col(column) for part, column in parts.items()}).unpivot(
        list(parts), index=shared, variable_name="part", value_name="value"
    )
    at = alt.X(f"{x}:N", title=x_title, sort=in_order, axis=alt.Axis(labelAngle=0))
    about = [alt.Tooltip(f"{name}:Q", title=title(view, name), format=_format(frame, name)) for name in (total, *more)]
    stack = (
        alt.Chart(bars, height=HEIGHT_PX)
        .mark_bar()
        .encode(
            at,
            alt.Y("value:Q", title=y_title, stack="zero"),
            alt.Color(
                "part:N",
                title="Repair by",
                scale=alt.Scale(domain=list(parts), range=[PARTS[part] for part in parts]),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=[
                alt.Tooltip(f"{x}:N", title=x_title),
                alt.Tooltip("part:N", title="Component"),
                alt.Tooltip("value:Q", title="Its repair", format=".4f"),
                *about,
            ],
        )
    )
    totals = (
        alt.Chart(frame)
        .mark_point(shape="diamond", size=70, filled=True, color="white", stroke="black", strokeWidth=1.2, opacity=1)
        .encode(at, alt.Y(f"{total}:Q", title=y_title), tooltip=[alt.Tooltip(f"{x}:N", title=x_title), *about])
    )
    zero = alt.Chart(pl.DataFrame({"zero": [0.0]})).mark_rule(color=REFERENCE).encode(y=alt.Y("zero:Q"))
    return stack + zero + totals


def _format(frame: pl.DataFrame, name: str) -> str:
    return ",d" if frame.schema[name].is_integer() else ".4f"
