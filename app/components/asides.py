"""What a page says only sometimes, in a place that it always has."""

import streamlit as st


def aside(text: str | None) -> None:
    """A caption, if there is a text. Were its place not kept, the browser would make all that is below it anew."""
    place = st.container()
    if text:
        place.caption(text)
