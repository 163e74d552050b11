"""A picture with all that belongs to it: its data, its SQL, itself as a file."""

import io
from typing import Any

import altair as alt
import polars as pl
import streamlit as st
import vl_convert

Picture = alt.Chart | alt.LayerChart | alt.FacetChart | alt.HConcatChart | alt.VConcatChart | alt.ConcatChart

MOST_MARKS = 20_000
"""Marks a picture may have; a page that has more rows draws a sample and says so."""


_WIDTH_OF_FILE = 800


def show(chart: Picture, frame: pl.DataFrame, sql: str, *, name: str, on_select: Any = "ignore") -> Any:
    """Draw a chart of `frame`, which answers `sql`; `name` is its widget key and the stem of its files.

    Below it are the data (CSV, Parquet), the SQL with a way to the SQL page, and the picture (SVG, PNG). Returns what
    Streamlit says is selected.
    """
    assert frame.height <= MOST_MARKS, name
    selected = st.altair_chart(chart, key=name, on_select=on_select, width="stretch")
    below(frame, sql, name=name, chart=chart)
    return selected


def below(frame: pl.DataFrame, sql: str, *, name: str, chart: Picture | None = None) -> None:
    """The row of buttons below a picture or table."""
    with st.container(horizontal=True, horizontal_alignment="right", gap="small"):
        with st.popover("Data", type="tertiary", icon=":material/table:"):
            st.dataframe(frame, height=260)
            with st.container(horizontal=True):
                st.download_button("CSV", lambda: frame.write_csv(), f"{name}.csv", "text/csv", key=f"{name} csv")
                st.download_button("Parquet", lambda: _parquet(frame), f"{name}.parquet", key=f"{name} parquet")
        with st.popover("SQL", type="tertiary", icon=":material/code:"):
            st.code(sql, language="sql")
            st.page_link("app_pages/sql.py", label="Open in the SQL page", query_params={"sql": sql})
        if chart is not None:
            with st.popover("Picture", type="tertiary", icon=":material/image:"), st.container(horizontal=True):
                st.download_button(
                    "SVG", lambda: vl_convert.vegalite_to_svg(_spec(chart)), f"{name}.svg", key=f"{name} svg"
                )
                st.download_button(
                    "PNG", lambda: vl_convert.vegalite_to_png(_spec(chart), scale=2), f"{name}.png", key=f"{name} png"
                )


def _spec(chart: Picture) -> str:
    """The chart as Vega-Lite with all its data, as wide as on the page where it is a single one."""
    if isinstance(chart, alt.Chart | alt.LayerChart):
        chart = chart.properties(width=_WIDTH_OF_FILE)
    with alt.data_transformers.enable("default", max_rows=None):
        return chart.to_json()


def _parquet(frame: pl.DataFrame) -> bytes:
    data = io.BytesIO()
    frame.write_parquet(data)
    return data.getvalue()
