"""A picture with all that belongs to it: its data, its SQL, itself as a file."""

import io
import threading
from collections.abc import Callable
from typing import Any

import altair as alt
import polars as pl
import streamlit as st
import vl_convert
from altair.utils.schemapi import disable_debug_mode

from selfrepair.app.charts.style.palette import CATEGORIES, DIVERGING
from selfrepair.app.components.export_context import looked_at, stem_of_files

Picture = alt.Chart | alt.LayerChart | alt.FacetChart | alt.HConcatChart | alt.VConcatChart | alt.ConcatChart

MOST_MARKS = 20_000
"""Marks a picture may have; a page that has more rows draws a sample and says so."""

_WIDTH_OF_FILE = 800
_TYPES = {"CSV": "text/csv", "Parquet": "application/vnd.apache.parquet", "SVG": "image/svg+xml", "PNG": "image/png"}
disable_debug_mode()  # it compares each piece of a chart with the schema as it is made; the tests compare the whole
_ONE_AT_A_TIME = threading.Lock()  # what Altair does with data is set for all threads


def show(chart: Picture, frame: pl.DataFrame, sql: str, *, name: str) -> None:
    """Draw a chart of `frame`, which answers `sql`; `name` is its widget key, and its files' names begin with it.

    A button below it opens the data (CSV, Parquet), the SQL with a way to the SQL page, and the picture (SVG, PNG).
    """
    assert frame.height <= MOST_MARKS, name
    draw(chart, key=name)
    below(frame, sql, name=name, chart=chart)


def draw(chart: Picture, *, key: str, on_select: Any = "ignore") -> None:
    """Draw a chart, `key` being its widget's; `on_select` is Streamlit's.

    As `streamlit.altair_chart` does, but the chart is not compared with Vega-Lite's schema once more, which takes as
    long as all else that a page does: the tests do that.
    """
    st.vega_lite_chart(
        spec=spec_of(chart, st.context.theme.type or "light"), key=key, on_select=on_select, width="stretch"
    )


def below(frame: pl.DataFrame, sql: str, *, name: str, chart: Picture | None = None) -> None:
    """The button below a picture or table. What it opens is made when it is opened, and is of what is looked at now."""
    _button(frame, sql, name, chart, stem_of_files(name), looked_at())


@st.fragment
def _button(frame: pl.DataFrame, sql: str, name: str, chart: Picture | None, stem: str, words: str) -> None:
    with st.container(horizontal=True, horizontal_alignment="right"):
        label = "Data and SQL" if chart is None else "Data, SQL, picture"
        box = st.popover(label, type="tertiary", icon=":material/download:", key=f"{name} data", on_change="rerun")
    if not box.open:
        return
    with box:
        with st.container(horizontal=True):
            for kind, made in _files(frame, chart, words).items():
                # "ignore": drawn anew by a click, the other buttons would ask for files that are gone
                ending = kind.lower()
                st.download_button(
                    kind, made, f"{stem}.{ending}", _TYPES[kind], key=f"{name} {ending}", on_click="ignore"
                )
        st.dataframe(frame, height=260)
        st.code(sql, language="sql")
        st.page_link("app_pages/sql.py", label="Open in the SQL page", query_params={"sql": sql})


def _files(frame: pl.DataFrame, chart: Picture | None, words: str) -> dict[str, Callable[[], str | bytes]]:
    """What makes each kind of file, by the kind's name; in pictures `words` stand above."""
    data: dict[str, Callable[[], str | bytes]] = {"CSV": lambda: frame.write_csv(), "Parquet": lambda: _parquet(frame)}
    if chart is None:
        return data
    return data | {
        "SVG": lambda: vl_convert.vegalite_to_svg(_whole(chart, words)),
        "PNG": lambda: vl_convert.vegalite_to_png(_whole(chart, words), scale=2),
    }


def _whole(chart: Picture, words: str) -> dict[str, Any]:
    """The chart as Vega-Lite with all its data and `words` above it, as wide as on the page where it is a single one."""
    spec = spec_of(chart.properties(width=_WIDTH_OF_FILE) if isinstance(chart, alt.Chart | alt.LayerChart) else chart)
    datasets = {
        name: data.to_dicts() if isinstance(data, pl.DataFrame) else data for name, data in spec["datasets"].items()
    }
    return {"title": words} | spec | {"datasets": datasets}


def spec_of(chart: Picture, theme: str = "light") -> dict[str, Any]:
    """The chart as Vega-Lite in the colours of a theme, with its data as frames in `datasets`.

    They are named by the order in which they are met: the browser then draws new data into the picture that is there.
    """
    frames: list[pl.DataFrame] = []

    def named(data: Any) -> dict[str, str]:
        if not any(data is frame for frame in frames):
            frames.append(data)
        return {"name": f"data {[data is frame for frame in frames].index(True)}"}

    with _ONE_AT_A_TIME:
        alt.data_transformers.register("named", named)
        with alt.data_transformers.enable("named"), alt.theme.enable("none"):
            spec: dict[str, Any] = chart.to_dict(validate=False)
    # written into what comes out: Altair would copy the whole chart for it
    spec["config"] = spec.get("config", {}) | {"range": {"category": CATEGORIES, "diverging": DIVERGING[theme]}}
    return spec | {"datasets": spec.get("datasets", {}) | {f"data {i}": frame for i, frame in enumerate(frames)}}


def _parquet(frame: pl.DataFrame) -> bytes:
    data = io.BytesIO()
    frame.write_parquet(data)
    return data.getvalue()
