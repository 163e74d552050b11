"""A chart with all that belongs to it: its data, its SQL, itself as a file."""

import io
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import altair as alt
import polars as pl
import streamlit as st
import vl_convert

from selfrepair.app.charts.style.palette import CATEGORIES, DIVERGING
from selfrepair.app.compat import skip_schema_checks
from selfrepair.app.components.about import About, csv_comment, facts, file_stem, in_words, title_lines
from selfrepair.app.data.chosen import fits_link, link_to
from selfrepair.queries.catalog.next_step import API
from selfrepair.queries.sandbox.served import MAX_ROWS

Picture = alt.Chart | alt.LayerChart | alt.FacetChart | alt.HConcatChart | alt.VConcatChart | alt.ConcatChart

MAX_MARKS = 20_000
"""Marks that a chart may have; a page with more rows draws a sample and says so."""

_FILE_WIDTH_PX = 800
_TYPES = {"CSV": "text/csv", "Parquet": "application/vnd.apache.parquet", "SVG": "image/svg+xml", "PNG": "image/png"}
_SPECIAL_TITLES = ("image", "title", "__proto__")
_AS_THE_PAGE = About()
_ALTAIR_LOCK = threading.Lock()  # Altair's data transformer is a setting of all threads

skip_schema_checks()  # the tests compare every chart with the schema


def show_figure(chart: Picture, frame: pl.DataFrame, sql: str, *, name: str, about: About = _AS_THE_PAGE) -> None:
    """Draw a chart of `frame`, the result of `sql`; `name` is its widget key and the start of its files' names.

    `about` says what it shows where that is not what the sidebar says.
    A button below it opens the data (CSV, Parquet), the SQL with links to the SQL page and to the same rows over HTTP, and
    the chart (SVG, PNG).
    """
    assert frame.height <= MAX_MARKS, name
    draw_chart(chart, key=name)
    data_popover(frame, sql, name=name, chart=chart, about=about)


def draw_chart(chart: Picture, *, key: str, on_select: Any = "ignore") -> None:
    """Draw a chart as the widget `key`; `on_select` is Streamlit's.

    As `streamlit.altair_chart`, without its comparison with Vega-Lite's schema, which takes as long as the rest of a
    page: the tests do that.
    """
    st.vega_lite_chart(
        spec=spec_of(chart, st.context.theme.type or "light"), key=key, on_select=on_select, width="stretch"
    )


def data_popover(
    frame: pl.DataFrame, sql: str, *, name: str, chart: Picture | None = None, about: About = _AS_THE_PAGE
) -> None:
    """The button below a chart or table; what it shows is made when it is opened. Files say what they are about."""
    _button(frame, sql, name, chart, facts(about, frame))


@st.fragment
def _button(frame: pl.DataFrame, sql: str, name: str, chart: Picture | None, told: Mapping[str, str]) -> None:
    with st.container(horizontal=True, horizontal_alignment="right"):
        label = "Data and SQL" if chart is None else "Data, SQL, image"
        box = st.popover(label, type="tertiary", icon=":material/download:", key=f"{name} data", on_change="rerun")
    if not box.open:
        return
    with box:
        with st.container(horizontal=True):
            for kind, made in _files(frame, chart, told).items():
                # "ignore": redrawn after a click, the other buttons would point to files that no longer exist
                ending = kind.lower()
                st.download_button(
                    kind,
                    made,
                    f"{file_stem(name, told)}.{ending}",
                    _TYPES[kind],
                    key=f"{name} {ending}",
                    on_click="ignore",
                )
        st.dataframe(frame, height=260)
        st.code(sql, language="sql")
        st.page_link("app_pages/sql.py", label="Open in the SQL page", query_params=link_to("sql", sql=sql))
        if fits_link(sql):
            st.link_button("The same rows over HTTP", http_address(sql), type="tertiary", icon=":material/link:")


def http_address(sql: str) -> str:
    """Where the HTTP API answers the same query as JSON, on the app's own host; other formats by another ending."""
    path = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"{'/' if path else ''}{path}{API}/sql.json?{urlencode({'q': sql, 'limit': MAX_ROWS})}"


def _files(frame: pl.DataFrame, chart: Picture | None, told: Mapping[str, str]) -> dict[str, Callable[[], str | bytes]]:
    """Functions that make each kind of file, by the kind's name; each carries the facts `told`."""
    data: dict[str, Callable[[], str | bytes]] = {
        "CSV": lambda: csv_comment(told) + frame.write_csv(),
        "Parquet": lambda: _parquet(frame, told),
    }
    if chart is None:
        return data
    return data | {
        "SVG": lambda: svg(chart, told),
        "PNG": lambda: png(chart, told),
    }


def svg(chart: Picture, told: Mapping[str, str]) -> str:
    """The chart as a file, with the facts `told` as its title."""
    return vl_convert.vegalite_to_svg(self_contained(chart, told))


def png(chart: Picture, told: Mapping[str, str]) -> bytes:
    """The same in pixels."""
    return vl_convert.vegalite_to_png(self_contained(chart, told), scale=2)


def self_contained(chart: Picture, told: Mapping[str, str]) -> dict[str, Any]:
    """The chart as Vega-Lite with all its data and the facts `told` as its title; a single chart as wide as on a page."""
    spec = spec_of(chart.properties(width=_FILE_WIDTH_PX) if isinstance(chart, alt.Chart | alt.LayerChart) else chart)
    datasets = {
        name: data.to_dicts() if isinstance(data, pl.DataFrame) else data for name, data in spec["datasets"].items()
    }
    title, *lines = title_lines(told) or [""]
    return {"title": {"text": title, "subtitle": lines, "anchor": "start"}} | spec | {"datasets": datasets}


def spec_of(chart: Picture, theme: str = "light") -> dict[str, Any]:
    """The chart as Vega-Lite in the colours of a theme, with its data as frames in `datasets`.

    These are named by their order: the browser then updates the data of a chart instead of redrawing it.
    """
    frames: list[pl.DataFrame] = []

    def named(data: Any) -> dict[str, str]:
        if not any(data is frame for frame in frames):
            frames.append(data)
        return {"name": f"data {[data is frame for frame in frames].index(True)}"}

    with _ALTAIR_LOCK:
        alt.data_transformers.register("named", named)
        with alt.data_transformers.enable("named"), alt.theme.enable("none"):
            spec: dict[str, Any] = chart.to_dict(validate=False)
    _rename_special_titles(spec)
    # set in the result: Altair would copy the whole chart for it
    spec["config"] = spec.get("config", {}) | {"range": {"category": CATEGORIES, "diverging": DIVERGING[theme]}}
    return spec | {"datasets": spec.get("datasets", {}) | {f"data {i}": frame for i, frame in enumerate(frames)}}


def _rename_special_titles(spec: Any) -> None:
    """Have no tooltip name a value by one of Vega's own keys, whatever a column is called: it fetches an `image`."""
    if isinstance(spec, list):
        for part in spec:
            _rename_special_titles(part)
    elif isinstance(spec, dict):
        for part in spec.values():
            _rename_special_titles(part)
        tooltips = spec["encoding"].get("tooltip", []) if "encoding" in spec else []
        for tooltip in tooltips if isinstance(tooltips, list) else [tooltips]:
            if tooltip and (shown := tooltip.get("title", tooltip.get("field"))) in _SPECIAL_TITLES:
                tooltip["title"] = f"column {shown}"


def _parquet(frame: pl.DataFrame, told: Mapping[str, str]) -> bytes:
    data = io.BytesIO()
    frame.write_parquet(data, metadata=in_words(told))
    return data.getvalue()
