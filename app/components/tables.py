"""Tables of numbers: each number with its name in words, its unit and its meaning."""

from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl
import streamlit as st

from selfrepair.app.components.html_table import text_table
from selfrepair.app.wording.columns import column, meaning, title

_MAX_ROUNDING = 0.05
"""The relative error from which four decimals, the steps in which effects are stored, are too few."""


def column_headers(view: str, names: Iterable[str]) -> dict[str, Any]:
    """Streamlit's `column_config` for columns of `view`: four decimals, and thousands separators in counts."""
    return {name: _header(view, name) for name in names}


def fact_table(view: str, rows: pl.DataFrame, names: Sequence[str] = ("Value",)) -> None:
    """Draw `rows` of `view` transposed: a line for each of its columns, with the number of each row and its meaning.

    `names` are the headings of the rows.
    """
    lines = [
        (title(view, name), *(_text(view, name, value) for value in rows[name]), column(view, name).description)
        for name in rows.columns
    ]
    text_table(pl.DataFrame(lines, schema=["Number", *names, "Meaning"], orient="row"))


def record_table(view: str, rows: pl.DataFrame, links: Sequence[str] = (), *, to: tuple[str, str] = ("", "")) -> None:
    """Draw `rows` of `view` as text, to be read rather than searched. `links` and `to` are those of `text_table`."""
    texts = [[_text(view, name, value) for name, value in row.items()] for row in rows.iter_rows(named=True)]
    names = [title(view, name) for name in rows.columns]
    text_table(
        pl.DataFrame(texts, schema=dict.fromkeys(names, pl.String), orient="row"),
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
            rounding = abs(value - round(value, 4))
            return f"{value:.1e}" if rounding > _MAX_ROUNDING * abs(value) else f"{value:,.4f}"
        case _:
            return str(value)


def _header(view: str, name: str) -> Any:
    if column(view, name).type in ("DOUBLE", "FLOAT"):
        return st.column_config.NumberColumn(title(view, name), help=meaning(view, name), format="%.4f")
    if column(view, name).unit and column(view, name).type in ("BIGINT", "INTEGER", "HUGEINT"):
        return st.column_config.NumberColumn(title(view, name), help=meaning(view, name), format="localized")
    return st.column_config.Column(title(view, name), help=meaning(view, name))
