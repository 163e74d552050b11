"""Read a whole warehouse and tell which of its rules hold."""

from dataclasses import dataclass
from pathlib import Path

import duckdb

from selfrepair.warehouse.database.connection import open_reader
from selfrepair.warehouse.verify.mechanism_rules import MECHANISM_RULES
from selfrepair.warehouse.verify.number_rules import NUMBER_RULES
from selfrepair.warehouse.verify.rule import Rule
from selfrepair.warehouse.verify.structure_rules import STRUCTURE_RULES

RULES = (*STRUCTURE_RULES, *NUMBER_RULES, *MECHANISM_RULES)
"""Every rule, in the order in which they are told."""


@dataclass(frozen=True)
class Check:
    """One rule looked at: what should hold, whether it does, and over how many rows, or what is wrong."""

    name: str
    ok: bool
    detail: str


def verify(db: Path) -> list[Check]:
    """Look at every rule of `RULES`, in order. Changes nothing; memory stays bounded.

    Raises SelfRepairError as `open_reader` does; a broken rule does not raise.
    """
    with open_reader(db) as con:
        units = con.execute(
            "SELECT run_id, first_prompt, first_prompt + n_prompts - 1 FROM units ORDER BY run_id, first_prompt"
        ).fetchall()
        return [_check(con, rule, units) for rule in RULES]


def _check(con: duckdb.DuckDBPyConnection, rule: Rule, units: list[tuple[int, int, int]]) -> Check:
    n_wrong = 0
    example = ""
    for parameters in _parameters(rule, units):
        # Only a count and one example: a list of what is wrong could be as long as the table.
        ((n, first),) = con.execute(f"SELECT count(*), min(what) FROM ({rule.sql})", parameters).fetchall()
        n_wrong += n
        example = example or first or ""
    if n_wrong:
        return Check(rule.name, False, f"{n_wrong:,} times not, such as {example}")
    ((n_rows,),) = con.execute(f"SELECT count(*) FROM {rule.over}").fetchall()
    return Check(rule.name, True, f"{n_rows:,} {'row' if n_rows == 1 else 'rows'} of {rule.over}")


def _parameters(rule: Rule, units: list[tuple[int, int, int]]) -> list[dict[str, int]]:
    if not rule.by_unit:
        return [{}]
    return [{"run_id": run_id, "first_prompt": first, "last_prompt": last} for run_id, first, last in units]
