"""Tables of text: every row as high as its sentences, which Streamlit's grid would cut off."""

from collections.abc import Sequence
from html import escape

import polars as pl
import streamlit as st

_SCROLLED_FROM = 20
"""Rows up to which a table is shown whole; longer ones scroll."""

_STYLE = """<style>
.text-table-frame { overflow-x: auto; }
.text-table-scrolled { max-height: 32rem; overflow-y: auto; }
.text-table { width: 100%; border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
.text-table-scrolled th { position: sticky; top: 0; background: light-dark(#fff, #171614); }
.text-table th[title] { cursor: help; }
.text-table th { text-align: left; font-weight: normal; color: color-mix(in srgb, currentColor 65%, transparent); }
.text-table :is(th, td) { padding: 0.4rem 1rem 0.4rem 0.2rem; border: 0; vertical-align: top; overflow-wrap: break-word; }
.text-table a { color: light-dark(#2f7fc1, #5aa5e0); }
.text-table td { white-space: pre-line; }
.text-table tr { border: 0; border-bottom: 1px solid color-mix(in srgb, currentColor 16%, transparent); }
</style>"""


def text_table(
    rows: pl.DataFrame, meanings: Sequence[str] = (), links: Sequence[str] = (), *, to: tuple[str, str] = ("", "")
) -> None:
    """Draw a table whose cells show their texts literally.

    `meanings`, if given, are the tooltips of the column names. `links`, if given, hold an address for each row, opened in
    a new tab from a first column whose name and meaning are `to`. The table is one piece of HTML: Streamlit's own table
    reads each cell as Markdown, and its grid takes a browser as long to load as a page of charts.
    """
    head = [_heading(*named) for named in zip(rows.columns, meanings or [""] * rows.width, strict=True)]
    lines = [[f"<td>{escape(text)}</td>" for text in texts] for texts in rows.iter_rows()]
    if links:
        head.insert(0, _heading(*to))
        for line, link in zip(lines, links, strict=True):
            line.insert(0, f'<td><a href="{escape(link)}" target="_blank">open</a></td>')
    body = "".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    place = "text-table-frame text-table-scrolled" if rows.height > _SCROLLED_FROM else "text-table-frame"
    st.html(
        f'{_STYLE}<div class="{place}"><table class="text-table"><thead><tr>{"".join(head)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _heading(name: str, meaning: str) -> str:
    tooltip = f' title="{escape(meaning)}"' if meaning else ""
    return f'<th scope="col"{tooltip}>{escape(name)}</th>'
