"""The form of a question: a widget for each of its parameters."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from selfrepair.app.data.choice import POPULATIONS
from selfrepair.app.data.chosen import chosen
from selfrepair.app.wording.columns import words
from selfrepair.app.wording.escape import escape_markdown
from selfrepair.queries.catalog.parameters import Parameter
from selfrepair.queries.catalog.questions import Question, bind, filled_in, with_run
from selfrepair.queries.catalog.which_run import Run, dataset_of, label_of

_MAX_INTEGER = 2**31 - 1


def parameter_widgets(question: Question, runs: Sequence[Run]) -> dict[str, Any]:
    """Draw the widgets; their values by parameter, without those left to the question's defaults."""
    values = {name: _widget(question.name, parameter, runs) for name, parameter in question.parameters.items()}
    return {name: value for name, value in values.items() if value is not None and value != ""}


def question_sql(question: Question, values: Mapping[str, Any], runs: Sequence[Run]) -> str:
    """The question as SQL without parameters. Raises SelfRepairError for missing or wrong values, or several runs."""
    _, bound = bind(question.name, values)
    return f"-- {question.view.summary}\n{filled_in(question.name, with_run(bound, runs))}"


def _widget(question: str, parameter: Parameter, runs: Sequence[Run]) -> Any:
    label = words(parameter.name) + (f" [{parameter.unit}]" if parameter.unit else "")
    common: dict[str, Any] = {
        "label": escape_markdown(label),
        "key": f"{question} {parameter.name}",
        "help": escape_markdown(parameter.description),
    }
    first = 0 if parameter.required else None
    if parameter.name == "model":
        return st.selectbox(**common, options=_models(runs), index=first, placeholder="all models")
    if parameter.type == "RUN":
        texts = {run["run_id"]: f"{label_of(run)}: {run['model']}, {dataset_of(run)}, {run['status']}" for run in runs}
        numbers = list(reversed(texts))
        index = min(1, len(numbers) - 1) if parameter.name == "other_run_id" and numbers else first
        return st.selectbox(
            **common, options=numbers, index=index, format_func=texts.__getitem__, placeholder="all runs"
        )
    if parameter.choices:
        chosen = first if parameter.default is None else parameter.choices.index(str(parameter.default))
        return st.selectbox(
            **common, options=parameter.choices, index=chosen, format_func=_option_text, placeholder="as the run"
        )
    if parameter.type == "BOOLEAN":
        return st.selectbox(**common, options=(True, False), index=None, placeholder=str(parameter.default))
    if parameter.type == "INTEGER":
        lowest = 0 if parameter.required else -_MAX_INTEGER
        value: Any = _part_of_chosen_head(parameter.name) if parameter.required else parameter.default
        return st.number_input(
            **common, value=value, min_value=lowest, max_value=_MAX_INTEGER, step=1, placeholder="required"
        )
    if parameter.type == "DOUBLE":
        return st.number_input(**common, value=_default(parameter), format="%g")
    default = parameter.default
    text = ", ".join(map(str, default)) if isinstance(default, list) else str(default or "")
    return st.text_input(**common, value=text)


def _option_text(name: str) -> str:
    """An option of a parameter in words: rows used as in the sidebar, columns by their names."""
    return POPULATIONS.get(name) or (words(name) if "_" in name else name)


def _part_of_chosen_head(name: str) -> int | None:
    """Layer or head of the head chosen on the other pages; None, which has to be filled in, before there is one."""
    match = re.fullmatch(r"L(\d+)H(\d+)", chosen("head") or "")
    return int(match[("layer", "head").index(name) + 1]) if match and name in ("layer", "head") else None


def _default(parameter: Parameter) -> Any:
    return 0.0 if parameter.required else parameter.default


def _models(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run["model"] for run in reversed(runs)))
