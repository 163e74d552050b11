"""One thing that must hold in a warehouse, as a query for what breaks it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """`name` says what holds, `over` names the table it looks at.

    `sql` gives one row for each thing that is wrong, in one column `what` that says so in words. Over measurements it
    aggregates to prompts or heads at most, or is run `by_unit`: once for each unit, as $run_id and the prompts
    $first_prompt to $last_prompt. So memory stays bounded however many rows there are.
    """

    name: str
    over: str
    sql: str
    by_unit: bool = False
