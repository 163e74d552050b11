"""The names that version 0.1 gave to mechanisms, tables and columns: its part files are still loaded, its runs resumed."""

from collections.abc import Iterable

from selfrepair.warehouse.schema.names import CHANGE_SHARES

MECHANISMS = {"guesses": "logit_lens", "feedback": "self_repression"}
"""Today's names by those of 0.1. A run's key hashes those of 0.1, so that a run has the same key in both."""

TABLES = {
    "layer_guess": "logit_lens",
    "head_feedback": "self_repression",
    "feedback_sums": "self_repression_sums",
}
"""Today's tables by the names of the part files of 0.1."""

COLUMNS = {
    "added_vector": "feedback",
    "multiple": "strength",
    "direct_effect_after": "fed_effect",
    "direct_effect_after_own_scale": "fed_effect_own_scale",
}
"""Columns of those tables, today's name first."""

ADDED = {
    "edge_sums": {
        "n_clusters": "INTEGER",
        "squared_rows": "DOUBLE",
        "rows_by_change": "DOUBLE",
        "squared_cluster_change": "DOUBLE",
        "document_id": "INTEGER",
    },
    "routing_sums": {"document_id": "INTEGER"},
    "neuron_curves": {
        **dict.fromkeys((f"signed_{name}" for name in CHANGE_SHARES), "INTEGER"),
        **dict.fromkeys(("largest_repairs", "change_shares", "repair_shares"), "DOUBLE"),
        "population": "VARCHAR",
    },
    "neuron_sums": {"n_changed": "INTEGER", "population": "VARCHAR"},
    "neuron_changes": {"in_top2": "BOOLEAN", "in_top2_nobos": "BOOLEAN"},
    "measurements": {"repair_post_norm": "REAL"},
}
"""Columns, with their types, that the part files of earlier versions do not have: NULL in their rows, or what `KNOWN` says."""

KNOWN = {"population": "'top2'", "in_top2": "true", "in_top2_nobos": "false"}
"""What holds in the rows of 0.1: neurons were read in each head's top 2 % of all rows alone."""

NEURON_POPULATIONS = ("top2",)
"""Populations in which a run of 0.1 goes on to read neurons, so that all its units have the same."""

_MECHANISMS_OF_0_1 = {today: earlier for earlier, today in MECHANISMS.items()}


def is_of_0_1(version: str) -> bool:
    """Whether that is a version of this package whose runs are resumed by today's."""
    return version.startswith("0.1.")


def current_mechanisms(names: Iterable[str]) -> tuple[str, ...]:
    """Mechanisms of a run record of either version, under today's names."""
    return tuple(MECHANISMS.get(name, name) for name in names)


def mechanisms_in_key(names: Iterable[str]) -> tuple[str, ...]:
    """Mechanisms as a run's key hashes them."""
    return tuple(_MECHANISMS_OF_0_1.get(name, name) for name in names)


def completed(table: str, source: str) -> str:
    """SQL that reads `source`, part files of `table` of either version, with the columns of `ADDED`."""
    if table not in ADDED:
        return source
    nulls = ", ".join(f"NULL::{kind} AS {name}" for name, kind in ADDED[table].items())
    known = ", ".join(f"coalesce({name}, {KNOWN[name]}) AS {name}" for name in ADDED[table] if name in KNOWN)
    values = f"* REPLACE ({known})" if known else "*"
    return f"(SELECT {values} FROM (SELECT {nulls} WHERE false UNION ALL BY NAME FROM {source}))"
