"""Which columns of a view come first: those that say the answer, where all of them would bury it."""

from collections.abc import Sequence
from typing import Literal

from selfrepair.queries.catalog.relations import views
from selfrepair.warehouse.errors import SelfRepairError

CONTEXT = ("run_id", "model", "ablation", "population")
"""Columns that distinguish the rows of a view and are often the same in all of an answer."""


def headline(name: str, columns: Sequence[str]) -> list[str]:
    """The `columns` of the view `name` to show first, behind those that tell its rows apart; all, if it names none."""
    first = next((view.headline for view in views() if view.name == name.lower()), ())
    if not first or not set(first) <= set(columns):  # a table of the user's own
        return list(columns)
    return [*(column for column in CONTEXT if column in columns), *first]


Chosen = Sequence[str] | Literal["all", "headline"]
"""Columns by name, or which of a view's."""


def columns_of(name: str, columns: Sequence[str], chosen: Chosen) -> list[str]:
    """The `columns` of the view `name` to select for a frame: the `chosen` ones, or its headline, or all.

    The headline comes first and the context last: of a wide frame polars prints both ends.
    """
    if chosen not in ("all", "headline"):
        named = [chosen] if isinstance(chosen, str) else list(chosen)
        if not named:
            raise SelfRepairError("no columns were named. Name some, or leave columns out for all of them.")
        return named
    first = headline(name, columns)
    if len(first) == len(columns):
        return first
    context = [column for column in CONTEXT if column in columns]
    others = [column for column in columns if column not in first] if chosen == "all" else []
    return [*first[len(context) :], *others, *context]
