"""Tables with sentences in them: every row as high as its text, which a grid would cut off."""

from collections.abc import Iterable
from html import escape

import polars as pl
import streamlit as st

_STYLE = """<style>
.sentences { width: 100%; border-collapse: collapse; font-size: 0.875rem; }
.sentences th { text-align: left; font-weight: normal; opacity: 0.65; white-space: nowrap; }
.sentences :is(th, td) { padding: 0.4rem 1rem 0.4rem 0.2rem; border: 0; vertical-align: top; overflow-wrap: break-word; }
.sentences td { white-space: pre-line; }
.sentences tr { border: 0; border-bottom: 1px solid color-mix(in srgb, currentColor 16%, transparent); }
</style>"""


def sentences(rows: pl.DataFrame) -> None:
    """Draw a table of texts, as they are.

    It is one piece of HTML: Streamlit's own table reads each cell as Markdown, which takes a browser as long as a picture.
    """
    head = _row('<th scope="col">{}</th>', rows.columns)
    body = "".join(_row("<td>{}</td>", texts) for texts in rows.iter_rows())
    st.html(f'{_STYLE}<table class="sentences"><thead>{head}</thead><tbody>{body}</tbody></table>')


def _row(cell: str, texts: Iterable[str]) -> str:
    return f"<tr>{''.join(cell.format(escape(text)) for text in texts)}</tr>"
