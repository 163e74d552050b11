"""A quick chart of any query result: its columns as points, a line, bars or a histogram."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import altair as alt
import polars as pl

Kind = Literal["points", "line", "bars", "histogram"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MAX_TOOLTIP = 12
"""Columns that a tooltip lists at most."""

_COLOURS = ("#3d8fd1", "#e69f00", "#009e73", "#d6317f", "#56b4e9", "#b59b00", "#9467bd", "#8a8f98")
_BINS = 50


def numeric_columns(frame: pl.DataFrame) -> list[str]:
    """Names of the numeric columns, in their order."""
    return [name for name, dtype in frame.schema.items() if dtype.is_numeric()]


def first_axes(frame: pl.DataFrame) -> tuple[str, str]:
    """Default columns for x and y: one that identifies rows and a fractional one, or two fractional ones.

    Ids of runs, prompts and the like are used only if there is nothing else.
    """
    columns = [name for name in frame.columns if not (name == "id" or name.endswith("_id"))] or frame.columns
    counted = [name for name in numeric_columns(frame) if name in columns] or numeric_columns(frame) or columns
    fractions = [name for name in counted if frame.schema[name].is_float()] or counted
    first = counted[0] if frame[counted[0]].n_unique() == frame.height or len(fractions) == 1 else fractions[0]
    others = [name for name in (*fractions, *counted) if name != first]
    if others:
        return first, others[0]
    return next((name for name in columns if name != first), first), first


def drawable(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """The rows that can be drawn: none of `columns` is NULL, infinite or NaN."""
    conditions = [pl.col(name).is_not_null() for name in columns]
    conditions += [pl.col(name).is_finite() for name in columns if frame.schema[name].is_float()]
    return frame.filter(conditions)


def quick_chart(
    frame: pl.DataFrame, kind: Kind, x: str, y: str, colour: str | None, titles: Mapping[str, str]
) -> alt.Chart:
    """Draw `frame`, whose column names may be anything. `titles` are names with units, where known.

    A histogram is of `x` and ignores `y`. Categories keep the order of the rows.
    """
    used = list(dict.fromkeys([name for name in (x, y, colour) if name is not None] + frame.columns))[:MAX_TOOLTIP]
    columns = {name: _Column(f"c{n}", titles.get(name, name), frame.schema[name]) for n, name in enumerate(used)}
    chart = alt.Chart(frame.select(column.of(name) for name, column in columns.items()))
    encoded: dict[str, Any] = {"color": columns[colour].color()} if colour is not None else {}
    mark: dict[str, Any] = {} if colour is not None else {"color": _COLOURS[0]}
    if kind == "histogram":
        counted = alt.Y("count()", title="Rows shown [rows]")
        tooltip = [columns[x].binned(alt.Tooltip), alt.Tooltip("count()", title="Rows shown [rows]")]
        return chart.mark_bar(**mark).encode(columns[x].binned(alt.X), counted, tooltip=tooltip, **encoded)
    encoded["tooltip"] = [alt.Tooltip(**column.described) for column in columns.values()]
    if kind == "bars":
        if colour is not None and colour != x and columns[colour].vega_type != "quantitative":
            encoded["xOffset"] = alt.XOffset(field=columns[colour].field, type="nominal", sort=None)
        bar = alt.X(**(columns[x].described | {"type": "ordinal"}), sort=None)
        return chart.mark_bar(**mark).encode(bar, columns[y].axis(alt.Y, zero=True).stack(None), **encoded)
    of_x, of_y = columns[x].axis(alt.X), columns[y].axis(alt.Y)
    if kind == "line":
        return chart.mark_line(point={"size": 25}, **mark).encode(of_x, of_y, **encoded)
    return chart.mark_circle(opacity=0.6, size=40, **mark).encode(of_x, of_y, **encoded)


@dataclass(frozen=True)
class _Column:
    """A column under a safe `field` name: Vega reads dots and brackets in names as paths."""

    field: str
    title: str
    dtype: pl.DataType

    @property
    def vega_type(self) -> str:
        if self.dtype.is_numeric():
            return "quantitative"
        return "temporal" if self.dtype in (pl.Date, pl.Datetime) else "nominal"

    @property
    def described(self) -> dict[str, Any]:
        return {"field": self.field, "type": self.vega_type, "title": self.title}

    def of(self, name: str) -> pl.Expr:
        """The frame's column `name`, converted to a type that Vega knows."""
        known = self.dtype.is_numeric() or self.dtype in (pl.Date, pl.Datetime, pl.String, pl.Boolean)
        return (pl.col(name) if known else pl.col(name).cast(pl.String)).alias(self.field)

    def axis(self, channel: type[Any], *, zero: bool = False) -> Any:
        if self.vega_type == "quantitative":
            return channel(**self.described, scale=alt.Scale(zero=zero))
        return channel(**self.described, sort=None) if self.vega_type == "nominal" else channel(**self.described)

    def binned(self, channel: type[Any]) -> Any:
        if self.vega_type == "quantitative":
            return channel(**self.described, bin=alt.Bin(maxbins=_BINS))
        return channel(**self.described)

    def color(self) -> alt.Color:
        """Fractional numbers on a sequential scale; all else, integers included, in distinct colours."""
        if self.dtype.is_float():
            return alt.Color(**self.described, scale=alt.Scale(scheme="viridis"))
        described = self.described | {"type": "nominal"}
        return alt.Color(
            **described, scale=alt.Scale(range=list(_COLOURS)), sort=None, legend=alt.Legend(symbolLimit=20)
        )
