"""The rules of a sound warehouse: the queries of `rules.sql` and `mechanism_rules.sql`, each of which finds what breaks one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from selfrepair.warehouse.schema import (
    EFFECT_STEP,
    EFFECTS,
    IDENTITY_ERROR_LIMIT,
    LARGE_EFFECT,
    MECHANISM_TABLES,
    PARTS,
)

MOST_READ = 5_000_000
"""Rows of the large tables together up to which `violations` reads them: a second on two cores, enough for the demo [rows]."""

_LARGE_TABLES = ("measurements", *MECHANISM_TABLES)
"""Tables that grow with the heads of a model: the rules that read them take minutes over 10^8 rows."""


def identity_excess(
    direct: str, ablated: str, change: str, layernorm: str, attention: str, mlp: str, post_norm: str
) -> str:
    """SQL for how far the parts of a stored row miss its self-repair, as a share of what rounding explains; > 1: damaged.

    Six numbers, each rounded by up to half a step, are added, or seven where `post_norm` is not NULL; of effects above
    `LARGE_EFFECT`, the same share counts as rounding. An error that six explain without that is no share of it: the largest
    of seven numbers takes most of the time.
    """
    effects = (direct, ablated, change, layernorm, attention, mlp)
    error = (
        f"abs({change}::DOUBLE - {ablated} + {direct} - {layernorm} - {attention} - {mlp} - coalesce({post_norm}, 0))"
    )
    rounding = len(effects) * EFFECT_STEP / 2
    least = rounding + IDENTITY_ERROR_LIMIT
    return (
        f"CASE WHEN {error} <= {least} THEN {error} / {least} "
        f"ELSE {error} / ({rounding} + if({post_norm} IS NULL, 0, {EFFECT_STEP / 2}) "
        f"+ {IDENTITY_ERROR_LIMIT} * {_times_the_limit((*effects, post_norm))}) END"
    )


def _times_the_limit(effects: tuple[str, ...]) -> str:
    """SQL for the limit in units of the least one; `greatest` leaves out NULL."""
    return f"greatest({LARGE_EFFECT}, {', '.join(f'abs({name})' for name in effects)}) / {LARGE_EFFECT}"


_PROJECTION_SHARE = 0.1
"""Heads and neurons are added up in float32, the layer that adds them rounds in its own dtype: how far the two may be apart
in a row, as a share of what the cross-check of that dtype may differ by. In float32 that is a step of the stored effects.
"""

MECHANISM_NUMBERS: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "neuron_changes": ("prompt_id", ("clean_effect", "ablated_effect"), ()),
    "neuron_curves": ("unit", ("largest_changes",), ("largest_repairs", "change_shares", "repair_shares")),
    "neuron_sums": ("unit", ("direct_effect", "change", "absolute_change", "positive_change", "anti_erasure"), ()),
    "edge_sums": ("unit", ("change", "squared_change"), ("squared_rows", "rows_by_change", "squared_cluster_change")),
    "routing_sums": (
        "unit",
        ("weight_distance", "change", "shared_change"),
        ("squared_rows", "rows_by_rerouted", "squared_cluster_rerouted"),
    ),
    "expert_sums": ("unit", ("change", "kept_change"), ()),
    "logit_lens": ("prompt_id", ("logit", "logprob"), ()),
    "logprob_changes": ("prompt_id", ("logprob_change", "kl"), ()),
    "self_repression": ("prompt_id", ("direct_effect", "direct_effect_after"), ("direct_effect_after_own_scale",)),
    "self_repression_sums": (
        "prompt_id",
        ("sum_x", "sum_xx", "sum_y", "sum_xy", "sum_yy"),
        ("sum_z", "sum_xz", "sum_zz"),
    ),
}
"""By table: where in a run a row is, the numbers that it has, and those that may be NULL; here, since a reader that checks the
rules does not import the schema.
"""


def _not_finite(table: str) -> str:
    place, numbers, optional = MECHANISM_NUMBERS[table]
    all_finite = " AND ".join(
        [*map("isfinite({})".format, numbers), *map("coalesce(isfinite({}), true)".format, optional)]
    )
    where = f"'{table} of run ' || run_id || ', {place.removesuffix('_id')} ' || {place}"
    return f"SELECT run_id, {where} AS what FROM {table} WHERE ({all_finite}) IS NOT TRUE"


_LOGITS = ("direct_effect", "ablated_direct_effect", "logit_change", *PARTS)

_VALUES = {
    "EFFECT_STEP": EFFECT_STEP,
    "FINITE_EFFECTS": " AND ".join(
        f"coalesce(isfinite({name}), true)" if name == PARTS[-1] else f"isfinite({name})" for name in EFFECTS
    ),
    "IDENTITY_ERROR_LIMIT": IDENTITY_ERROR_LIMIT,
    "IDENTITY_EXCESS": identity_excess(*_LOGITS),
    "NOT_FINITE": "\nUNION ALL\n".join(map(_not_finite, MECHANISM_NUMBERS)),
    "OF_UNIT": "{OF_UNIT}",
    "PROJECTION_ERROR": f"greatest({EFFECT_STEP}, coalesce(r.crosscheck_tolerance, 0) * {_PROJECTION_SHARE})",
    "TIMES_THE_LIMIT": _times_the_limit(_LOGITS),
}
_OF_UNIT = "run_id = $run_id AND prompt_id BETWEEN $first_prompt AND $last_prompt"
_RULE = re.compile(
    r"^-- rule: (?P<name>[^\n]+)\n-- over: (?P<over>\w+)(?P<by_unit>, by unit)?\n(?P<sql>.+?);$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Rule:
    """`name` says what holds, `over` names the table that is checked.

    `sql` returns one row per violation: `run_id`, NULL where it is in no run's rows, and `what`, which describes it. With
    `by_unit`, `sql_of_unit` finds those of one unit, with the parameters $run_id, $first_prompt and $last_prompt.
    """

    name: str
    over: str
    sql: str
    sql_of_unit: str
    by_unit: bool

    @property
    def is_large(self) -> bool:
        """True where it reads a table that grows with the heads of a model."""
        return any(re.search(rf"\b(FROM|JOIN) {table}\b", self.sql) for table in _LARGE_TABLES)


@cache
def rules() -> tuple[Rule, ...]:
    """Every rule, in the order of the report."""
    files = (Path(__file__).with_name(name) for name in ("rules.sql", "mechanism_rules.sql"))
    text = "\n".join(file.read_text(encoding="utf-8") for file in files).format(**_VALUES)
    return tuple(
        Rule(
            match["name"],
            match["over"],
            match["sql"].format(OF_UNIT="true"),
            match["sql"].format(OF_UNIT=_OF_UNIT),
            match["by_unit"] is not None,
        )
        for match in _RULE.finditer(text)
    )


def is_read_whole() -> str:
    """SQL that is true where the large tables are small enough that `violations` reads them."""
    n_rows = " + ".join(f"(SELECT count(*) FROM main.{table})" for table in _LARGE_TABLES)
    return f"{n_rows} <= {MOST_READ}"


@cache
def violations() -> str:
    """Common table expressions of which the last is `violations`: one row (rule_number, rule, run_id, what) for each.

    Rules that read large tables find nothing where these are not read whole.
    """
    tables = [f"read_whole AS (SELECT true AS is_read WHERE {is_read_whole()})"]
    tables += [
        f"{table} AS NOT MATERIALIZED (FROM main.{table} SEMI JOIN read_whole ON is_read)" for table in _LARGE_TABLES
    ]
    found = [
        f"{_found(number, rule)}{' SEMI JOIN read_whole ON is_read' if rule.is_large else ''}"
        for number, rule in enumerate(rules(), start=1)
    ]
    return ",\n".join([*tables, _all_of(found)])


def for_large_files(sql: str) -> str:
    """The same SELECT for a file whose large tables are not read whole: without the rules that would find nothing, since to
    plan them takes most of its time.
    """
    found = [_found(number, rule) for number, rule in enumerate(rules(), start=1) if not rule.is_large]
    return sql.replace(violations(), _all_of(found)).replace(is_read_whole(), "false")


def _found(number: int, rule: Rule) -> str:
    return f"SELECT {number} AS rule_number, '{rule.name}' AS rule, run_id, what FROM (\n{rule.sql}\n)"


def _all_of(found: list[str]) -> str:
    return "violations AS (\n" + "\nUNION ALL\n".join(found) + "\n)"
