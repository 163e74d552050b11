"""Other measures of an ablation, and heads that grow once others are gone, against scipy and head_repair."""

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from scipy import stats

from support.empty import with_views
from support.mechanisms import mechanism_runs
from support.random_runs import ABLATIONS, FAILED, STEPS, random_runs, with_repair

Fill = Callable[..., None]
OneRow = Callable[..., Mapping[str, Any]]
Con = duckdb.DuckDBPyConnection

GIVEN, LATEST_BASE = 1, 9
CELL = ["run_id", "ablation", "layer", "head"]


@pytest.fixture(scope="module")
def measured() -> tuple[list[dict[str, Any]], pl.DataFrame]:
    """`mechanism_runs`, and run 6 of 40 heads whose means are few different ones, also by log-probability."""
    rows, made = mechanism_runs(seed=51)
    rng = np.random.default_rng(5)
    many = [
        {
            **{"run_id": 6, "ablation": "mean", "prompt_id": 0, "pos": pos, "layer": number % 4, "head": number // 4},
            **dict.fromkeys(("direct_effect", "ablated_direct_effect", "ln_scale_ratio"), 0.5),
            **dict.fromkeys(("repair_layernorm", "repair_attention", "repair_mlp"), 0.25),
            "logit_change": int(rng.integers(-3, 4)) / 2 * (1 + pos),
        }
        for number in range(40)
        for pos in (0, 1)
    ]
    more = pl.DataFrame(
        {
            **{name: row[name] for name in ("run_id", "ablation", "prompt_id", "pos", "layer", "head")},
            "logprob_change": row["logit_change"] / 2 + int(rng.integers(-1, 2)) / 4,
            "kl": abs(row["logit_change"]) / 4 + int(rng.integers(0, 3)) / 8,
        }
        for row in many
    )
    changes = pl.concat([made.tables["logprob_changes"], more], how="diagonal_relaxed")
    return rows + many, changes


@pytest.fixture(scope="module")
def filled(measured: tuple[list[dict[str, Any]], pl.DataFrame], fill: Fill) -> Iterator[Con]:
    rows, changes = measured
    with with_views() as con:
        fill(con, rows, status={FAILED: "failed"})
        con.register("new_rows", changes)
        con.execute("INSERT INTO logprob_changes BY NAME FROM new_rows")
        con.execute("CREATE TABLE head_means AS FROM head_repair")
        con.execute("CREATE OR REPLACE VIEW head_repair AS FROM head_means")
        yield con


@pytest.fixture(scope="module")
def means(measured: tuple[list[dict[str, Any]], pl.DataFrame]) -> pl.DataFrame:
    rows, changes = measured
    logits = with_repair(rows).group_by(CELL).agg(pl.len(), pl.col("logit_change").mean() / STEPS)
    others = changes.group_by(CELL).agg(pl.col("logprob_change", "kl").sum().round(4) / pl.len())
    return logits.join(others, on=CELL).sort("run_id", "layer", "head")


def places(values: pl.Series) -> list[int]:
    """1 for the largest size; equal ones in the order in which they come."""
    order = np.argsort(-np.round(abs(values.to_numpy()), 9), kind="stable")
    return (np.argsort(order) + 1).tolist()


def test_each_head_by_three_measures(filled: Con, means: pl.DataFrame) -> None:
    found = filled.sql("FROM head_measures").pl().with_columns(pl.col("ablation").cast(pl.String))
    assert found.height == means.height
    assert set(found["run_id"]) == {1, 3, 6}
    for (run_id, ablation), heads in means.group_by("run_id", "ablation"):
        mine = found.filter(run_id=run_id, ablation=ablation).sort("layer", "head")
        assert mine["n_rows"].to_list() == heads["len"].to_list()
        for name, rank in (
            ("logit_change", "logit_size_rank"),
            ("logprob_change", "logprob_size_rank"),
            ("kl", "kl_rank"),
        ):
            assert mine[f"mean_{name}"].to_list() == pytest.approx(heads[name].to_list(), rel=1e-6, abs=1e-9)
            assert mine[rank].to_list() == places(heads[name]), (run_id, ablation, name)


def test_measures_agree_as_scipy_says(filled: Con, means: pl.DataFrame) -> None:
    expected = {}
    for (run_id, ablation), heads in means.group_by("run_id", "ablation"):
        for a, b in combinations(("logit_change", "logprob_change", "kl"), 2):
            one, other = (np.round(abs(heads[name].to_numpy()), 9) for name in (a, b))
            first = [set(np.flatnonzero(np.array(places(heads[name])) <= 10)) for name in (a, b)]
            spearman = stats.spearmanr(one, other).statistic if np.ptp(one) and np.ptp(other) else None
            expected[run_id, ablation, a, b] = (
                len(one),
                None if spearman is None else pytest.approx(spearman, abs=1e-9),
                len(first[0] & first[1]) / min(10, len(one)),
            )
    rows = filled.execute("SELECT * EXCLUDE (model) FROM measure_agreement").fetchall()
    assert {row[:4]: row[4:] for row in rows} == expected
    assert len(rows) == len(expected)
    (overlap,) = {row[6] for row in rows if row[0] == 6 and row[2:4] == ("logit_change", "kl")}
    assert 0 < overlap < 1


OTHERS = {10: "incomplete", 11: "complete", 12: "complete", 7: "failed"}
"""Newer runs without given heads that are no base: still loading, of fewer heads, in another precision, failed."""


@pytest.fixture(scope="module")
def co_ablated_rows() -> list[dict[str, Any]]:
    """Run 1 has given heads; runs 2, 8 and 9 have the same weights and none, run 3 has other prompts."""
    made = []
    for run_id in (GIVEN, 2, 8, LATEST_BASE, 3, *OTHERS):
        rows = [row for row in random_runs(60 + run_id) if row["run_id"] == 1]
        made += [{**row, "run_id": run_id} for row in rows if row["ablation"] == ("zero" if run_id == 8 else "mean")]
    return made


@pytest.fixture(scope="module")
def co_ablated(co_ablated_rows: list[dict[str, Any]], fill: Fill) -> Iterator[Con]:
    with with_views() as con:
        fill(con, co_ablated_rows, status=OTHERS)
        con.execute("UPDATE runs SET ablations = [CASE run_id WHEN 8 THEN 'zero' ELSE 'mean' END]")
        con.execute("UPDATE runs SET selected_heads = ['L0H0', 'L0H1', 'L2H1', 'L3H0', 'L3H1'] WHERE run_id <> 11")
        con.execute("UPDATE runs SET dtype = 'bfloat16' WHERE run_id = 12")
        con.execute("UPDATE runs SET given_heads = ['L0H1', 'L2H0'] WHERE run_id = ?", [GIVEN])
        con.execute("UPDATE runs SET dataset_id = 2 WHERE run_id = 3")
        for view in ("head_repair", "cluster_residuals"):
            con.execute(f"CREATE TABLE kept_{view} AS FROM {view}")
            con.execute(f"CREATE OR REPLACE VIEW {view} AS FROM kept_{view}")
        yield con


def residuals(rows: pl.DataFrame, name: str, population: str) -> np.ndarray:
    """What each prompt adds to the error of a head's mean, one row at a time; rows are of one head."""
    used = rows.filter((pl.col("pos") > 0) | (population != "top2_nobos"))
    used = used.sort(-pl.col("direct_effect"), "prompt_id", "pos")
    n = used.height
    before, k, after = (max(1, percent * n // 1000) for percent in (14, 20, 26))
    values, effects = used[name].to_numpy() / STEPS, used["direct_effect"].to_numpy() / STEPS
    prompts = used["prompt_id"].to_numpy()
    if population == "all":
        k, at_cut = n, 0.0
    else:
        near = slice(before, after) if after > before else slice(0, k)
        at_cut = effects[k - 1] if name == "direct_effect" else values[near].mean()
    is_top = np.arange(n) < k
    found = []
    for prompt in range(4):
        mine = prompts == prompt
        excess = (mine & is_top).sum() - k / n * mine.sum()
        found.append((values[mine & is_top].sum() - at_cut * excess - values[:k].mean() * k / n * mine.sum()) / k)
    return np.array(found)


def test_heads_grow_when_others_are_gone(co_ablated: Con, co_ablated_rows: list[dict[str, Any]]) -> None:
    found = co_ablated.sql("FROM co_ablation").pl()
    heads = co_ablated.sql("FROM head_repair").pl().filter(pl.col("label") != "L0H1")
    given, base = (heads.filter(run_id=run_id).sort("population", "layer", "head") for run_id in (GIVEN, LATEST_BASE))
    assert (found["run_id"].unique().to_list(), found["base_run_id"].unique().to_list()) == ([GIVEN], [LATEST_BASE])
    assert found["given_heads"].to_list() == [["L0H1", "L2H0"]] * found.height
    mine = found.sort("population", "layer", "head")
    assert mine.select("population", "label", "n_rows").equals(given.select("population", "label", "n_rows"))
    for name in ("mean_direct_effect", "mean_logit_change"):
        assert mine[name].equals(given[name])
        assert mine[f"base_{name}"].equals(base[name], check_names=False)
    growth = given["mean_direct_effect"] - base["mean_direct_effect"]
    assert mine["direct_effect_growth"].to_list() == pytest.approx(growth.to_list())
    size = given["mean_logit_change"].abs() - base["mean_logit_change"].abs()
    assert mine["logit_change_growth"].to_list() == pytest.approx(size.to_list())
    for _, of_population in found.group_by("population"):
        assert of_population["growth_rank"].to_list() == [1, 2, 3, 4]
        assert of_population["direct_effect_growth"].is_sorted(descending=True)

    by_head = dict(with_repair(co_ablated_rows).group_by("run_id", "layer", "head"))
    for row in mine.to_dicts():
        of_runs = [by_head[run_id, row["layer"], row["head"]] for run_id in (GIVEN, LATEST_BASE)]
        sides = np.sign([row["mean_logit_change"], row["base_mean_logit_change"]])
        for name, (one, other) in (("direct_effect", (1, 1)), ("logit_change", sides)):
            pulls, base_pulls = (residuals(rows, name, row["population"]) for rows in of_runs)
            error = np.sqrt(4 / 3 * np.sum((one * pulls - other * base_pulls) ** 2))
            assert row[f"{name}_growth_se"] == pytest.approx(error, rel=1e-4, abs=1e-7), row
        half = row["direct_effect_growth_se"] * stats.t.isf(0.025 / 4, 3)
        assert row["direct_effect_growth_low"] == pytest.approx(
            row["direct_effect_growth"] - half, rel=0.1, abs=half / 9
        )
        assert (row["n_clusters"], row["n_tested"], row["verdict"]) == (4, 4, "not enough data")


def test_a_head_that_grows_on_every_prompt_is_told_from_one_that_does_not(
    con: Con, fill: Fill, one_row: OneRow
) -> None:
    """L0H0 grows by 1 on each of 20 prompts that differ by far more than that, L1H0 and L2H0 by 0 on average, L3H0 by less
    than a tenth of what it writes.
    """
    effects = {0: lambda n: 1 + 5 * n, 1: lambda n: 5 * n + (-1) ** n, 2: lambda n: 5 * n, 3: lambda n: 0.2 + 5 * n}
    rows = [
        one_row(
            run_id=run_id,
            prompt_id=n,
            layer=layer,
            head=0,
            direct_effect=effects[layer](n) if run_id == GIVEN else 5.0 * n,
            logit_change=0.0,
        )
        for run_id in (GIVEN, 2)
        for layer in effects
        for n in range(-10, 10)
    ]
    fill(con, rows)
    con.execute(f"UPDATE runs SET given_heads = ['L9H0'] WHERE run_id = {GIVEN}")
    found = con.execute(
        "SELECT layer, verdict, direct_effect_growth_se FROM co_ablation WHERE population = 'all'"
    ).fetchall()
    assert sorted(found) == [
        (0, "grows", 0),
        (1, "unclear", pytest.approx(1 / np.sqrt(19))),
        (2, "steady", 0),
        (3, "steady", 0),
    ]


@pytest.mark.parametrize("freedom", [11, 20, 40, 300])
def test_intervals_of_many_heads_are_students(con: Con, freedom: int) -> None:
    for n in (1, 4, 144, 20_000):
        ((found,),) = con.execute("SELECT t_of_many(?, ?)", [freedom, n]).fetchall()
        assert found == pytest.approx(stats.t.isf(0.025 / n, freedom), rel=0.01)
        assert found > stats.t.isf(0.0251 / n, freedom)


def test_a_given_run_alone_has_nothing_to_be_compared_with(con: Con, fill: Fill, one_row: OneRow) -> None:
    fill(con, [one_row(run_id=run_id) for run_id in (1, 2)])
    con.execute("UPDATE runs SET given_heads = ['L0H0'] WHERE run_id = 1")
    assert con.execute("SELECT DISTINCT run_id, base_run_id FROM co_ablation").fetchall() == [(1, 2)]
    con.execute("UPDATE models SET weights_sha256 = 'others' WHERE model_id = 12")
    assert con.execute("FROM co_ablation").fetchall() == []


def test_no_rows_no_answer(con: Con, fill: Fill, one_row: OneRow) -> None:
    for view in ("head_measures", "measure_agreement", "co_ablation"):
        assert con.execute(f"FROM {view}").fetchall() == []
    fill(con, [one_row(ablation=ablation) for ablation in ABLATIONS])
    for view in ("head_measures", "measure_agreement", "co_ablation"):
        assert con.execute(f"FROM {view}").fetchall() == []
