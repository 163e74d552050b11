"""A choice between few options, all in sight, kept in the URL."""

from collections.abc import Iterable

import streamlit as st


def one_of(label: str, options: Iterable[str], key: str, help: str | None = None) -> str:
    """Draw the widget; the option that is chosen, the first one before any choice. `key` is its name in links, too."""
    first, *others = options
    chosen = st.segmented_control(
        label, [first, *others], default=first, key=key, bind="query-params", required=True, help=help
    )
    return chosen or first  # a link with nothing behind the name clears even a widget that requires a choice
