"""Links to the Tokens page: a row's prompt, with its position pinned."""

from urllib.parse import urlencode

import polars as pl
import streamlit as st

_SIDEBAR = ("model", "run", "ablation", "population")


def token_links(rows: pl.DataFrame, label: str) -> list[str]:
    """A link for each of `rows` (prompt_id, pos) to the head `label`, with the sidebar as it is now."""
    kept = {name: st.query_params[name] for name in _SIDEBAR if name in st.query_params} | {"head": label}
    return [
        f"tokens?{urlencode(kept | {'prompt': prompt, 'pinned': pos})}"
        for prompt, pos in rows.select("prompt_id", "pos").iter_rows()
    ]
