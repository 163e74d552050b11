"""Numbers in tables: each with its name in words, its unit and its meaning."""

from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl
import streamlit as st

from selfrepair.app.components.html_table import sentences
from selfrepair.app.wording.columns import column, meaning, title

_MOST_LOST = 0.05
"""The share of a number that four decimals, the steps in which effects are stored, may take off it."""


def headers(view: str, names: Iterable[str]) -> dict[str, Any]:
    """Streamlit's `column_config` for columns of `view`: four decimals, and counts with their thousands parted."""
    return {name: _header(view, name) for name in names}


def facts(view: str, rows: pl.DataFrame, names: Sequence[str] = ("Value",)) -> None:
    """Draw rows of `view` as a list, each a column under its name: what a number is called, the number, what it means."""
    told = [
        (title(view, name), *(_text(view, name, value) for value in rows[name]), column(view, name).description)
        for name in rows.columns
    ]
    sentences(pl.DataFrame(told, schema=["Number", *names, "Meaning"], orient="row"))


def records(view: str, rows: pl.DataFrame, links: Sequence[str] = (), *, to: tuple[str, str] = ("", "")) -> None:
    """Draw rows of `view` as they would be told: to be read, not searched. `links` and `to` are those of `sentences`."""
    told = [[_text(view, name, value) for name, value in row.items()] for row in rows.iter_rows(named=True)]
    names = [title(view, name) for name in rows.columns]
    sentences(
        pl.DataFrame(told, schema=dict.fromkeys(names, pl.String), orient="row"),
        [meaning(view, name) for name in rows.columns],
        links,
        to=to,
    )


def _text(view: str, name: str, value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case int() if column(view, name).unit:
            return f"{value:,}"
        case float():
            lost = abs(value - round(value, 4))
            return f"{value:.1e}" if lost > _MOST_LOST * abs(value) else f"{value:,.4f}"
        case _:
            return str(value)


def _header(view: str, name: str) -> Any:
    if column(view, name).type in ("DOUBLE", "FLOAT"):
        return st.column_config.NumberColumn(title(view, name), help=meaning(view, name), format="%.4f")
    if column(view, name).unit and column(view, name).type in ("BIGINT", "INTEGER", "HUGEINT"):
        return st.column_config.NumberColumn(title(view, name), help=meaning(view, name), format="localized")
    return st.column_config.Column(title(view, name), help=meaning(view, name))
