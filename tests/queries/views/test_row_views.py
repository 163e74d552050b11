"""The views of single rows and of prompts, against polars."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from support.empty import with_views
from support.random_runs import FAILED, ROW_NUMBERS, STEPS, in_logits, random_runs, summed, with_repair

Fill = Callable[..., None]
OneRow = Callable[..., Mapping[str, Any]]
Con = duckdb.DuckDBPyConnection

HEAD = ("run_id", "ablation", "layer", "head")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return random_runs(seed=11)


@pytest.fixture(scope="module")
def filled(rows: list[dict[str, Any]], fill: Fill) -> Iterator[Con]:
    with with_views() as con:
        fill(con, rows, status={FAILED: "failed"})
        yield con


def asked(con: Con, query: str) -> pl.DataFrame:
    frame = con.sql(query).pl()
    return frame.with_columns(pl.col(name).cast(pl.String) for name in ("ablation",) if name in frame.columns)


def top_rows(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Each head's top 2 % in the order of their ranks, effects in steps."""
    best_first = [-pl.col("direct_effect"), pl.col("prompt_id"), pl.col("pos")]
    ordered = with_repair(rows).sort(*HEAD, *best_first)
    place = pl.int_range(1, pl.len() + 1).over(HEAD).alias("effect_rank")
    ranked = ordered.with_columns(place, pl.len().over(HEAD).alias("n"))
    return ranked.filter(pl.col("effect_rank") <= pl.max_horizontal(1, pl.col("n") * 2 // 100))


def test_the_highest_effects_in_order(filled: Con, rows: list[dict[str, Any]]) -> None:
    expected = top_rows(rows).with_columns(
        (pl.format("model-{}", "run_id")).alias("model"),
        (pl.format("L{}H{}", "layer", "head")).alias("label"),
        (pl.format("t{}", "pos")).alias("token"),
        (pl.format("t{}", pl.col("pos") + 1)).alias("target"),
        pl.lit(None, pl.String).alias("foil"),
        *(pl.col(name).map_batches(in_logits, pl.Float64).fill_nan(None).cast(pl.Float32) for name in ROW_NUMBERS),
    )
    found = asked(filled, "FROM top_effect").sort(*HEAD, "effect_rank")
    assert_frame_equal(found, expected.select(found.columns), check_exact=True, check_dtypes=False)
    assert found["effect_rank"].max() == 4  # of 244 rows
    assert set(found["run_id"]) == {1, 2, 3, 4}


def test_ranks_by_hand(con: Con, fill: Fill, one_row: OneRow) -> None:
    effects = dict.fromkeys(range(150), 0.5) | {7: 2.0, 90: 3.0, 91: 2.0}
    fill(con, [one_row(pos=pos, direct_effect=effect) for pos, effect in effects.items()])
    ranked = con.execute("SELECT effect_rank, pos, direct_effect, target FROM top_effect ORDER BY 1").fetchall()
    assert ranked == [(1, 90, 3.0, "t91"), (2, 7, 2.0, "t8"), (3, 91, 2.0, "t92")]


def test_failed_runs_keep_their_ranks_to_themselves(filled: Con) -> None:
    runs = "SELECT DISTINCT run_id FROM {} ORDER BY 1"
    assert filled.execute(runs.format("ranked_top_rows")).fetchall() == [(run_id,) for run_id in (1, 2, 3, 4, FAILED)]
    for view in ("top_effect", "prompt_repair"):
        assert filled.execute(runs.format(view)).fetchall() == [(run_id,) for run_id in (1, 2, 3, 4)]


def test_means_over_prompts(filled: Con, rows: list[dict[str, Any]]) -> None:
    means = [(summed(name) / STEPS / pl.len()).alias(f"mean_{name}") for name in ROW_NUMBERS]
    expected = (
        with_repair(rows)
        .group_by(*HEAD, "prompt_id")
        .agg(pl.len().alias("n_rows"), *means)
        .with_columns(
            pl.format("model-{}", "run_id").alias("model"),
            pl.format("L{}H{}", "layer", "head").alias("label"),
        )
        .sort(*HEAD, "prompt_id")
    )
    found = asked(filled, "FROM prompt_repair").sort(*HEAD, "prompt_id")
    assert_frame_equal(found, expected.select(found.columns), check_dtypes=False, rel_tol=1e-12, abs_tol=1e-13)


@pytest.mark.parametrize(
    ("view", "condition", "filtered"),
    [
        ("prompt_repair", "run_id = 1", "run_id=1"),
        ("prompt_repair", "ablation = 'mean'", "ablation"),
        ("prompt_repair", "layer = 3", "layer=3"),
        ("prompt_repair", "head = 1", "head=1"),
        ("prompt_repair", "prompt_id = 2", "prompt_id=2"),
        ("top_effect", "run_id = 1", "run_id=1"),
        ("top_effect", "ablation = 'mean'", "ablation"),
        ("top_effect", "layer = 3", "layer=3"),
        ("top_effect", "head = 1", "head=1"),
        ("top_effect", "effect_rank <= 2", "effect_rank<=2"),
    ],
)
def test_only_what_is_asked_for_is_read(with_stored_rows: Con, view: str, condition: str, filtered: str) -> None:
    """A filter on the view is one on the scan below it: else one head's rows would take as long as all."""
    query = f"EXPLAIN (FORMAT json) SELECT * FROM {view} WHERE {condition}"
    ((_, plan),) = with_stored_rows.execute(query).fetchall()
    (scan,) = (node for node in nodes(json.loads(plan)) if node["Table"].endswith(("measurements", "kept_rows")))
    assert filtered in str(scan.get("Filters")).replace(" ", "")  # DuckDB 2 writes blanks and brackets


@pytest.fixture(scope="module")
def with_stored_rows(fill: Fill) -> Iterator[Con]:
    """A warehouse whose top rows are read from a table, as an installed view reads its mart."""
    with with_views() as con:
        fill(con, random_runs(seed=3))
        con.execute("CREATE TABLE kept_rows AS FROM ranked_top_rows")
        con.execute("CREATE OR REPLACE VIEW ranked_top_rows AS FROM kept_rows")
        yield con


def nodes(plan: list[Any]) -> Iterator[dict[str, Any]]:
    """What the plan tells of each table that it reads."""
    for node in plan:
        if "Table" in node["extra_info"]:
            yield node["extra_info"]
        yield from nodes(node["children"])


def test_no_rows_no_answer(con: Con) -> None:
    for view in ("ranked_top_rows", "top_effect", "prompt_repair"):
        assert con.execute(f"FROM {view}").fetchall() == []
