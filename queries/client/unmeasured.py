"""Why an answer has no rows: what it is about was measured by no run of the file, or by none that it asks for."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from selfrepair.queries.catalog.quoting import literal
from selfrepair.queries.catalog.relations import views
from selfrepair.warehouse.errors import no_run

Rows = Callable[[str], list[dict[str, Any]]]
"""Answers SQL with the rows as plain values."""

ADDED_BY = {
    "edge_sums": "--edges",
    "routing_sums": "--experts",
    "expert_sums": "--experts",
    "neuron_changes": "--neurons last",
    "neuron_curves": "--neurons last",
    "neuron_sums": "--neurons last",
    "logit_lens": "--logit-lens",
    "logprob_changes": "--logprobs",
    "self_repression": "--self-repression",
    "self_repression_sums": "--self-repression",
}
"""The option of an ingest that fills a table."""

NEEDS = {
    "co_ablation": (
        "has given heads and, beside it, a complete run in the same precision without them",
        "selfrepair ingest --given HEAD --ablation mean, and the same without --given, measure both",
    ),
    "repair_over_training": (
        "belongs to a series of checkpoints",
        "selfrepair ingest --model EleutherAI/pythia-160m --checkpoint 1000,10000,143000 measures one",
    ),
    "ablation_agreement": (
        "has several ablation types",
        "selfrepair ingest --ablation resample,mean,zero measures them",
    ),
    "published_matches": ("is of a model of the paper", "selfrepair reproduce gpt2-small measures one"),
}
"""Views that have rows of some runs only: what such a run has, and what measures one."""

EARLIER_NEURONS = (
    "version 0.1 read neurons in the top 2 % of all rows alone. To have both, remove the run with selfrepair remove and "
    "measure it again with the command that measured it."
)
"""Why a run has no neurons of top2_nobos, and what to do."""

_NEURONS = {"neuron_changes", "neuron_curves", "neuron_sums"}

_SAME_NEED = {"ablations_that_disagree": "ablation_agreement"}
"""Questions that need what a view needs which they do not read."""

_HOLD_FAILED = {"self_repair", "repair_rows"}
"""Views that have rows of a run whose cross-check failed."""

_ASKS_WHAT_IS_THERE = {"broken_rules", "run_health"}
"""Views that read every table, and have rows whichever of them have."""

_EMPTY_IS_AN_ANSWER = {"broken_rules"}
"""Views without rows where all is well."""

_WORD = re.compile(r"[a-z_][a-z0-9_]*")


def unmeasured(rows: Rows, db: Path, query: str, name: str = "", filters: Mapping[str, Any] | None = None) -> str:
    """What was not measured that an empty answer to `query` needs, and the command that measures it; '' if that is not it.

    `name` is the question or view that was asked, if any, and `filters` the values it was given: of these a run or a
    model's name says which runs are meant.
    """
    if name in _EMPTY_IS_AN_ANSWER:
        return ""
    condition = _run_condition(filters or {})
    read = _read(query)
    tables = sorted(read & ADDED_BY.keys())
    needs = sorted((read | {_SAME_NEED.get(name, "")}) & NEEDS.keys())
    of_tables = {
        "runs": "runs",
        "finished": f"runs WHERE status <> 'failed' AND {condition}",
        "loaded": f"units WHERE {condition}",
        "nobos": f"neuron_sums WHERE {condition} AND population = 'top2_nobos'",
    } | {table: f"{table} WHERE {condition}" for table in tables}
    # views are computed anew where a file has no summaries, which may take too long to be told what a table alone tells
    of_views = {"summarised": f"head_repair WHERE {condition}"} | {view: f"{view} WHERE {condition}" for view in needs}
    there = _which(rows, of_tables if tables else of_tables | of_views)
    if "runs" not in there:
        return no_run(db)
    subject = "No run of this file" if condition == "true" else "None of the runs asked for"
    if options := sorted({ADDED_BY[table] for table in tables if table not in there}):
        return (
            f"{subject} has measured it: selfrepair ingest {' '.join(options)} does, and so does selfrepair demo "
            "--mechanisms."
        )
    of_nobos = (filters or {}).get("population") in ("top2_nobos", ["top2_nobos"])
    if of_nobos and read & _NEURONS and "nobos" not in there:
        return f"{subject} has neurons of the rows after position 0: {EARLIER_NEURONS}"
    if tables:
        there |= _which(rows, of_views)
    if "summarised" not in there:  # failed, or nothing of it is loaded or summarised
        return _why_not_summarised(there) if read & ({view.name for view in views()} - _HOLD_FAILED) else ""
    for view in needs:
        if view not in there:
            need, step = NEEDS[view]
            return f"{subject} {need}: {step}."
    return ""


def _which(rows: Rows, asked: Mapping[str, str]) -> set[str]:
    """Of what is `asked`, FROM clauses by a name of one's own, what has a row: in one query, for each opens the file."""
    (there,) = rows(f"SELECT {', '.join(f'EXISTS (FROM {rest}) AS {name}' for name, rest in asked.items())}")
    return {name for name, is_there in there.items() if is_there}


def _why_not_summarised(there: set[str]) -> str:
    if "finished" not in there:
        return (
            "Views leave out runs whose cross-check failed, and there is no other: selfrepair runs shows their status."
        )
    if "loaded" not in there:
        return "Nothing of the run is loaded yet: selfrepair load loads the units that are finished."
    return ""  # whoever opened the file was told that summaries are missing


def _run_condition(filters: Mapping[str, Any]) -> str:
    """SQL that is true of the runs that the filters name."""
    run = filters.get("run_id", filters.get("run"))
    if isinstance(run, int) or (isinstance(run, str) and run.isdecimal()):
        return f"run_id = {run}"
    if isinstance(model := filters.get("model"), str):
        return f"run_id IN (SELECT run_id FROM runs INNER JOIN models USING (model_id) WHERE name = {literal(model)})"
    return "true"


def _read(query: str) -> set[str]:
    """Every word of the query and of the views that it reads, directly or through others."""
    by_name = {view.name: view.sql for view in views()}
    found: set[str] = set()
    left = [query]
    while left:
        new = set(_WORD.findall(left.pop().lower())) - found
        found |= new
        left += [by_name[word] for word in (new & by_name.keys()) - _ASKS_WHAT_IS_THERE]
    return found
