"""What was chosen, whatever way it came: one record of the session, and the same thing in the link of every page.

A link, a control or a click in a chart puts a value here, and it holds on every page until another takes its place. Values
are texts, as links have them. What nobody chose is absent, and every page has its default. A value that a page cannot
show stays chosen: the page shows its default, and says so (`doubt`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

import streamlit as st

from selfrepair.app.compat import is_history_navigation
from selfrepair.app.wording.escape import escape_markdown

CHOICE = ("model", "run", "ablation", "population", "head", "prompt")
"""What links of all pages carry."""

OWN = {
    "overview": ("part", "unit"),
    "heads": ("measure", "effect", "unit"),
    "components": ("unit", "level", "fraction_of", "dimension"),
    "tails": ("others", "effect"),
    "tokens": (
        *("colour", "coloured", "scale", "max_logits", "max_ratio", "max_nats", "pinned", "at"),
        *("find", "role", "match", "token"),
    ),
    "compare": ("run_b", "ablation_b", "measure", "effect"),
    "reproduce": ("quantity", "published", "training_measure", "training_of"),
    "who_repairs": ("min_change",),
    "neurons": ("mlp", "neuron"),
    "self_repression": ("multiple",),
    "logit_lens": (),
    "sql": ("sql", "draft", "view", "question", "beside", "as", "kind", "x", "y", "colour_by"),
    "ingests": ("live",),
}
"""What the links of each page carry besides."""

MAX_LENGTH = 6_000
"""Characters of a value in a link; servers and messengers refuse longer ones."""

_STATE = "chosen"
_SHOWN_CHARACTERS = 100


@dataclass
class _Record:
    """`values`: what was chosen. `page` and `link`: what the browser has; `linked`: the values that this link stands for.

    `replaced`: links of this page that were written over. `run`: model and run that are shown where none was chosen.
    """

    values: dict[str, str] = field(default_factory=dict)
    linked: dict[str, str] = field(default_factory=dict)
    page: str = ""
    link: dict[str, str] = field(default_factory=dict)
    replaced: list[dict[str, str]] = field(default_factory=list)
    run: dict[str, str] = field(default_factory=dict)


def follow(page: str) -> None:
    """Take over the link that `page` was opened with, or write what was chosen since into the link.

    To be called once per script run, before any widget. A link stays as it came until something is chosen: the browser
    would have one step back for every time that a page writes it. Links that the app writes are whole.
    """
    record, link = _record(), st.query_params.to_dict()
    is_new = page != record.page or (
        link != record.link and (is_history_navigation() or link not in record.replaced)
    )  # a second click before the browser has heard of the first comes with the link of before
    if is_new:
        for name in (*CHOICE, *OWN[page]):
            if name in link or fits_link(record.values.get(name, "")):
                choose(name, link.get(name))
        record.page, record.link, record.replaced, record.run = page, link, [], {}
    elif record.values != record.linked:
        record.replaced.append(record.link)
        record.link = link_to(page)
        st.query_params.from_dict(record.link)
    record.linked = dict(record.values)


def chosen(name: str) -> str | None:
    """The value that was chosen; None before any choice."""
    return _record().values.get(name)


def choose(name: str, value: str | None) -> None:
    """Choose a value, which then holds on every page; None: the default again."""
    values = _record().values
    if value is None:
        values.pop(name, None)
    else:
        values[name] = value


def shown_run() -> dict[str, str]:
    """Model and run that the page last showed, which links name even where nobody chose them: the newest run changes."""
    return _record().run


def show_run(model: str, run_id: int) -> None:
    """Note which run the page shows."""
    _record().run = {"model": model, "run": str(run_id)}


def link_to(page: str, **changes: str) -> dict[str, str]:
    """The parameters of a link to `page` that shows the same choice there, with `changes`."""
    record = _record()
    values = record.run | record.values | changes
    names = (*CHOICE, *OWN[page])
    return {name: values[name] for name in names if name in values and fits_link(values[name])}


def address(page: str, **changes: str) -> str:
    """The same as an address relative to the app's."""
    return f"{page}?{urlencode(link_to(page, **changes))}"


def fits_link(value: str) -> bool:
    """Whether a value is short enough for a link."""
    return len(quote(value)) <= MAX_LENGTH


def offered(
    name: str,
    known: Iterable[str],
    noun: str,
    first: str | None,
    where: str = "here",
    shown: Callable[[str], str] = str,
) -> str | None:
    """The chosen one of `known`; before any choice `first`, and so where the chosen one is none of them.

    That is then said, in the words of `shown`.
    """
    value = chosen(name)
    if value is None or value in known:
        return first if value is None else value
    doubt(noun, value, None if first is None else shown(first), where)
    return first


def doubt(noun: str, value: str, instead: str | None, where: str = "here") -> None:
    """Say in one line above the page that there is no `noun` called `value`, and what is shown."""
    what = "it is left out" if instead is None else f"{escape_markdown(instead)} is shown instead"
    asked = escape_markdown(value[:_SHOWN_CHARACTERS])
    say(f"{noun[:1].upper()}{noun[1:]} '{asked}' does not exist {where}; {what}.")


def say(text: str) -> None:
    """A line above the page: something that was chosen cannot be shown."""
    st.session_state[_NOTICES].warning(text, icon=":material/link_off:")


def place_notices() -> None:
    """Keep a place for such lines, also while there is none: else the browser would redraw all that follows."""
    st.session_state[_NOTICES] = st.container()


_NOTICES = "notices"


def _record() -> _Record:
    record: _Record = st.session_state.setdefault(_STATE, _Record())
    return record
