"""Intervals of how ablations agree: a jackknife by document, of rows that polars leaves out."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from scipy import stats

Con = duckdb.DuckDBPyConnection
Fill = Callable[[Con, list[dict[str, Any]]], None]
OneRow = Callable[..., dict[str, Any]]

N_HEADS, N_PROMPTS = 5, 9


@pytest.fixture
def rows(one_row: OneRow) -> pl.DataFrame:
    rng = np.random.default_rng(7)
    found = []
    for head in range(N_HEADS):
        for ablation in ("mean", "zero"):
            change = rng.normal(head, 0.3, N_PROMPTS) + (ablation == "zero") * rng.normal(0.2, 0.5, N_PROMPTS)
            found += [
                one_row(head=head, ablation=ablation, prompt_id=prompt, direct_effect=2.0, logit_change=round(value, 4))
                for prompt, value in enumerate(change)
            ]
    return pl.DataFrame(found)


def numbers(rows: pl.DataFrame) -> np.ndarray:
    """Fisher's z of both correlations, mean and mean absolute difference of the heads' mean logit_change."""
    means = rows.group_by("head", "ablation").agg(pl.col("logit_change").mean()).sort("head")
    a, b = (means.filter(ablation=name)["logit_change"].to_numpy() for name in ("mean", "zero"))
    return np.array(
        [
            *np.arctanh([stats.pearsonr(a, b).statistic, stats.spearmanr(a, b).statistic * (1 - 1e-15)]),
            np.mean(a - b),
            np.mean(abs(a - b)),
        ]
    )


def test_intervals_are_those_of_a_jackknife_by_document(con: Con, fill: Fill, rows: pl.DataFrame) -> None:
    fill(con, rows.to_dicts())
    without = np.array([numbers(rows.filter(pl.col("prompt_id") != prompt)) for prompt in range(N_PROMPTS)])
    half = stats.t.ppf(0.975, N_PROMPTS - 1) * np.sqrt((N_PROMPTS - 1) * without.var(axis=0))
    whole = numbers(rows)
    (found,) = (
        con.sql("FROM ablation_agreement WHERE population = 'all' AND measure = 'mean_logit_change'").pl().to_dicts()
    )
    assert found["n_clusters"] == N_PROMPTS
    for number, name in ((0, "pearson"), (2, "mean_difference"), (3, "mean_absolute_difference")):
        low, high = whole[number] - half[number], whole[number] + half[number]
        if name == "pearson":
            low, high = np.tanh([low, high])
        if name == "mean_absolute_difference":
            low = max(0, low)
        assert (found[f"{name}_low"], found[f"{name}_high"]) == pytest.approx((low, high), rel=1e-5), name
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"]


def test_one_document_has_no_interval(con: Con, fill: Fill, rows: pl.DataFrame) -> None:
    fill(con, rows.filter(prompt_id=0).to_dicts())
    found = con.sql(
        "SELECT COLUMNS('_low$|_high$') FROM ablation_agreement WHERE measure = 'mean_self_repair'"
    ).fetchall()
    assert found
    assert {value for row in found for value in row} == {None}


def test_the_widest_range_has_the_interval_of_its_paired_difference(con: Con, fill: Fill, rows: pl.DataFrame) -> None:
    from selfrepair.queries.catalog.questions import bind

    fill(con, rows.to_dicts())
    sql, values = bind("ablations_that_disagree", {"run_id": 1, "population": "all"})
    found = con.sql(sql, params=dict(values)).pl()
    by_head = rows.pivot("ablation", index=["head", "prompt_id"], values="logit_change")
    for head, one in by_head.group_by("head"):
        difference = (one["zero"] - one["mean"]).to_numpy()
        half = stats.t.ppf(1 - 0.025 / N_HEADS, N_PROMPTS - 1) * stats.sem(difference)
        (mine,) = found.filter(head=head[0]).to_dicts()
        width = abs(difference.mean())
        assert mine["self_repair_range"] == pytest.approx(width, rel=1e-5)
        wanted = max(0, width - half), width + half
        assert (mine["self_repair_range_low"], mine["self_repair_range_high"]) == pytest.approx(wanted, rel=0.02)
    assert set(found["n_clusters"]) == {N_PROMPTS}
    assert len(list(combinations(set(rows["ablation"]), 2))) == 1  # pairs that the intervals hold for, in each head
