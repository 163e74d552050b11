"""How the fraction of the direct effect that is repaired depends on how it is computed, against numpy."""

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from scipy.stats import t as student_t

from support.empty import with_views
from support.random_runs import FAILED, STEPS, in_logits, random_runs, with_repair

Fill = Callable[..., None]
OneRow = Callable[..., Mapping[str, Any]]
Con = duckdb.DuckDBPyConnection
Key = tuple[Any, ...]

TENTHS_OF_PERCENT = (1000, 500, 200, 100, 50, 20, 10, 5)
PARTS = {
    "layernorm": "repair_layernorm",
    "attention": "repair_attention",
    "mlp": "repair_mlp",
    "post_norm": "repair_post_norm",
    "total": "self_repair",
}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return random_runs(seed=13)


@pytest.fixture(scope="module")
def filled(rows: list[dict[str, Any]], fill: Fill) -> Iterator[Con]:
    with with_views() as con:
        fill(con, rows, status={FAILED: "failed"})
        yield con


def tops(rows: list[dict[str, Any]]) -> dict[Key, pl.DataFrame]:
    """The rows in each top by run_id, ablation, level, layer, head, with_first, top_percent."""
    found: dict[Key, pl.DataFrame] = {}
    pooled: dict[Key, list[pl.DataFrame]] = {}
    ordered = with_repair(rows).sort(-pl.col("direct_effect"), "prompt_id", "pos")
    for (run_id, ablation, layer, head), members in ordered.group_by(
        "run_id", "ablation", "layer", "head", maintain_order=True
    ):
        for with_first in (True, False):
            counted = members if with_first else members.filter(pl.col("pos") > 0)
            for tenths in TENTHS_OF_PERCENT if counted.height else ():
                top = counted.head(max(1, tenths * counted.height // 1000))
                found[run_id, ablation, "head", layer, head, with_first, tenths / 10] = top
                pooled.setdefault((run_id, ablation, "model", None, None, with_first, tenths / 10), []).append(top)
    return found | {key: pl.concat(parts) for key, parts in pooled.items()}


def fractions(top: pl.DataFrame, column: str) -> dict[tuple[str, bool], float | None]:
    """The fraction by average and clipped."""
    repair, effect = top[column].to_numpy(), top["direct_effect"].to_numpy()
    defined = effect != 0
    ratios = in_logits(repair[defined]) / in_logits(effect[defined])
    of_means = float(repair.sum() / effect.sum()) if effect.sum() else None
    return {
        ("mean of ratios", False): float(ratios.mean()) if ratios.size else None,
        ("mean of ratios", True): float(ratios.clip(0, 1).mean()) if ratios.size else None,
        ("ratio of means", False): of_means,
        ("ratio of means", True): None if of_means is None else min(1.0, max(0.0, of_means)),
    }


def test_every_way_of_computing_it(filled: Con, rows: list[dict[str, Any]]) -> None:
    found = {
        key: (fraction, n_rows, undefined)
        for *key_columns, fraction, n_rows, undefined in filled.execute(
            "SELECT run_id, ablation, level, layer, head, with_first, top_percent, part, average, clipped, "
            "fraction, n_rows, undefined_ratios FROM repair_sensitivity"
        ).fetchall()
        for key in [tuple(key_columns)]
    }
    expected = {
        (*key, part, *way): (fraction, top.height, int((top["direct_effect"] == 0).sum()))
        for (key, top), (part, column) in product(tops(rows).items(), PARTS.items())
        if top[column].null_count() == 0
        for way, fraction in fractions(top, column).items()
    }
    assert found.keys() == expected.keys()
    for key, (fraction, n_rows, undefined) in expected.items():
        wanted = None if fraction is None else pytest.approx(fraction, rel=1e-9, abs=1e-9)
        assert found[key] == (wanted, n_rows, undefined), key
    assert {key[0] for key in found} == {1, 2, 3, 4}
    assert any(fraction is None for fraction, _, _ in found.values())


def test_ways_by_hand(con: Con, fill: Fill, one_row: OneRow) -> None:
    """Ratios of MLP repair to effect: first position 3 / 4; then 6 / 2, 1 / -1 and none."""
    effects_and_repairs = [(4.0, 3.0), (2.0, 6.0), (-1.0, 1.0), (0.0, 2.0)]
    fill(
        con,
        [
            one_row(pos=pos, direct_effect=effect, repair_mlp=repair)
            for pos, (effect, repair) in enumerate(effects_and_repairs)
        ],
    )
    query = (
        "SELECT fraction, n_rows, undefined_ratios FROM repair_sensitivity WHERE level = 'head' AND part = 'mlp' "
        "AND with_first = ? AND top_percent = ? ORDER BY average, clipped"
    )

    def asked(with_first: bool, top_percent: float) -> list[Any]:
        return con.execute(query, [with_first, top_percent]).fetchall()

    assert asked(True, 100) == [
        (pytest.approx((0.75 + 3 - 1) / 3), 4, 1),
        (pytest.approx((0.75 + 1 + 0) / 3), 4, 1),
        (12 / 5, 4, 1),
        (1, 4, 1),
    ]
    assert asked(False, 100) == [(1, 3, 1), (0.5, 3, 1), (9.0, 3, 1), (1, 3, 1)]
    assert asked(True, 50) == [(1.875, 2, 0), (0.875, 2, 0), (1.5, 2, 0), (1, 2, 0)]
    assert asked(True, 0.5) == [(0.75, 1, 0)] * 4
    assert asked(False, 2) == [(3, 1, 0), (1, 1, 0), (3, 1, 0), (1, 1, 0)]


def test_the_papers_way_is_that_of_model_repair(filled: Con) -> None:
    """Two views by two ways through the rows; they differ by their floats only."""
    papers = "top_percent = 2 AND with_first AND average = 'mean of ratios' AND clipped AND level = 'model'"
    ours = filled.execute(
        f"SELECT run_id, ablation, part, fraction FROM repair_sensitivity WHERE {papers} ORDER BY ALL"
    ).fetchall()
    columns = ", ".join(f"'{part}': clipped_{part}_fraction" for part in PARTS)
    theirs = filled.execute(
        f"SELECT run_id, ablation, unnest(map_entries(MAP {{{columns}}}), recursive := true) FROM model_repair "
        "WHERE population = 'top2' ORDER BY ALL"
    ).fetchall()
    theirs = [row for row in theirs if row[2] != "post_norm" or row[3] is not None]
    assert [row[:3] for row in ours] == [row[:3] for row in theirs]
    assert [row[3] for row in ours] == pytest.approx([row[3] for row in theirs], rel=1e-6)


def test_the_identity_of_the_stored_rows(filled: Con, rows: list[dict[str, Any]]) -> None:
    frame = with_repair(rows)
    parts = sum(frame[name].fill_null(0) for name in PARTS.values() if name != "self_repair")
    errors = frame.with_columns(error=(frame["self_repair"] - parts).abs())
    worst = errors.group_by("run_id", "ablation", "layer", "head").agg(pl.col("error").max())
    found = filled.execute(
        "SELECT run_id, ablation, layer, head, round(stored_identity_error * ?) FROM identity_errors "
        "WHERE run_id <> ? ORDER BY ALL",
        [STEPS, FAILED],
    ).fetchall()
    expected = {(run_id, ablation, layer, head): error for run_id, ablation, layer, head, error in worst.rows()}
    assert {tuple(key): error for *key, error in found} == expected


def test_ties_go_to_the_earlier_rows(con: Con, fill: Fill, one_row: OneRow) -> None:
    """200 equal effects, and the top is still the first 1, 2, 4 ... rows: seen by the prompts' repair."""
    rows = [
        one_row(prompt_id=prompt_id, pos=pos, direct_effect=1.0, repair_mlp=float(100 * prompt_id + pos))
        for prompt_id in (1, 0)
        for pos in range(100)
    ]
    fill(con, rows)
    found = con.execute(
        "SELECT with_first, top_percent, n_rows, fraction FROM repair_sensitivity WHERE part = 'mlp' AND level = 'head' "
        "AND average = 'ratio of means' AND NOT clipped ORDER BY ALL"
    ).fetchall()
    in_order = {
        True: np.arange(200.0),
        False: np.delete(np.arange(200.0), [0, 100]),
    }
    expected = [
        (with_first, tenths / 10, n, in_order[with_first][:n].mean())
        for with_first in (False, True)
        for tenths in reversed(TENTHS_OF_PERCENT)
        for n in [tenths * in_order[with_first].size // 1000 or 1]
    ]
    assert found == [pytest.approx(row) for row in expected]


def test_a_mean_of_unclipped_ratios_has_no_interval_where_their_divisors_near_zero(
    con: Con, fill: Fill, one_row: OneRow
) -> None:
    """Direct effects from 10 down to 0.1, each twice: only all rows reach down to 5 % of that at the 0.5 % cut."""
    rows = [
        one_row(prompt_id=prompt_id, pos=pos, direct_effect=10.0 - 0.1 * pos, repair_mlp=1.0 + prompt_id + pos % 3)
        for prompt_id in (0, 1)
        for pos in range(100)
    ]
    fill(con, rows)
    found = con.execute(
        "SELECT top_percent, average, clipped FROM repair_sensitivity WHERE with_first AND level = 'head' AND part = 'mlp' "
        "AND fraction_low IS NULL ORDER BY ALL"
    ).fetchall()
    assert found == [(100, "mean of ratios", False)]


def test_no_rows_no_answer(con: Con) -> None:
    for view in ("identity_errors", "fraction_choices", "repair_sensitivity"):
        assert con.execute(f"FROM {view}").fetchall() == []


def test_errors_are_of_all_rows_where_prompts_repeat_each_other(con: Con, fill: Fill, one_row: OneRow) -> None:
    """Of ten positions, prompts 3 to 11 have six of an earlier one's, and count with it: three clusters."""
    rng = np.random.default_rng(5)
    rows = [
        one_row(prompt_id=prompt_id, pos=pos, direct_effect=5.0, repair_mlp=round(float(rng.normal()), 4))
        for prompt_id in range(12)
        for pos in range(10)
    ]
    fill(con, rows, shared={prompt_id: (prompt_id % 3, 6) for prompt_id in range(3, 12)})
    ((low, high, n_clusters),) = con.execute(
        "SELECT fraction_low, fraction_high, n_clusters FROM repair_sensitivity WHERE level = 'head' AND part = 'mlp' "
        "AND with_first AND top_percent = 100 AND average = 'mean of ratios' AND NOT clipped"
    ).fetchall()
    by_cluster = np.array(
        [[row["repair_mlp"] / 5 for row in rows if row["prompt_id"] % 3 == cluster] for cluster in range(3)]
    )
    residuals = (by_cluster - by_cluster.mean()).sum(axis=1) / by_cluster.size
    error = np.sqrt(3 / 2 * (residuals**2).sum())
    assert n_clusters == 3
    # three residuals have two degrees of freedom; the longer side is Hall's
    t, skew = student_t.ppf(0.975, 2), (residuals**3).sum() / (residuals**2).sum() ** 1.5
    reaches = [side * 3 / skew * (np.cbrt(1 + skew * (side * t - skew / 6)) - 1) for side in (1, -1)]
    assert high - low == pytest.approx(sum(max(t, reach) for reach in reaches) * error, rel=1e-3)
