"""Tables with sentences in them: every row as high as its text, which a grid would cut off."""

from collections.abc import Iterable, Sequence
from html import escape
from itertools import zip_longest

import polars as pl
import streamlit as st

_FEW = 20
"""Rows that are shown all at once; more are scrolled."""

_STYLE = """<style>
.sentences-scrolled { max-height: 32rem; overflow: auto; }
.sentences { width: 100%; border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
.sentences-scrolled th { position: sticky; top: 0; background: light-dark(#fff, #171614); }
.sentences th[title] { cursor: help; }
.sentences th { text-align: left; font-weight: normal; color: color-mix(in srgb, currentColor 65%, transparent); }
.sentences :is(th, td) { padding: 0.4rem 1rem 0.4rem 0.2rem; border: 0; vertical-align: top; overflow-wrap: break-word; }
.sentences a { color: light-dark(#2f7fc1, #5aa5e0); }
.sentences td { white-space: pre-line; }
.sentences tr { border: 0; border-bottom: 1px solid color-mix(in srgb, currentColor 16%, transparent); }
</style>"""


def sentences(rows: pl.DataFrame, meanings: Sequence[str] = (), links: Sequence[str] = ()) -> None:
    """Draw a table of texts, as they are.

    A hover over a column's name shows the one of `meanings` in its place. `links` are addresses, one for each row, that
    open beside this page from a first column. The table is one piece of HTML: Streamlit's own table reads each cell as
    Markdown, and its grid takes a browser as long to load as a page of pictures.
    """
    head = "".join(_name(*named) for named in zip_longest(rows.columns, meanings, fillvalue=""))
    opened = [f'<td><a href="{escape(link)}" target="_blank">open</a></td>' for link in links]
    body = "".join(
        f"<tr>{link}{_cells(texts)}</tr>" for link, texts in zip_longest(opened, rows.iter_rows(), fillvalue="")
    )
    scrolled = "sentences-scrolled" if rows.height > _FEW else ""
    st.html(
        f'{_STYLE}<div class="{scrolled}"><table class="sentences"><thead><tr>{_name("") if opened else ""}{head}'
        f"</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _name(name: str, told: str = "") -> str:
    hover = f' title="{escape(told)}"' if told else ""
    return f'<th scope="col"{hover}>{escape(name)}</th>'


def _cells(texts: Iterable[str]) -> str:
    return "".join(f"<td>{escape(text)}</td>" for text in texts)
