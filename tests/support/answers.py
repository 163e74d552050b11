"""Answers of questions, and the measured rows that they are worked out from."""

from typing import Any

import polars as pl

from selfrepair.queries.catalog.questions import bind, question
from selfrepair.queries.sandbox.reader import Reader

HEAD = {"layer": 1, "head": 2}

GIVEN, FAILED = 3, 4
N_POSITIONS = 30
N_ROWS = 6 * N_POSITIONS
"""Rows of one head under one ablation."""

Frame = pl.DataFrame


def needed(name: str) -> dict[str, Any]:
    """A value for each parameter that a question cannot do without, here where few tokens come twice."""
    values = {"run_id": 2, "other_run_id": 3, "at_least": 1, **HEAD}
    takes = question(name).parameters
    return {key: values[key] for key, parameter in takes.items() if parameter.required or key == "at_least"}


def answer(reader: Reader, name: str, **params: Any) -> Frame:
    sql, values = bind(name, {**needed(name), **params})
    return reader.frame(sql, values)


def top(rows: Frame, share: float = 0.02) -> Frame:
    """Each head's rows with the highest direct effect."""
    place = pl.struct(-pl.col("direct_effect"), "prompt_id", "pos").rank("ordinal")
    groups = ["run_id", "ablation", "layer", "head"]
    n_top = (pl.len() * share).floor().clip(lower_bound=1)
    return rows.filter(place.over(groups) <= n_top.over(groups))
