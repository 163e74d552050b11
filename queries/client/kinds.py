"""Rows of several kinds in one answer: which kinds there are, and how to select one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfrepair.warehouse.errors import SelfRepairError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    import polars as pl

    from selfrepair.queries.sandbox.answer import Answer

COLUMNS = ("run_id", "ablation", "population", "level", "part", "measure", "dimension")
"""Columns that distinguish kinds of rows: rows that differ in one of them count the same measurements again."""

_MOST_VALUES_NAMED = 6


def kinds_in(
    answer: Answer, asked: str, ask: Callable[[str], pl.DataFrame], among: Collection[str] = COLUMNS
) -> dict[str, list[object]]:
    """The values of each of `COLUMNS` `among` these that has several in the answer to `asked`; `ask` answers other SQL.

    Those of a truncated answer are of all its rows; there are none when `ask` fails or takes too long: it is optional.
    """
    frame = answer.frame
    names = [name for name in COLUMNS if name in frame.columns and name in among]
    if answer.truncated and names:
        try:
            frame = ask(f"SELECT DISTINCT {', '.join(names)}\nFROM (\n{asked.rstrip().rstrip(';')}\n)\nORDER BY ALL")
        except SelfRepairError:
            return {}
    found = {name: frame[name].drop_nulls().unique(maintain_order=True).to_list() for name in names}
    for values in found.values():
        values.sort(key=lambda value: value == "all")  # of populations, the paper's top 2 % first
    each_row_its_own = 0 if answer.truncated else frame.height
    return {name: values for name, values in found.items() if len(values) > 1 and len(values) != each_row_its_own}


def note(kinds: Mapping[str, list[object]], one_alone: str) -> str:
    """A sentence for the user; `one_alone` is what selects one kind."""
    named = "; ".join(f"{name} {_listed(values)}" for name, values in kinds.items())
    return f"rows of several kinds: {named}. To select one: {one_alone}"


def condition(kinds: Mapping[str, list[object]]) -> str:
    """SQL that is true of the first kind."""
    return " AND ".join(
        f"{name} = {values[0] if isinstance(values[0], int) else repr(values[0])}" for name, values in kinds.items()
    )


def _listed(values: list[object]) -> str:
    if len(values) > _MOST_VALUES_NAMED:
        return f"with {len(values)} values"
    return ", ".join(map(str, values))
