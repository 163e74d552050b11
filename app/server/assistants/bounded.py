"""Answers that an assistant can hold: few rows, short texts, and a sentence wherever something was cut."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from selfrepair.app.server.asking import Rows
from selfrepair.app.server.query_api.formats import encoded
from selfrepair.queries.client.notices import few_in_table

ROWS, MAX_ROWS = 50, 500
"""Rows of an answer where no limit is given, and at most."""

MAX_CHARACTERS = 40_000
"""Of an answer's rows as JSON: more would crowd out the conversation."""

_MAX_TEXT = 2_000
"""Characters of one value."""

Answer = dict[str, Any]


def answer_of(rows: Rows) -> Answer:
    """The rows as JSON has them, with notes on what is not shown and what is to be known of them."""
    found: list[dict[str, Any]] = json.loads(encoded(rows.table, "json"))
    notes = [*rows.notes, *few_in_table(rows.table)]
    return bounded(found, notes, has_more=rows.is_cut)


def bounded(found: Sequence[dict[str, Any]], notes: Sequence[str] = (), *, has_more: bool = False) -> Answer:
    """As many of the rows as an answer may have characters; every value short."""
    is_shortened = False

    def shortened(value: Any) -> Any:
        nonlocal is_shortened
        text = value if isinstance(value, str) else json.dumps(value)
        if len(text) <= _MAX_TEXT:
            return value
        is_shortened = True
        return f"{text[:_MAX_TEXT]}... ({len(text):,} characters)"

    kept: list[dict[str, Any]] = []
    left = MAX_CHARACTERS
    for row in found:
        short = {name: shortened(value) for name, value in row.items()}
        left -= len(json.dumps(short))
        if left < 0:
            break
        kept.append(short)
    said = list(notes)
    if len(kept) < len(found):
        said.append(
            f"Only the first {len(kept)} rows fit into {MAX_CHARACTERS:,} characters. Select fewer columns, or aggregate."
        )
    elif has_more:
        said.append(f"There are more rows than these {len(kept)}. Narrow the question, or give a higher limit.")
    if is_shortened:
        said.append(f"Values of more than {_MAX_TEXT:,} characters are cut.")
    return {"rows": kept, "n_rows": len(kept), "is_cut": has_more or len(kept) < len(found), "notes": said}


def matching(found: Sequence[dict[str, Any]], search: str, texts: Callable[[dict[str, Any]], str]) -> Answer:
    """Those in which every word of `search` stands."""
    words = search.lower().split()
    return bounded([row for row in found if all(word in texts(row).lower() for word in words)])
