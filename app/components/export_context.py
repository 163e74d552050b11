"""What a page shows, in a few words (model, run, ablation, head): exported files carry it in their names and titles."""

import re

import streamlit as st

_KEY = "export context"


def clear_context() -> None:
    """Begin another page, which shows nothing yet."""
    st.session_state[_KEY] = ()


def add_context(*words: str) -> None:
    """Add to what the page shows: the model first, then run, ablation and so on."""
    st.session_state[_KEY] = (*st.session_state.get(_KEY, ()), *words)


def context_text() -> str:
    """The context as a line, such as 'gpt2, run 1, resample, top2, L9H6'; empty where a page shows no run."""
    return ", ".join(st.session_state.get(_KEY, ()))


def file_stem(name: str) -> str:
    """The stem of the files of the figure or table `name`: 'head_map_run-1_resample_top2_L9H6'."""
    return "_".join([name, *(re.sub(r"[^\w.]+", "-", word) for word in st.session_state.get(_KEY, ())[1:])])
