"""Tables with sentences in them: every row as high as its text, which a grid would cut off."""

from collections.abc import Iterable, Sequence
from html import escape
from itertools import zip_longest

import polars as pl
import streamlit as st

_STYLE = """<style>
.sentences-within { max-height: 32rem; overflow: auto; }
.sentences { width: 100%; border-collapse: collapse; font-size: 0.875rem; }
.sentences th[title] { cursor: help; }
.sentences th { text-align: left; font-weight: normal; opacity: 0.65; }
.sentences :is(th, td) { padding: 0.4rem 1rem 0.4rem 0.2rem; border: 0; vertical-align: top; overflow-wrap: break-word; }
.sentences td { white-space: pre-line; }
.sentences tr { border: 0; border-bottom: 1px solid color-mix(in srgb, currentColor 16%, transparent); }
</style>"""


def sentences(rows: pl.DataFrame, meanings: Sequence[str] = ()) -> None:
    """Draw a table of texts, as they are. A hover over a column's name shows the one of `meanings` in its place.

    It is one piece of HTML: Streamlit's own table reads each cell as Markdown, which takes a browser as long as a picture.
    """
    head = "".join(_name(*named) for named in zip_longest(rows.columns, meanings, fillvalue=""))
    body = "".join(_row(texts) for texts in rows.iter_rows())
    st.html(
        f'{_STYLE}<div class="sentences-within"><table class="sentences"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _name(name: str, told: str) -> str:
    hover = f' title="{escape(told)}"' if told else ""
    return f'<th scope="col"{hover}>{escape(name)}</th>'


def _row(texts: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in texts)}</tr>"
