"""Numbers in tables: each with its name in words, its unit and its meaning."""

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl
import streamlit as st

from selfrepair.app.showing.sentences import sentences
from selfrepair.app.showing.wording import column, meaning, title


def headers(view: str, names: Iterable[str]) -> dict[str, Any]:
    """Streamlit's `column_config` for columns of `view`: four decimals, and counts with their thousands parted."""
    return {name: _header(view, name) for name in names}


def facts(view: str, row: Mapping[str, Any]) -> None:
    """Draw one row of `view` as a list: a number, what it is called, what it means."""
    told = [
        (title(view, name), "none" if value is None else f"{value:.4f}", column(view, name).description)
        for name, value in row.items()
    ]
    sentences(pl.DataFrame(told, schema=["Number", "Value", "Meaning"], orient="row"))


def _header(view: str, name: str) -> Any:
    if column(view, name).type in ("DOUBLE", "FLOAT"):
        return st.column_config.NumberColumn(title(view, name), help=meaning(view, name), format="%.4f")
    if column(view, name).unit and column(view, name).type in ("BIGINT", "INTEGER", "HUGEINT"):
        return st.column_config.NumberColumn(title(view, name), help=meaning(view, name), format="localized")
    return st.column_config.Column(title(view, name), help=meaning(view, name))
