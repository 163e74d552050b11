"""A caption that a page shows only sometimes, in a place that it always has."""

import streamlit as st


def optional_caption(text: str | None) -> None:
    """A caption, if there is a text. Its place is always there: else the browser would redraw all that follows."""
    place = st.container()
    if text:
        place.caption(text)
