"""Canned questions: files of `questions/`, SQL with `$parameters` that a caller fills in by name.

A question's file is written like a view's (see `header`), with a block that describes its parameters (see `parameters`).
`Columns:` describes what the views that the question reads do not.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from selfrepair.queries.catalog.filters import listed
from selfrepair.queries.catalog.header import HeaderError, View, parse_file
from selfrepair.queries.catalog.heads import split_label
from selfrepair.queries.catalog.next_step import API, argument, did_you_mean, see, see_described, shortened
from selfrepair.queries.catalog.parameters import Parameter, Value, parse_parameters
from selfrepair.queries.catalog.quoting import literal
from selfrepair.queries.catalog.relations import Relation, catalogue, reads, views
from selfrepair.queries.catalog.which_run import Run, which_run
from selfrepair.warehouse.errors import SelfRepairError, UnknownNameError, in_words

_FOLDER = Path(__file__).parents[1] / "questions"
_USE = re.compile(r"\$([a-z_][a-z0-9_]*)")
_NO_SQL = re.compile(r"--[^\n]*|'(?:[^']|'')*'")


@dataclass(frozen=True)
class Question:
    """One parsed file of `questions/`: `view` is its text without the parameters, and its SQL has them as `$name`."""

    view: View
    parameters: Mapping[str, Parameter]

    @property
    def name(self) -> str:
        """Its name, which no view or table has."""
        return self.view.name

    @property
    def sql(self) -> str:
        """The SELECT, with `$parameters`."""
        return self.view.sql


def parse_question(name: str, text: str, topic: str = "") -> Question:
    """Read the text of `questions/<topic>/<name>.sql`. Raises HeaderError with the file's name and what is wrong in it."""
    try:
        view = parse_file(name, text, topic)
        parameters = parse_parameters(view.parameters)
        if view.kept:
            raise HeaderError("a question is not kept")
        used = set(_USE.findall(_NO_SQL.sub("", view.sql)))
        if used != parameters.keys():
            raise HeaderError(
                f"the SELECT uses {_listed(used)}, and the block 'Parameters:' describes {_listed(parameters)}"
            )
    except HeaderError as error:
        raise HeaderError(f"questions/{name}.sql: {error}") from None
    return Question(view, parameters)


@cache
def questions() -> Mapping[str, Question]:
    """Every question of this version of selfrepair, by name."""
    files = sorted(_FOLDER.glob("*/*.sql"), key=lambda path: path.stem)
    return {path.stem: parse_question(path.stem, path.read_text(encoding="utf-8"), path.parent.name) for path in files}


def question(name: str) -> Question:
    """The question called `name`. Raises SelfRepairError with the nearest names when there is none."""
    try:
        return questions()[name]
    except KeyError:
        raise UnknownNameError(
            f"there is no question '{shortened(name)}'{did_you_mean(name, questions())} See: {see('questions')}"
        ) from None


def bind(name: str, params: Mapping[str, object]) -> tuple[str, dict[str, Any]]:
    """The question's SQL and a value for each of its `$parameters`: the given one, else its default.

    Text becomes the parameter's type; lists are Python lists, or text with commas. `run` is another name of `run_id`,
    and `head` may be a head's name, such as L9H6, which stands for its layer, too.
    Raises SelfRepairError for an unknown question or parameter, one that is missing, and a value of the wrong type.
    """
    chosen = question(name)
    known = chosen.parameters
    described = f"See: {see_described(name)}"
    given = {"run_id" if key == "run" and "run_id" in known else key: value for key, value in params.items()}
    if {"layer", "head"} <= known.keys():
        given = split_label(given)
    for key, value in given.items():
        if key in known and not known[key].takes_several and listed(value) is not value:
            raise SelfRepairError(
                f"parameter '{key}' of question '{name}' takes one value, not a list. Ask once for each, or filter a view by "
                f"the list. {described}"
            )
        if key not in known:
            raise SelfRepairError(
                f"question '{name}' has no parameter '{shortened(key)}'{did_you_mean(key, known)} It takes: "
                f"{_listed(known)}. {described}"
            )
    missing = [key for key, parameter in known.items() if parameter.required and key not in given]
    if missing:
        raise SelfRepairError(f"question '{name}' needs {' and '.join(missing)}: {command(chosen)}. {described}")
    values = {}
    for key, parameter in known.items():
        try:
            values[key] = parameter.parse(given.get(key, parameter.default))
        except ValueError as error:
            raise SelfRepairError(f"parameter '{key}' of question '{name}' {error}. {described}") from None
    return chosen.sql, values


def command(asked: Question) -> str:
    """What runs the question, with a placeholder for each value that it needs."""
    needed = [name for name, parameter in asked.parameters.items() if parameter.required]
    if {"layer", "head"} <= set(needed):
        needed.remove("layer")
    values = [(name, "L9H6" if name == "head" and "layer" in asked.parameters else "...") for name in needed]
    shell = " ".join(["selfrepair query", asked.name, *(f"--param {name}={value}" for name, value in values)])
    shown = ", ".join(
        [f'"{asked.name}"', *(f"{name}={value if value == '...' else repr(value)}" for name, value in values)]
    )
    address = f"{API}/questions/{asked.name}"
    given = "&".join(f"{name}={value}" for name, value in values)
    parameters = ", ".join(f'"{name}": "{value}"' for name, value in values)
    tool = f'the tool ask_question, name="{asked.name}", parameters={{{parameters}}}'
    return in_words(shell, f"warehouse.question({shown})", f"{address}?{given}" if given else address, tool)


def with_run(values: Mapping[str, Any], runs: Sequence[Run]) -> dict[str, Any]:
    """The bound `values`, where a model or run is named with the number of that run among `runs`.

    Without either, an answer has all runs; its column run_id distinguishes them. Raises SelfRepairError as `which_run` does: an
    unknown name would look as if there were no such heads, and a model's several runs like one. So it does for a run that
    failed, and for an ablation that none of the runs has.
    """
    found = dict(values)
    chosen = [run for run in runs if run["status"] != "failed"]
    if found.get("run_id") is not None or found.get("model") is not None:
        chosen = [which_run(runs, found.get("model"), found.get("run_id"))]
        found["run_id"] = chosen[0]["run_id"]
        if chosen[0]["status"] == "failed":
            raise SelfRepairError(
                f"run {found['run_id']} failed its cross-check, and views leave such runs out. Its rows are in the view "
                "self_repair, where it failed in the table crosschecks."
            )
    if found.get("other_run_id") is not None:
        found["other_run_id"] = which_run(runs, None, found["other_run_id"])["run_id"]
    for place, number in (("layer", "n_layers"), ("head", "n_heads")):
        most = max((run[number] for run in chosen), default=None)
        if most is not None and found.get(place) is not None and not 0 <= found[place] < most:
            raise SelfRepairError(f"there is no {place} {found[place]} here: {place}s are 0 to {most - 1}.")
    used = {run["default_population"] for run in chosen}
    if "population" in found and found["population"] is None and len(used) == 1:
        found["population"] = used.pop()  # else each run has its own
    measured = {kind for run in chosen for kind in run["ablations"]}
    if measured and found.get("ablation") is not None and found["ablation"] not in measured:
        raise SelfRepairError(
            f"nothing here was measured with {found['ablation']} ablation, but with {', '.join(sorted(measured))}: "
            f"give {argument('ablation', min(measured))}"
        )
    return found


def filled_in(name: str, values: Mapping[str, Any]) -> str:
    """The question's SQL with the bound `values` written into it: it runs as it stands, without parameters."""
    chosen = question(name)
    texts = {key: _constant(values[key], parameter.sql_type) for key, parameter in chosen.parameters.items()}
    return _filled(chosen.sql, texts)


def answer(name: str) -> Relation:
    """The columns of the answer to the question `name`, described. Raises SelfRepairError when there is no such question."""
    asked = question(name)
    needed = set(reads(asked.sql, [view.name for view in views()]))
    for view in reversed(views()):
        if view.name in needed:
            needed.update(reads(view.sql, [other.name for other in views()]))
    of_question = [view for view in views() if view.name in needed]  # to bind all of them takes a second
    return catalogue((*of_question, *as_views([asked])))[name]


def as_views(asked: Iterable[Question]) -> Iterator[View]:
    """The questions as views with every parameter NULL: what `catalog.catalogue` needs to describe their columns."""
    for question in asked:
        nulls = {name: f"CAST(NULL AS {parameter.sql_type})" for name, parameter in question.parameters.items()}
        yield replace(question.view, sql=_filled(question.sql, nulls))


def _filled(sql: str, texts: Mapping[str, str]) -> str:
    return _USE.sub(lambda use: texts[use[1]], sql)


def _constant(value: Value, sql_type: str) -> str:
    if isinstance(value, list):
        items = ", ".join(_constant(item, sql_type.removesuffix("[]")) for item in value)
        return f"CAST([{items}] AS {sql_type})"
    if isinstance(value, str):
        return literal(value)  # without a type: text and the words of an ENUM alike
    if value is None or isinstance(value, float) or (not isinstance(value, bool) and value < 0):
        return f"CAST({'NULL' if value is None else repr(value)} AS {sql_type})"
    return str(value).upper()


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"
