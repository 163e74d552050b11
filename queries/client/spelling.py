"""Texts in filters that no row has, and that are nearly those of some."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from selfrepair.queries.catalog.quoting import identifier
from selfrepair.queries.sandbox.reader import Answer
from selfrepair.warehouse.errors import SelfRepairError

_FEW_WORDS = 50
_SPELLING_S = 3.0


def refuse_misspelt(ask: Callable[..., Answer], name: str, filters: Mapping[str, Any]) -> None:
    """Raise SelfRepairError if no row of the view `name` has one of the texts in `filters`, and a few rows have one that is
    nearly the same. `ask` is `Warehouse.ask`.
    """
    for column, text in filters.items():
        if not isinstance(text, str):
            continue
        query = f"SELECT DISTINCT CAST({identifier(column)} AS VARCHAR) AS word FROM {identifier(name)}"
        try:
            found = ask(query, limit=_FEW_WORDS, timeout_s=_SPELLING_S)
        except SelfRepairError:
            continue  # it is optional
        words = [word for word in found.frame["word"] if word is not None]
        near = [] if found.truncated or text in words else difflib.get_close_matches(text, words)
        if near:
            raise SelfRepairError(
                f"no row of {name} has {column} '{text}'; did you mean {' or '.join(near)}? "
                f"It has {', '.join(sorted(words))}."
            )
