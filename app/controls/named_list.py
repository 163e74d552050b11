"""A list of names to choose from that shows words for them, while the link keeps the names.

Streamlit's own binding of a widget to the link writes what the widget shows, and cannot do both.
"""

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import streamlit as st


def turn_page() -> None:
    """Note which page is drawn now, and which was before. To be called once each time, before any widget."""
    st.session_state["page before"] = st.session_state.get("page")
    st.session_state["page"] = urlsplit(st.context.url or "").path


def choose_name(
    label: str,
    names: Sequence[str],
    key: str,
    shown: Callable[[str], str] = str,
    *,
    first: str | None = None,
    always_in_link: bool = False,
    **layout: Any,
) -> str:
    """Draw the widget; the chosen one of `names`, before any choice `first` or else the first. `key` is what it is called
    in links, which leave out a first choice unless it is `always_in_link`.
    """
    first = names[0] if first is None else first
    state, link = st.session_state, st.query_params
    is_same_page = state.get("page") == state.get("page before")
    linked = link.get(key)
    if linked != state.get(f"{key} in the link") and (linked is not None or is_same_page):
        state[key] = first if linked is None else linked  # opened by a link, or by the browser's way back
    if state.get(key) not in names:
        state[key] = first
    chosen: str = st.selectbox(label, names, key=key, format_func=shown, persist_state="session", **layout)
    linked = None if chosen == first and not always_in_link else chosen
    if linked is None:
        link.pop(key, None)
    elif link.get(key) != linked:
        link[key] = linked
    state[f"{key} in the link"] = linked
    return chosen
