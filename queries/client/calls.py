"""Calls of public methods: a wrong argument is refused with what the method takes and how it is called."""

import difflib
import inspect
import os
import re
import reprlib
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from numbers import Integral, Real
from typing import NamedTuple, ParamSpec, TypeVar

from selfrepair.queries.catalog.heads import place_of
from selfrepair.warehouse.database.limits import Limits
from selfrepair.warehouse.errors import SelfRepairError

P = ParamSpec("P")
R = TypeVar("R")

_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")


class Takes(NamedTuple):
    """What an argument can be, in words and as a test. Its default, whatever that is, can always be given."""

    words: str
    fits: Callable[[object], bool]


def checked(takes: Mapping[str, Takes]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Have a function or method raise SelfRepairError for arguments that it does not have, or that are not what they take."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        shown = _call(function, signature)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                given = signature.bind(*args, **kwargs).arguments
            except TypeError as error:
                raise SelfRepairError(f"{error}{_near(str(error), signature)} The call: {shown}") from None
            for name, value in given.items():
                kind = takes.get(name)
                if kind and value is not signature.parameters[name].default and not kind.fits(value):
                    raise SelfRepairError(f"{name} takes {kind.words}, not {reprlib.repr(value)}. The call: {shown}")
            return function(*args, **kwargs)

        return call

    return decorate


def is_text(value: object) -> bool:
    """True for text."""
    return isinstance(value, str)


def is_whole(value: object) -> bool:
    """True for a whole number of any library's."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_run(value: object) -> bool:
    return is_whole(value) or is_text(value)


def is_path(value: object) -> bool:
    """True for what names a file."""
    return isinstance(value, str | os.PathLike)


def all_are(value: object, fits: Callable[[object], bool]) -> bool:
    """True for a list, or another collection, of such values; text is none."""
    return isinstance(value, Collection) and not isinstance(value, str | bytes) and all(map(fits, value))


def _is_duration(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and float(value) >= 0


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0


TEXT = Takes("text", is_text)
WHOLE = Takes("a whole number", is_whole)
SWITCH = Takes("True or False", lambda value: isinstance(value, bool))
_CALLED = Takes("a function", callable)

WAREHOUSE: Mapping[str, Takes] = {
    "path": Takes("the path of a file", is_path),
    "limits": Takes("Limits(...)", lambda value: isinstance(value, Limits)),
    "wait_s": Takes("seconds, from 0", _is_duration),
    "keep_open_s": Takes("seconds, from 0", _is_duration),
    "on_note": _CALLED,
    "on_wait": _CALLED,
    "on_answer": _CALLED,
    "language": Takes("'python' or 'shell'", lambda value: value in ("python", "shell")),
    "query": Takes("SQL or a name, as text", is_text),
    "queries": Takes("a list of texts", lambda value: all_are(value, is_text)),
    "name": Takes("a name, as text", is_text),
    "params": Takes("values by name, or a list of values", lambda value: isinstance(value, Mapping | list | tuple)),
    "limit": Takes("a number of rows, from 0, or None", lambda value: value is None or _is_count(value)),
    "timeout_s": Takes("seconds, or None", lambda value: value is None or _is_duration(value)),
    "flat": SWITCH,
    "columns": Takes("names of columns, 'all' or 'headline'", lambda value: is_text(value) or all_are(value, is_text)),
    "model": Takes("a model's name or a run's number", lambda value: is_text(value) or is_whole(value)),
    "run": Takes("a run's number or name, or several", lambda value: _is_run(value) or all_are(value, _is_run)),
    "layer": Takes('the number of a layer (head="L9H6" alone names both)', is_whole),
    "head": Takes(
        'the number of a head, or its name, such as "L9H6"', lambda value: is_whole(value) or bool(place_of(value))
    ),
    "ablation": Takes("resample, mean or zero", is_text),
    "top": WHOLE,
}
"""What the arguments of `Warehouse` and its methods take, by name; values in filters and of questions are not among them."""


def _call(function: Callable[..., object], signature: inspect.Signature) -> str:
    """How it is called: `warehouse.rows(model, layer=None, ...)`, without types."""
    parameters = [one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()]
    name = function.__name__
    if parameters and parameters[0].name == "self":
        parameters = parameters[1:]
        name = "Warehouse" if name == "__init__" else f"warehouse.{name}"
    return f"{name}{signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)}"


def _near(error: str, signature: inspect.Signature) -> str:
    found = _UNEXPECTED.search(error)
    near = difflib.get_close_matches(found[1], signature.parameters, n=1) if found else []
    return f"; did you mean {near[0]}?" if near else "."
