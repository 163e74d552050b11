"""Tables with sentences in them: every row as high as its text, which a grid would cut off."""

from collections.abc import Sequence
from html import escape

import polars as pl
import streamlit as st

_FEW = 20
"""Rows that are shown all at once; more are scrolled."""

_STYLE = """<style>
.sentences-within { overflow-x: auto; }
.sentences-scrolled { max-height: 32rem; overflow-y: auto; }
.sentences { width: 100%; border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
.sentences-scrolled th { position: sticky; top: 0; background: light-dark(#fff, #171614); }
.sentences th[title] { cursor: help; }
.sentences th { text-align: left; font-weight: normal; color: color-mix(in srgb, currentColor 65%, transparent); }
.sentences :is(th, td) { padding: 0.4rem 1rem 0.4rem 0.2rem; border: 0; vertical-align: top; overflow-wrap: break-word; }
.sentences a { color: light-dark(#2f7fc1, #5aa5e0); }
.sentences td { white-space: pre-line; }
.sentences tr { border: 0; border-bottom: 1px solid color-mix(in srgb, currentColor 16%, transparent); }
</style>"""


def sentences(
    rows: pl.DataFrame, meanings: Sequence[str] = (), links: Sequence[str] = (), *, to: tuple[str, str] = ("", "")
) -> None:
    """Draw a table of texts, as they are.

    `meanings`, one for each column if given, are shown by a hover over the columns' names. `links`, one for each row if
    given, are addresses that open beside this page, from a first column whose name and meaning are `to`. The table is one
    piece of HTML: Streamlit's own table reads each cell as Markdown, and its grid takes a browser as long to load as a
    page of pictures.
    """
    head = [_name(*named) for named in zip(rows.columns, meanings or [""] * rows.width, strict=True)]
    lines = [[f"<td>{escape(text)}</td>" for text in texts] for texts in rows.iter_rows()]
    if links:
        head.insert(0, _name(*to))
        for line, link in zip(lines, links, strict=True):
            line.insert(0, f'<td><a href="{escape(link)}" target="_blank">open</a></td>')
    body = "".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    place = "sentences-within sentences-scrolled" if rows.height > _FEW else "sentences-within"
    st.html(
        f'{_STYLE}<div class="{place}"><table class="sentences"><thead><tr>{"".join(head)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _name(name: str, told: str) -> str:
    hover = f' title="{escape(told)}"' if told else ""
    return f'<th scope="col"{hover}>{escape(name)}</th>'
