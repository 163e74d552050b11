"""Widgets whose values stand in the page's link, and what to say when a link holds something else.

Streamlit's own binding of a widget to the link writes the text that the widget shows. `linked_selectbox` shows words and
keeps names in the link.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import streamlit as st

from selfrepair.app.wording.escape import escape_markdown

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator


def note_page() -> None:
    """Note which page is drawn now, and which one before. To be called once per script run, before any widget."""
    st.session_state["page before"] = st.session_state.get("page")
    st.session_state["page"] = urlsplit(st.context.url or "").path


def linked_selectbox(
    label: str,
    names: Sequence[str],
    key: str,
    shown: Callable[[str], str] = str,
    *,
    first: str | None = None,
    always_in_link: bool = False,
    **layout: Any,
) -> str:
    """Draw a select box of `shown(name)`; the chosen one of `names`, which is also the value of `key` in the link.

    Before any choice it is `first`, by default the first name, which links leave out unless it is `always_in_link`.
    """
    first = names[0] if first is None else first
    state, link = st.session_state, st.query_params
    is_same_page = state.get("page") == state.get("page before")
    linked = link.get(key)
    if linked != state.get(f"{key} in the link") and (linked is not None or is_same_page):
        state[key] = first if linked is None else linked  # opened by a link, or by the browser's back button
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


def linked_segments(label: str, options: Iterable[str], key: str, help: str | None = None) -> str:
    """Draw a row of few options; the chosen one, at first the first, which is also the value of `key` in the link."""
    first, *others = options
    chosen = st.segmented_control(
        label, [first, *others], default=first, key=key, bind="query-params", required=True, help=help
    )
    return chosen or first  # a link with an empty value clears even a widget that requires a choice


def warn_unknown(name: str, noun: str, known: Collection[str], place: "DeltaGenerator | None" = None) -> None:
    """Warn once, in `place` or else on the page, where the link's parameter `name`, a `noun`, has a value not in `known`."""
    linked = st.query_params.get(name)
    if linked is not None and linked not in known:
        text = f"The link asks for {noun} '{escape_markdown(linked[:100])}', which does not exist here; another one is shown."
        warn_once(text, place)


def warn_once(text: str, place: "DeltaGenerator | None" = None) -> None:
    """Show a warning, once in a session."""
    if not st.session_state.get(f"warned: {text}"):
        st.session_state[f"warned: {text}"] = True
        (st if place is None else place).warning(text)
