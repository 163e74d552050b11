"""What a question can be given: parameters with their types, defaults and meanings, read from its header.

    -- Parameters:
    --   layer INTEGER: Layer of the head, from 0
    --   ablation resample|mean|zero = resample: What the head's output is replaced by
    --   tokens VARCHAR[] = []: Only these, as
    --     many lines as it needs [unit]
    --   model, run_id, at_most = 10

Those of the last kind are `shared.PARAMETERS`, with another default where it is given.

A parameter without `= default` has to be given; `= NULL` makes it one that may be left out. Its type is VARCHAR,
INTEGER, DOUBLE, BOOLEAN, RUN (a run's number or name), one of these with [], or the words it may be, separated by |.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

from selfrepair.queries.catalog.header import HeaderError, split_unit
from selfrepair.queries.catalog.next_step import shortened
from selfrepair.queries.catalog.shared import PARAMETERS

_SHARED = re.compile(r"(?P<name>[a-z_][a-z0-9_]*)(?: = (?P<default>\S+))?")
_ENTRY = re.compile(r"(?P<name>[a-z_][a-z0-9_]*) (?P<type>[^\s=:][^=:]*?)(?: = (?P<default>[^:]*))?: (?P<text>\S.*)")

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
        return "VARCHAR" if self.choices else _SQL_TYPES.get(self.type, self.type)

    @property
    def takes_several(self) -> bool:
        """True where a list may be given."""
        return self.type.endswith("[]")

    def parse(self, value: object) -> Value:
        """`value`, text or of the right type already, as the parameter's type. Raises ValueError saying what it takes."""
        if value is None or (value == "NULL" and not self.required):
            if self.required or self.default is not None:
                raise ValueError(f"takes {self.takes}, not NULL")
            return None
        if self.takes_several:
            parse = _PARSERS[self.type.removesuffix("[]")]
            return [self._one(parse, item) for item in _items(value)]
        parsed = self._one(_PARSERS["VARCHAR" if self.choices else self.type], value)
        if self.choices and parsed not in self.choices:
            raise ValueError(f"takes {self.takes}, not '{shortened(str(value))}'")
        return parsed

    def _one(self, parse: Callable[[object], Value], value: object) -> Value:
        try:
            return parse(value)
        except (TypeError, ValueError):
            shown = f"'{shortened(value)}'" if isinstance(value, str) else shortened(repr(value))
            raise ValueError(f"takes {self.takes}, not {shown}") from None

    @property
    def takes(self) -> str:
        """What may be given, in words."""
        if self.choices:
            return " or ".join(self.choices)
        return _TAKES[self.type.removesuffix("[]")][self.takes_several]


def parse_parameters(entries: Iterable[str]) -> dict[str, Parameter]:
    """The parameters that the entries below `Parameters:` describe. Raises HeaderError with what is wrong in one."""
    parameters: dict[str, Parameter] = {}
    for entry in (full for short in entries for full in _written_out(short)):
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise HeaderError(f"a parameter reads 'name TYPE = default: description [unit]', not '{entry}'")
        if match["name"] in parameters:
            raise HeaderError(f"parameter '{match['name']}' is described twice")
        parameters[match["name"]] = _parameter(match)
    return parameters


def _written_out(entry: str) -> list[str]:
    """An entry that names shared parameters, as the full entries that they stand for; any other as it is."""
    named = [_SHARED.fullmatch(part) for part in entry.split(", ")]
    if not all(match and match["name"] in PARAMETERS for match in named):
        return [entry]
    return [_with_default(match["name"], match["default"]) for match in named if match]


def _with_default(name: str, default: str | None) -> str:
    kind, _, text = PARAMETERS[name].partition(": ")
    if default is not None:
        kind = f"{kind.partition(' = ')[0]} = {default}"
        text = text.partition("; NULL: ")[0]  # what is said of a default that is not there
    return f"{name} {kind}: {text}"


def _parameter(match: re.Match[str]) -> Parameter:
    description, unit = split_unit(match["text"])
    choices = tuple(match["type"].split("|")) if "|" in match["type"] else ()
    if not choices and match["type"].removesuffix("[]") not in _PARSERS:
        raise HeaderError(
            f"parameter '{match['name']}' has type {match['type']}; it can have {', '.join(_PARSERS)}, one of these "
            "with [], or words separated by |"
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
    if isinstance(value, bool) or not isinstance(value, str | Integral):
        raise TypeError
    number = int(value)
    if not -(2**31) <= number < 2**31:
        raise ValueError
    return number


def _run(value: object) -> Value:
    """A number, or a name that stands for one once the runs are known (`questions.with_run`)."""
    is_name = isinstance(value, str) and value.strip() != "" and not value.lstrip("+-").isdecimal()
    return value if is_name else _integer(value)  # type: ignore[return-value]


def _double(value: object) -> Value:
    if isinstance(value, bool) or not isinstance(value, str | Real):
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
    "RUN": _run,
}
_SQL_TYPES = {"RUN": "INTEGER"}
"""Types that DuckDB does not have, by what they are there."""

_TAKES = {
    "VARCHAR": ("text", "texts, separated by commas"),
    "INTEGER": ("a whole number", "whole numbers, separated by commas"),
    "DOUBLE": ("a number", "numbers, separated by commas"),
    "BOOLEAN": ("true or false", "true or false, several separated by commas"),
    "RUN": ("a run's number or name", "numbers or names of runs, separated by commas"),
}
