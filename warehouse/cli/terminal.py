"""Tables for people: in colour and in the window's width on a terminal, plain and in full everywhere else."""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import click
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_NULL = "-"
_NUMBERS = (int, float, Decimal)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print `rows` under the names `columns`, numbers to the right.

    On a terminal wide cells fold. Elsewhere every cell is printed whole, without colour, columns parted by two spaces.
    """
    cells, right = _texts(columns, rows)
    if sys.stdout.isatty():
        Console().print(_rich_table(columns, cells, right))
    else:
        click.echo("\n".join(plain_lines(columns, cells, right)))


def print_json(rows: Iterable[Mapping[str, object]]) -> None:
    """Print rows as an array of JSON objects, one a line; numbers that are no number are null."""
    lines = ",\n".join(json.dumps(_plain(row), allow_nan=False) for row in rows)
    click.echo(f"[\n{lines}\n]" if lines else "[]")


def _plain(value: object) -> Any:
    """The value as JSON has it: times by ISO 8601, paths and the like as text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float() | Decimal():
            return float(value) if math.isfinite(value) else None
        case datetime():
            return value.isoformat()
        case Mapping():
            return {str(key): _plain(entry) for key, entry in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(entry) for entry in value]
        case _:
            return str(value)


def print_records(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print as `print_table` does where the columns fit; on a narrower terminal, a line for each value under its row."""
    rows = list(rows)
    cells, right = _texts(columns, rows)
    console = Console()
    table = _rich_table(columns, cells, right)
    unbounded = console.options.update(width=sys.maxsize)
    if not sys.stdout.isatty() or console.measure(table, options=unbounded).maximum <= console.width:
        print_table(columns, rows)
        return
    width = max(map(len, columns))
    blocks = ("\n".join(f"{name:{width}}  {cell}" for name, cell in zip(columns, row, strict=True)) for row in cells)
    click.echo("\n\n".join(blocks))


def plain_lines(
    columns: Sequence[str], cells: Sequence[Sequence[str]], right: Sequence[bool], *, rule: bool = True
) -> list[str]:
    """The lines of a plain table: headings, which may have several lines each, a rule, rows.

    `right` says which columns are aligned to the right. A wide character, as in Chinese text, counts as two.
    """
    headings = [name.split("\n") for name in columns]
    height = max(map(len, headings))
    table = [*zip(*([""] * (height - len(lines)) + lines for lines in headings), strict=True), *cells]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    if rule:
        table.insert(height, tuple("-" * width for width in widths))
    return ["  ".join(map(_padded, row, widths, right)).rstrip() for row in table]


def _padded(cell: str, width: int, to_right: bool) -> str:
    blanks = " " * (width - cell_len(cell))
    return blanks + cell if to_right else cell + blanks


def cell_text(value: object, column: str = "") -> str:
    """One value for a reader: `1,234,567`, `0.1235`, `2.1e-05`, `-` for NULL; numbers that name things stay bare."""
    match value:
        case None:
            return _NULL
        case bool():
            return str(value).lower()
        case int():
            return str(value) if column == "seed" or column.endswith("_id") else f"{value:,}"
        case float() | Decimal():
            return _float_text(float(value))
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case str():
            return "".join(character if character.isprintable() else _escaped(character) for character in value)
        case Mapping():
            return ", ".join(f"{cell_text(key)} {cell_text(entry)}" for key, entry in value.items())
        case Sequence():
            return ", ".join(cell_text(entry) for entry in value)
        case _:
            return str(value)


def _float_text(value: float) -> str:
    size = abs(value)
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if size < 1e-3:
        return f"{value:.1e}"
    digits = max(0, 3 - math.floor(math.log10(size)))  # four that count
    return f"{value:,.{digits}f}"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _is_numeric(values: Iterable[object]) -> bool:
    found = [value for value in values if value is not None]
    return bool(found) and all(isinstance(value, _NUMBERS) and not isinstance(value, bool) for value in found)


def _texts(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> tuple[list[list[str]], list[bool]]:
    """The cells as text, and for each column whether it stands to the right."""
    rows = list(rows)
    cells = [[cell_text(value, column) for value, column in zip(row, columns, strict=True)] for row in rows]
    return cells, [_is_numeric(row[i] for row in rows) for i in range(len(columns))]


def _rich_table(columns: Sequence[str], cells: Sequence[Sequence[str]], right: Sequence[bool]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name, to_right in zip(columns, right, strict=True):
        table.add_column(name, justify="right" if to_right else "left", overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))  # as text: a token such as [/b] is no markup
    return table
