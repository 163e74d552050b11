"""The form of a question: a widget for each of its parameters."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from selfrepair.app.data.choice import POPULATIONS
from selfrepair.app.wording.columns import words
from selfrepair.app.wording.escape import plain
from selfrepair.queries.catalog.parameters import Parameter
from selfrepair.queries.catalog.questions import Question, bind, filled_in, with_run
from selfrepair.queries.catalog.which_run import Run, dataset_of

_RUNS = ("run_id", "other_run_id")
_MOST = 2**31 - 1


def draw(question: Question, runs: Sequence[Run]) -> dict[str, Any]:
    """Draw the widgets; the values they have, without those that are left to the question's defaults."""
    given = {name: _widget(question.name, parameter, runs) for name, parameter in question.parameters.items()}
    return {name: value for name, value in given.items() if value is not None and value != ""}


def sql_of(question: Question, given: Mapping[str, Any], runs: Sequence[Run]) -> str:
    """The question as SQL that runs as it stands. Raises SelfRepairError for what is missing, wrong, or several runs."""
    _, values = bind(question.name, given)
    return f"-- {question.view.summary}\n{filled_in(question.name, with_run(values, runs))}"


def _widget(question: str, parameter: Parameter, runs: Sequence[Run]) -> Any:
    label = words(parameter.name) + (f" [{parameter.unit}]" if parameter.unit else "")
    common: dict[str, Any] = {
        "label": plain(label),
        "key": f"{question} {parameter.name}",
        "help": plain(parameter.description),
    }
    first = 0 if parameter.required else None
    if parameter.name == "model":
        return st.selectbox(**common, options=_models(runs), index=first, placeholder="every model")
    if parameter.name in _RUNS:
        told = {run["run_id"]: f"{run['run_id']}: {run['model']}, {dataset_of(run)}, {run['status']}" for run in runs}
        numbers = list(reversed(told))
        index = min(1, len(numbers) - 1) if parameter.name == "other_run_id" and numbers else first
        return st.selectbox(
            **common, options=numbers, index=index, format_func=told.__getitem__, placeholder="every run"
        )
    if parameter.choices:
        chosen = first if parameter.default is None else parameter.choices.index(str(parameter.default))
        return st.selectbox(**common, options=parameter.choices, index=chosen, format_func=_shown)
    if parameter.type == "BOOLEAN":
        return st.selectbox(**common, options=(True, False), index=None, placeholder=str(parameter.default))
    if parameter.type == "INTEGER":
        least = 0 if parameter.required else -_MOST
        value: Any = _of_chosen_head(parameter.name) if parameter.required else parameter.default
        return st.number_input(**common, value=value, min_value=least, max_value=_MOST, step=1, placeholder="needed")
    if parameter.type == "DOUBLE":
        return st.number_input(**common, value=_number(parameter, 0.0), format="%g")
    default = parameter.default
    written = ", ".join(map(str, default)) if isinstance(default, list) else str(default or "")
    return st.text_input(**common, value=written)


def _shown(word: str) -> str:
    """A word that a parameter may be: populations as in the sidebar, columns in words."""
    return POPULATIONS.get(word) or (words(word) if "_" in word else word)


def _of_chosen_head(name: str) -> int | None:
    """Layer or head of the one that the other pages look at; None, which has to be filled in, before there is one."""
    match = re.fullmatch(r"L(\d+)H(\d+)", str(st.session_state.get("head") or st.query_params.get("head") or ""))
    return int(match[("layer", "head").index(name) + 1]) if match and name in ("layer", "head") else None


def _number(parameter: Parameter, first: float) -> Any:
    return first if parameter.required else parameter.default


def _models(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run["model"] for run in reversed(runs)))
