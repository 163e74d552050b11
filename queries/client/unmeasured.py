"""Why an answer has no rows: what it is about was measured by no run of the file."""

import re

from selfrepair.queries.catalog.relations import views
from selfrepair.queries.sandbox.reader import Reader

ADDED_BY = {
    "edge_sums": "--edges",
    "neuron_changes": "--neurons last",
    "neuron_curves": "--neurons last",
    "neuron_sums": "--neurons last",
    "logit_lens": "--logit-lens",
    "logprob_changes": "--logprobs",
    "self_repression": "--self-repression",
    "self_repression_sums": "--self-repression",
}
"""The option of an ingest that fills a table."""

_WORD = re.compile(r"[a-z_][a-z0-9_]*")


def unmeasured(reader: Reader, query: str) -> str:
    """A sentence with the options that measure it, where `query` reads tables of mechanisms that are all empty; else ''."""
    options = {ADDED_BY[table] for table in sorted(_read(query) & ADDED_BY.keys()) if _is_empty(reader, table)}
    if not options:
        return ""
    return (
        f"No run of this file has measured it: selfrepair ingest {' '.join(sorted(options))} does, and so does "
        "selfrepair demo --mechanisms."
    )


def _is_empty(reader: Reader, table: str) -> bool:
    return not reader.rows(f"SELECT 1 FROM main.{table} LIMIT 1")


def _read(query: str) -> set[str]:
    """Every word of the query and of the views that it reads, directly or through others."""
    by_name = {view.name: view.sql for view in views()}
    found: set[str] = set()
    left = [query]
    while left:
        new = set(_WORD.findall(left.pop().lower())) - found
        found |= new
        left += [by_name[word] for word in new & by_name.keys()]
    return found
