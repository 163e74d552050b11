"""Widgets that show what was chosen (`chosen`) and choose: each draws one parameter of the link.

A widget never keeps a value of its own. It is set to what was chosen before it is drawn, and what it is changed to is
chosen before the page runs again.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import streamlit as st

from selfrepair.app.data.chosen import choose, chosen, doubt, offered
from selfrepair.app.wording.escape import escape_markdown

Name = TypeVar("Name", bound=str)

OnChoice = Callable[[str | None], None]
"""What happens besides when a widget is changed; it is given the new value as it stands in the link."""


def linked_selectbox(
    label: str,
    names: Sequence[Name],
    key: str,
    shown: Callable[[str], str] = str,
    *,
    first: str | None = None,
    noun: str = "",
    where: str = "here",
    on_choice: OnChoice | None = None,
    **layout: Any,
) -> Name:
    """Draw a select box of `shown(name)`; the chosen one of `names`, which is also the value of `key` in the link.

    Before any choice it is `first`, by default the first name. `noun` and `where` name what a link asked for in vain.
    """
    value = offered(key, names, noun or label.lower(), names[0] if first is None else first, where, shown)
    set_widget(key, value)
    st.selectbox(label, names, key=key, format_func=shown, **_changed(key, str, on_choice), **layout)
    return next(name for name in names if name == value)


def linked_option(label: str, names: Sequence[str], key: str, **layout: Any) -> str | None:
    """Draw a select box in which nothing need be chosen; the chosen one of `names`, or None."""
    value = offered(key, names, label.lower(), None)
    set_widget(key, value)
    st.selectbox(label, names, index=None, key=key, **_changed(key, str), **layout)
    return value


def linked_segments(label: str, options: Iterable[str], key: str, help: str | None = None, **layout: Any) -> str:
    """Draw a row of few options; the chosen one, at first the first, which is also the value of `key` in the link."""
    options = list(options)
    value = offered(key, options, label.lower(), options[0])
    set_widget(key, value)
    st.segmented_control(label, options, key=key, required=True, help=help, **_changed(key, str), **layout)
    assert value is not None
    return value


def linked_heads(
    label: str, names: Sequence[str], key: str, first: Sequence[str], at_most: int, **layout: Any
) -> list[str]:
    """Draw a box for several of `names`, in the link with commas; at first those of `first`."""
    asked = chosen(key)
    wanted = list(first) if asked is None else list(dict.fromkeys(filter(None, asked.split(","))))
    for name in wanted:
        if name not in names:
            doubt("head", name, None)
    value = [name for name in wanted if name in names][:at_most]
    set_widget(key, value)
    st.multiselect(label, names, key=key, max_selections=at_most, **_changed(key, ",".join), **layout)
    return value


def linked_whole_number(
    label: str, key: str, low: int, high: int, *, noun: str, on_choice: OnChoice | None = None, **layout: Any
) -> int:
    """Draw a box for a whole number from `low`, which it is at first, to `high`."""
    asked = chosen(key)
    value = low
    if asked is not None:
        if asked.isascii() and asked.isdecimal() and low <= int(asked[:18]) <= high:
            value = int(asked)
        else:
            doubt(noun, asked, str(low), f"here ({noun}s {low} to {high})")
    set_widget(key, value)
    st.number_input(label, low, high, key=key, **_changed(key, str, on_choice), **layout)
    return value


def linked_number(label: str, key: str, low: float, first: float, **layout: Any) -> float:
    """Draw a box for a number of at least `low`, at first `first`."""
    asked, value = chosen(key), first
    if asked is not None:
        try:
            value = float(asked)
        except ValueError:
            value = low - 1
        if not low <= value < float("inf"):
            doubt(label, asked, f"{first:g}", f"here: it is a number of at least {low:g}")
            value = first
    set_widget(key, value)
    st.number_input(label, min_value=low, key=key, **_changed(key, "{:.10g}".format), **layout)
    return value


def linked_text(label: str, key: str, **layout: Any) -> str:
    """Draw a line of text, at first empty."""
    value = chosen(key) or ""
    set_widget(key, value)
    st.text_input(label, key=key, **_changed(key, lambda text: text or None), **layout)
    return value


def linked_toggle(label: str, key: str, *, first: bool) -> bool:
    """Draw a switch, in the link as yes or no."""
    words = {True: "yes", False: "no"}
    value = offered(key, words.values(), f"position of '{escape_markdown(label)}'", words[first]) == "yes"
    set_widget(key, value)
    st.toggle(label, key=key, **_changed(key, words.__getitem__))
    return value


def set_widget(key: str, value: Any) -> None:
    """Have the widget `key`, which is not drawn yet, show `value`."""
    st.session_state[key] = value  # also where it is that already: the widget of another page takes its value along


def _changed(key: str, to_link: Callable[[Any], str | None], on_choice: OnChoice | None = None) -> dict[str, Any]:
    """The arguments of a widget that chooses what it is changed to."""

    def change() -> None:
        value = st.session_state[key]
        linked = None if value is None else to_link(value)
        choose(key, linked)
        if on_choice is not None:
            on_choice(linked)

    return {"on_change": change}
