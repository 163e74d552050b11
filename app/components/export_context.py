"""What a page looks at, in a few words: the files that are taken along from it carry them."""

import re

import streamlit as st

_KEY = "looked at"


def forget() -> None:
    """Begin another page, which looks at nothing yet."""
    st.session_state[_KEY] = ()


def note(*words: str) -> None:
    """Add what the page looks at: the model, then run, ablation and so on."""
    st.session_state[_KEY] = (*st.session_state.get(_KEY, ()), *words)


def looked_at() -> str:
    """In words, such as 'gpt2, run 1, resample, top2, L9H6'; empty where a page looks at no run."""
    return ", ".join(st.session_state.get(_KEY, ()))


def stem_of_files(name: str) -> str:
    """The name of the files of the picture or table `name`: 'head_map_run-1_resample_top2_L9H6'."""
    return "_".join([name, *(re.sub(r"[^\w.]+", "-", word) for word in st.session_state.get(_KEY, ())[1:])])
