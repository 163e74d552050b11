"""Frames as plain tables for a terminal: columns that do not fit are left out by name, long texts are cut."""

from dataclasses import dataclass
from typing import Any

import polars as pl
from rich.cells import cell_len

from selfrepair.warehouse.cli.terminal import cell_text, plain_lines

_GAP = 2  # blanks that part two columns
_LONGEST_TEXT = 60
_DECIMALS = 4  # effects are stored in steps of 1e-4


@dataclass(frozen=True)
class TextTable:
    """A table's text, and the columns that had no room in it."""

    text: str
    left_out: tuple[str, ...]


def text_table(frame: pl.DataFrame, width: int | None = None) -> TextTable:
    """Lay out `frame` with as many of its first columns as fit into `width` characters (None: all)."""
    columns = [_cells(series) for series in frame.iter_columns()]
    widths = [max(map(cell_len, (name, *cells))) for name, cells in zip(frame.columns, columns, strict=True)]
    shown = len(columns) if width is None else _n_fitting(widths, width)
    right = [kind.is_numeric() for kind in frame.dtypes[:shown]]
    lines = plain_lines(frame.columns[:shown], list(zip(*columns[:shown], strict=True)), right)
    return TextTable("\n".join(lines), tuple(frame.columns[shown:]))


def _n_fitting(widths: list[int], width: int) -> int:
    """How many of the first columns fit; one at least."""
    taken = 0
    for i, column in enumerate(widths):
        taken += column + (_GAP if i else 0)
        if taken > width:
            return max(1, i)
    return len(widths)


def _cells(series: pl.Series) -> list[str]:
    if series.dtype.is_float() and _has_plain_size(series):
        return [cell_text(None) if value is None else f"{value:z.{_DECIMALS}f}" for value in series]
    return [_short(cell_text(value, series.name)) for value in series]


def _has_plain_size(numbers: pl.Series) -> bool:
    """True where all of a column's numbers can have 4 decimals: these would hide tiny ones and drown huge ones."""
    largest: Any = numbers.abs().filter(numbers.is_finite()).max()
    return largest is None or largest == 0 or 0.01 <= largest < 1e7


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
