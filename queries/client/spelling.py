"""Values in filters that no row has: what was probably meant, or which there are."""

import difflib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from selfrepair.queries.catalog.quoting import identifier, literal
from selfrepair.queries.sandbox.answer import Answer
from selfrepair.warehouse.errors import SelfRepairError

_FEW_WORDS = 50
_SPELLING_TIMEOUT_S = 3.0


def refuse_misspelt(ask: Callable[..., Answer], name: str, filters: Mapping[str, Any]) -> None:
    """Raise SelfRepairError if no row of the view `name` has one of the texts in `filters`, and a few rows have one that is
    nearly the same. `ask` is `Warehouse.ask`.
    """
    for column, text in filters.items():
        if not isinstance(text, str):
            continue
        query = f"SELECT DISTINCT CAST({identifier(column)} AS VARCHAR) AS word FROM {identifier(name)}"
        try:
            found = ask(query, limit=_FEW_WORDS, timeout_s=_SPELLING_TIMEOUT_S)
        except SelfRepairError:
            continue  # it is optional
        words = [word for word in found.frame["word"] if word is not None]
        near = [] if found.truncated or text in words else difflib.get_close_matches(text, words)
        if near:
            raise SelfRepairError(
                f"no row of {name} has {column} '{text}'; did you mean {' or '.join(near)}? "
                f"It has {', '.join(sorted(words))}."
            )


def values_instead(
    rows: Callable[[str], list[dict[str, Any]]], name: str, columns: Collection[str], filters: Mapping[str, str]
) -> str:
    """For the first of `filters` that no row of the view `name` meets, which few values its column has, in a sentence; else ''.

    `rows` is `Reader.rows`, `columns` are the view's. A head by its name, `head=L9H6`, is looked for among the labels, and all
    among the rows of the run that is asked for by its number or name, which is there.
    """
    of_run, which = "", ""
    run = filters.get("run_id", filters.get("run"))
    if run is not None and "run_id" in columns:
        named = f"CAST(run_id AS VARCHAR) = {literal(run)} OR run_name = {literal(run)}"
        of_run, which = f" WHERE run_id IN (SELECT run_id FROM runs WHERE {named})", f" of run {run}"
    for key, value in filters.items():
        column = "label" if key == "head" and not value.isdecimal() else key
        if column not in columns or column == "run_id":
            continue
        query = (
            f"SELECT DISTINCT {identifier(column)} AS word FROM {identifier(name)}{of_run} ORDER BY ALL "
            f"LIMIT {_FEW_WORDS + 1}"
        )
        words = [str(row["word"]) for row in rows(query)]
        if 0 < len(words) <= _FEW_WORDS and value.lower() not in map(str.lower, words):
            return f"No row of {name}{which} has {column} {value}; it has {', '.join(words)}."
    return ""
