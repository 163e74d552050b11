"""Questions that wait for an answer: files of `questions/`, SQL with `$parameters` that a caller fills in by name.

A question's file is written like a view's (see `header`), with one more block in its header:

    -- Parameters:
    --   layer INTEGER: Layer of the head, from 0
    --   ablation resample|mean|zero = resample: What the head's output was replaced by
    --   tokens VARCHAR[] = []: Only these, as
    --     many lines as it needs [unit]

A parameter without `= default` has to be given; `= NULL` makes it one that may be left out. Its type is VARCHAR,
INTEGER, DOUBLE, BOOLEAN, one of these with [], or the words it may be, parted by |. `Columns:` describes what the views
that the question reads do not.
"""

import difflib
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from selfrepair.queries.catalog.header import HeaderError, View, parse_view, split_unit
from selfrepair.queries.catalog.quoting import literal
from selfrepair.queries.catalog.which_run import Run, which_run
from selfrepair.warehouse.errors import SelfRepairError

_FOLDER = Path(__file__).parents[1] / "questions"
_BLOCK = re.compile(r"^-- Parameters:\n(?P<entries>(?:--  .*\n)+)(?:--\n)?", re.MULTILINE)
_ENTRY = re.compile(r"(?P<name>[a-z_][a-z0-9_]*) (?P<type>[^\s=:]+)(?: = (?P<default>[^:]*))?: (?P<text>\S.*)")
_NEW_ENTRY = re.compile(r"\n(?=--   \S)")
_USE = re.compile(r"\$([a-z_][a-z0-9_]*)")
_NO_SQL = re.compile(r"--[^\n]*|'(?:[^']|'')*'")

Value = str | int | float | bool | None | list[Any]
"""What a parameter can be: text as it is typed, or a Python value of the parameter's type."""


@dataclass(frozen=True)
class Parameter:
    """One `$parameter` of a question. `choices` are the words it may be; `default` counts if it is not `required`."""

    name: str
    type: str
    description: str
    unit: str = ""
    required: bool = False
    default: Value = None
    choices: tuple[str, ...] = ()

    @property
    def sql_type(self) -> str:
        """The type as DuckDB has it."""
        return "VARCHAR" if self.choices else self.type

    def parse(self, value: object) -> Value:
        """`value`, text or of the right type already, as the parameter's type. Raises ValueError saying what it takes."""
        if value is None or (value == "NULL" and not self.required):
            if self.required or self.default is not None:
                raise ValueError(f"takes {self.takes}, not NULL")
            return None
        if self.type.endswith("[]"):
            parse = _PARSERS[self.type.removesuffix("[]")]
            return [self._one(parse, item) for item in _items(value)]
        parsed = self._one(_PARSERS[self.sql_type], value)
        if self.choices and parsed not in self.choices:
            raise ValueError(f"takes {self.takes}, not '{value}'")
        return parsed

    def _one(self, parse: Callable[[object], Value], value: object) -> Value:
        try:
            return parse(value)
        except (TypeError, ValueError):
            shown = f"'{value}'" if isinstance(value, str) else repr(value)
            raise ValueError(f"takes {self.takes}, not {shown}") from None

    @property
    def takes(self) -> str:
        """What may be given, in words."""
        if self.choices:
            return " or ".join(self.choices)
        return _TAKES[self.type.removesuffix("[]")][self.type.endswith("[]")]


@dataclass(frozen=True)
class Question:
    """One parsed file of `questions/`: `view` is its text without the parameters, and its SQL has them as `$name`."""

    view: View
    parameters: Mapping[str, Parameter]

    @property
    def name(self) -> str:
        """What the question is asked by, which no view or table is called."""
        return self.view.name

    @property
    def sql(self) -> str:
        """The SELECT, with `$parameters`."""
        return self.view.sql


def parse_question(name: str, text: str) -> Question:
    """Read the text of `questions/<name>.sql`. Raises HeaderError with the file's name and what is wrong in it."""
    try:
        block = _BLOCK.search(text)
        parameters = _parameters(block["entries"]) if block else {}
        view = parse_view(name, _BLOCK.sub("", text, count=1))
        if view.kept:
            raise HeaderError("a question is not kept")
        used = set(_USE.findall(_NO_SQL.sub("", view.sql)))
        if used != parameters.keys():
            raise HeaderError(
                f"the SELECT uses {_listed(used)}, and the block 'Parameters:' describes {_listed(parameters)}"
            )
    except HeaderError as error:
        raise HeaderError(f"questions/{name}.sql: {str(error).removeprefix(f'views/{name}.sql: ')}") from None
    return Question(view, parameters)


@cache
def questions() -> Mapping[str, Question]:
    """Every question of this version of selfrepair, by name."""
    files = sorted(_FOLDER.glob("*/*.sql"))
    return {path.stem: parse_question(path.stem, path.read_text(encoding="utf-8")) for path in files}


def question(name: str) -> Question:
    """The question called `name`. Raises SelfRepairError with the nearest names when there is none."""
    try:
        return questions()[name]
    except KeyError:
        raise SelfRepairError(
            f"there is no question '{name}'{_near(name, questions())} See: selfrepair questions"
        ) from None


def bind(name: str, params: Mapping[str, object]) -> tuple[str, dict[str, Any]]:
    """The question's SQL and a value for each of its `$parameters`: the given one, else its default.

    Text becomes the parameter's type; lists are Python lists, or text with commas. `run` is another name of `run_id`.
    Raises SelfRepairError for an unknown question or parameter, one that is missing, and a value of the wrong type.
    """
    asked = question(name)
    known = asked.parameters
    see = f"See: selfrepair questions {name}"
    given = {"run_id" if key == "run" and "run_id" in known else key: value for key, value in params.items()}
    for key in given:
        if key not in known:
            raise SelfRepairError(
                f"question '{name}' has no parameter '{key}'{_near(key, known)} It takes: {_listed(known)}. {see}"
            )
    missing = [key for key, parameter in known.items() if parameter.required and key not in given]
    if missing:
        raise SelfRepairError(
            f"question '{name}' needs {' and '.join(missing)}: selfrepair query {name} "
            f"{' '.join(f'--param {key}=...' for key in missing)}. {see}"
        )
    values = {}
    for key, parameter in known.items():
        try:
            values[key] = parameter.parse(given.get(key, parameter.default))
        except ValueError as error:
            raise SelfRepairError(f"parameter '{key}' of question '{name}' {error}. {see}") from None
    return asked.sql, values


def with_run(values: Mapping[str, Any], runs: Sequence[Run]) -> dict[str, Any]:
    """The bound `values`, where a model or run is named with the number of that run among `runs`.

    Without either, an answer has all runs, told apart by its column run_id. Raises SelfRepairError as `which_run` does: an
    unknown name would look as if there were no such heads, and a model's several runs like one. So it does for a run that
    failed, and for an ablation that none of the runs has.
    """
    found = dict(values)
    asked = [run for run in runs if run["status"] != "failed"]
    if found.get("run_id") is not None or found.get("model") is not None:
        asked = [which_run(runs, found.get("model"), found.get("run_id"))]
        found["run_id"] = asked[0]["run_id"]
        if asked[0]["status"] == "failed":
            raise SelfRepairError(
                f"run {found['run_id']} failed its cross-check, and views leave such runs out. Its rows are in the view "
                "self_repair, where it failed in the table crosschecks."
            )
    if found.get("other_run_id") is not None:
        which_run(runs, None, found["other_run_id"])
    for place, number in (("layer", "n_layers"), ("head", "n_heads")):
        most = max((run[number] for run in asked), default=None)
        if most is not None and found.get(place) is not None and not 0 <= found[place] < most:
            raise SelfRepairError(f"there is no {place} {found[place]} here: {place}s are 0 to {most - 1}.")
    measured = {kind for run in asked for kind in run["ablations"]}
    if measured and found.get("ablation") is not None and found["ablation"] not in measured:
        raise SelfRepairError(
            f"nothing asked for was measured with {found['ablation']} ablation, but with {', '.join(sorted(measured))}: "
            f"give ablation={min(measured)}"
        )
    return found


def filled_in(name: str, values: Mapping[str, Any]) -> str:
    """The question's SQL with the bound `values` written into it: it runs as it stands, without parameters."""
    asked = question(name)
    texts = {key: _constant(values[key], parameter.sql_type) for key, parameter in asked.parameters.items()}
    return _filled(asked.sql, texts)


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


def _parameters(block: str) -> dict[str, Parameter]:
    parameters: dict[str, Parameter] = {}
    for entry in _NEW_ENTRY.split(block.rstrip("\n")):
        text = " ".join(line.removeprefix("--").strip() for line in entry.splitlines())
        match = _ENTRY.fullmatch(text)
        if match is None:
            raise HeaderError(f"a parameter reads 'name TYPE = default: description [unit]', not '{text}'")
        if match["name"] in parameters:
            raise HeaderError(f"parameter '{match['name']}' is described twice")
        parameters[match["name"]] = _parameter(match)
    return parameters


def _parameter(match: re.Match[str]) -> Parameter:
    description, unit = split_unit(match["text"])
    choices = tuple(match["type"].split("|")) if "|" in match["type"] else ()
    if not choices and match["type"].removesuffix("[]") not in _PARSERS:
        raise HeaderError(
            f"parameter '{match['name']}' has type {match['type']}; it can have {', '.join(_PARSERS)}, one of these "
            "with [], or words parted by |"
        )
    bare = Parameter(match["name"], match["type"], description, unit, match["default"] is None, choices=choices)
    if bare.required or match["default"] == "NULL":
        return bare
    try:
        return replace(bare, default=bare.parse(match["default"]))
    except ValueError as error:
        raise HeaderError(f"the default of parameter '{bare.name}': it {error}") from None


def _items(value: object) -> Iterable[object]:
    if isinstance(value, str):
        inner = value.strip().removeprefix("[").removesuffix("]")
        return [item.strip() for item in inner.split(",")] if inner.strip() else []
    if isinstance(value, Iterable):
        return list(value)
    return [value]


def _text(value: object) -> Value:
    if not isinstance(value, str):
        raise TypeError
    return value


def _integer(value: object) -> Value:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError
    number = int(value)
    if not -(2**31) <= number < 2**31:
        raise ValueError
    return number


def _double(value: object) -> Value:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _boolean(value: object) -> Value:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise TypeError


_PARSERS: Mapping[str, Callable[[object], Value]] = {
    "VARCHAR": _text,
    "INTEGER": _integer,
    "DOUBLE": _double,
    "BOOLEAN": _boolean,
}
_TAKES = {
    "VARCHAR": ("text", "texts, parted by commas"),
    "INTEGER": ("a whole number", "whole numbers, parted by commas"),
    "DOUBLE": ("a number", "numbers, parted by commas"),
    "BOOLEAN": ("true or false", "true or false, several parted by commas"),
}


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.lower(), known, n=3)
    return f"; did you mean {' or '.join(near)}?" if near else "."


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"
