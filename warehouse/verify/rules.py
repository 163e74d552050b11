"""The rules of a sound warehouse: the queries of `rules.sql`, each of which finds what breaks one."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from selfrepair.warehouse.schema import EFFECT_STEP, EFFECTS, IDENTITY_ERROR_LIMIT, LARGE_EFFECT

_VALUES = {
    "EFFECT_STEP": EFFECT_STEP,
    "FINITE_EFFECTS": " AND ".join(f"isfinite({name})" for name in EFFECTS),
    "IDENTITY_ERROR_LIMIT": IDENTITY_ERROR_LIMIT,
    "TIMES_THE_LIMIT": f"greatest({LARGE_EFFECT}, {', '.join(f'abs({name})' for name in EFFECTS[:6])}) / {LARGE_EFFECT}",
    "ROUNDING": 6 * EFFECT_STEP / 2,  # the identity adds six numbers, each rounded by up to half a step [logits]
}
_RULE = re.compile(
    r"^-- rule: (?P<name>[^\n]+)\n-- over: (?P<over>\w+)(?P<by_unit>, by unit)?\n(?P<sql>.+?);$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Rule:
    """`name` says what holds, `over` names the table that is checked.

    `sql` returns one row per violation, in one column `what` that describes it. With `by_unit` it is run once for each
    unit, with the parameters $run_id, $first_prompt and $last_prompt.
    """

    name: str
    over: str
    sql: str
    by_unit: bool


@cache
def rules() -> tuple[Rule, ...]:
    """Every rule, in the order of the report."""
    text = Path(__file__).with_name("rules.sql").read_text(encoding="utf-8").format(**_VALUES)
    return tuple(
        Rule(match["name"], match["over"], match["sql"], match["by_unit"] is not None) for match in _RULE.finditer(text)
    )
