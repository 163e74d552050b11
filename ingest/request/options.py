"""Command-line options from a dataclass: each field is declared once, with its help, type and default."""

import dataclasses
import types
import typing
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def option(
    help: str,
    default: Any = dataclasses.MISSING,
    *,
    flag: str | None = None,
    type: Any = None,
    metavar: str | None = None,
    alone: str | None = None,
) -> Any:
    """A field that `add_options` makes an option of; typed without a value, it has the value `alone`, unless that is None.

    `flag` is the option's name unless it is the field's; `type` click's type unless the annotation says enough. A field
    without a default is required, one whose default is True gets a second option `--no-...`.
    """
    return dataclasses.field(
        default=default, metadata={"help": help, "flag": flag, "type": type, "metavar": metavar, "alone": alone}
    )


def add_options(request: type) -> Callable[[Command], Command]:
    """A decorator that adds an option for each field of `request`, in order; the command gets the values by field name."""
    annotations = typing.get_type_hints(request)

    def decorate(command: Command) -> Command:
        for field in reversed(dataclasses.fields(request)):
            command = _option(field, annotations[field.name])(command)
        return command

    return decorate


def typed_options(request: Any, leave_out: Collection[str] = ()) -> list[str]:
    """The words that give a dataclass of options these values, but for the fields to `leave_out` and those at their default."""
    words: list[str] = []
    for field in dataclasses.fields(request):
        value, flag = getattr(request, field.name), _flag(field)
        if field.name in leave_out or value == field.default:
            continue
        if isinstance(value, bool):
            words.append(flag if value else _negation(flag))
        elif value == field.metadata["alone"]:
            words.append(flag)
        else:
            words += [flag, str(value)]
    return words


def _flag(field: "dataclasses.Field[Any]") -> str:
    return str(field.metadata["flag"] or f"--{field.name.replace('_', '-')}")


def _negation(flag: str) -> str:
    return f"--no-{flag.removeprefix('--')}"


def _option(field: "dataclasses.Field[Any]", annotation: Any) -> Callable[[Command], Command]:
    flag = _flag(field)
    kind = next((one for one in typing.get_args(annotation) if one is not types.NoneType), annotation)
    settings: dict[str, Any] = {
        "help": field.metadata["help"],
        "type": field.metadata["type"] or kind,
        "metavar": field.metadata["metavar"],
    }
    if field.metadata["alone"] is not None:
        settings |= {"is_flag": False, "flag_value": field.metadata["alone"]}
    if field.default is dataclasses.MISSING:
        settings["required"] = True
    else:
        settings |= {"default": field.default, "show_default": not (field.default is None or field.default is False)}
    if kind is bool:
        settings["is_flag"] = True
        flag += f"/{_negation(flag)}" if field.default else ""
    return click.option(flag, field.name, **settings)
