"""A run against the paper's own numbers: matched, correlated, judged; against scipy, and where nothing is to be said."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from scipy import stats

from support.published import FINAL

Fill = Callable[..., None]
OneRow = Callable[..., Mapping[str, Any]]
Con = duckdb.DuckDBPyConnection

RELEASED = {
    "direct_effect": 0.96,
    "logit_change": 0.89,
    "repair_layernorm": 0.89,
    "repair_attention": 0.79,
    "repair_mlp": 0.82,
}
"""Spearman correlations of the authors' two runs of pythia-160m, top 2 %."""

LATE = {"gpt2-small": 0.75, "gpt2-medium": 0.927, "pythia-160m": 0.792, "pythia-410m": 0.979}
LAYERNORM = {"gpt2-small": 0.318, "gpt2-medium": 0.296, "pythia-160m": 0.341, "pythia-410m": 0.251}
LOST = {"gpt2-small": 0.756, "gpt2-medium": 0.644, "pythia-160m": 1.111, "pythia-410m": 0.518}
"""What the paper's first claims come to in its own numbers."""


def test_the_authors_agree_with_themselves_as_far_as_they_do(filed: Con) -> None:
    found = filed.execute("SELECT quantity, spearman FROM published_agreement WHERE population = 'top2'").fetchall()
    assert {name: round(value, 2) for name, value in found if name in RELEASED} == RELEASED


def test_the_authors_numbers_agree_as_scipy_says(filed: Con) -> None:
    heads = filed.sql(
        """
        SELECT population, quantity, published_run, layer, head, published_value FROM published_quantities
        WHERE published_model = 'pythia-160m' ORDER BY layer, head
        """
    ).pl()
    found = filed.sql("FROM published_agreement").pl()
    assert found.height == 7 * 2
    for row in found.to_dicts():
        of_quantity = heads.filter(population=row["population"], quantity=row["quantity"])
        a, b = (
            of_quantity.filter(published_run=row[run])["published_value"].to_numpy()
            for run in ("published_run_a", "published_run_b")
        )
        assert row["n_heads"] == len(a) == len(b) == 144
        assert row["spearman"] == pytest.approx(stats.spearmanr(a, b).statistic)
        assert row["pearson"] == pytest.approx(stats.pearsonr(a, b).statistic)
        assert row["slope"] == pytest.approx(stats.linregress(a, b).slope)
        assert row["mean_absolute_difference"] == pytest.approx(abs(a - b).mean())


def test_every_head_stands_beside_its_published_numbers(filed: Con) -> None:
    found = filed.execute(
        f"SELECT layer, head, measured_value, measured_value_se, published_value, difference FROM reproduction "
        f"WHERE run_id = {FINAL} AND quantity = 'self_repair' AND published_run = 'default' ORDER BY layer, head"
    ).fetchall()
    measured = filed.execute(
        f"SELECT layer, head, mean_self_repair, mean_self_repair_se FROM head_repair WHERE run_id = {FINAL} "
        "AND ablation = 'resample' AND population = 'top2' ORDER BY layer, head"
    ).fetchall()
    published = filed.execute(
        "SELECT layer, head, logit_change - ablated_direct_effect + direct_effect FROM published_head_repair "
        "WHERE published_model = 'pythia-160m' AND published_run = 'default' ORDER BY layer, head"
    ).fetchall()
    assert [row[:4] for row in found] == measured
    assert len(found) == 144
    for row, (*place, value) in zip(found, published, strict=True):
        assert list(row[:2]) == place
        assert row[4] == pytest.approx(value, abs=1e-6)
        assert row[5] == row[2] - row[4]


def test_every_quantity_is_its_own_column(filed: Con) -> None:
    """Each is compared with the column of its name, not with its neighbour."""
    for quantity, measured, published in filed.execute(
        f"""
        SELECT quantity, measured_value, published_value FROM reproduction
        WHERE run_id = {FINAL} AND layer = 3 AND head = 2 AND published_run = 'default'
        """
    ).fetchall():
        column = quantity if quantity.startswith("clipped") else f"mean_{quantity}"
        ((expected,),) = filed.execute(
            f"SELECT {column} FROM head_repair WHERE run_id = {FINAL} AND ablation = 'resample' AND population = 'top2' "
            "AND layer = 3 AND head = 2"
        ).fetchall()
        assert measured == expected, quantity
        if quantity != "self_repair":
            ((expected,),) = filed.execute(
                f"SELECT {quantity} FROM published_head_repair WHERE published_model = 'pythia-160m' AND layer = 3 AND "
                "head = 2 AND published_run = 'default'"
            ).fetchall()
            assert published == expected, quantity


def test_each_published_run_and_population_has_its_rows(filed: Con) -> None:
    counted = filed.execute(
        f"SELECT population, published_run, count(*), count(DISTINCT quantity) FROM reproduction WHERE run_id = {FINAL} "
        "GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    assert counted == [
        ("all", "1.0_", 144 * 7, 7),
        ("all", "1_", 144 * 7, 7),
        ("top2", "default", 144 * 10, 10),
        ("top2", "git-b54f6f5", 144 * 7, 7),
    ]


def test_runs_agree_with_the_paper_as_scipy_says(filed: Con) -> None:
    heads = filed.sql("FROM reproduction ORDER BY layer, head").pl()
    found = filed.sql("FROM reproduction_agreement").pl()
    assert found.height == 7 + 7 + 10 + 7
    for row in found.to_dicts():
        key = ("run_id", "population", "published_run", "quantity")
        of_key = heads.filter(**{name: row[name] for name in key})
        x, y = (of_key[name].to_numpy() for name in ("published_value", "measured_value"))
        assert row["n_heads"] == len(x) == 144
        spearman = stats.spearmanr(x, y).statistic
        assert row["spearman"] == pytest.approx(spearman)
        assert row["pearson"] == pytest.approx(stats.pearsonr(x, y).statistic)
        assert row["slope"] == pytest.approx(stats.linregress(x, y).slope)
        assert row["mean_absolute_difference"] == pytest.approx(abs(x - y).mean())
        middle, half_width = np.arctanh(spearman), 1.96 * np.sqrt((1 + spearman**2 / 2) / (len(x) - 3))
        assert row["spearman_low"] == pytest.approx(np.tanh(middle - half_width))
        assert row["spearman_high"] == pytest.approx(np.tanh(middle + half_width))
        if row["authors_spearman"] is None:
            assert row["verdict"] is None
        else:
            floor = row["authors_spearman"] - 0.15
            unsure = "not enough data" if row["spearman_high"] - row["spearman_low"] > 0.3 else "unclear"
            wanted = "agrees" if row["spearman_low"] >= floor else "differs" if row["spearman_high"] < floor else unsure
            assert row["verdict"] == wanted
    assert set(found["verdict"]) >= {"agrees", "differs", None}
    (authors,) = filed.execute(
        "SELECT spearman, pearson, mean_absolute_difference FROM published_agreement "
        "WHERE population = 'top2' AND quantity = 'repair_mlp'"
    ).fetchall()
    columns = ("authors_spearman", "authors_pearson", "authors_mean_absolute_difference")
    beside = found.filter(run_id=FINAL, population="top2", quantity="repair_mlp").select(columns).rows()
    assert beside == [pytest.approx(authors)] * 2


@pytest.mark.parametrize("model", LATE)
def test_published_claims_are_worked_out_from_the_papers_heads(changed: Con, model: str) -> None:
    """The run plays each of the published models by name and shape; what is published does not hang on what was measured."""
    ((hub_name, n_layers, n_heads),) = changed.execute(
        "SELECT hub_name, max(layer) + 1, max(head) + 1 FROM published_head_repair WHERE published_model = ? GROUP BY ALL",
        [model],
    ).fetchall()
    changed.execute(
        "UPDATE models SET name = ?, n_layers = ?, n_heads = ? "
        f"WHERE model_id = (SELECT model_id FROM runs WHERE run_id = {FINAL})",
        [f"Owner/{hub_name.upper()}", n_layers, n_heads],
    )
    published = dict(
        changed.execute(
            f"SELECT claim, published_value FROM reproduction_claims WHERE run_id = {FINAL} AND published_value IS NOT NULL"
        ).fetchall()
    )
    expected = {"layernorm_fraction": LAYERNORM[model], "imperfect_repair": LOST[model]} | (
        {"late_heads_repaired": LATE[model]} if "late_heads_repaired" in published else {}
    )
    assert published == pytest.approx(expected, abs=5e-4)
    assert ("late_heads_repaired" in published) == (n_layers == 12)  # 12 measured layers are not the later half of 24


def test_claims_are_what_their_views_say(filed: Con) -> None:
    rows = filed.sql(f"FROM reproduction_claims WHERE run_id = {FINAL}").pl().to_dicts()
    found = {row["claim"]: (row["value"], row["low"], row["high"]) for row in rows}
    resample = f"run_id = {FINAL} AND ablation = 'resample'"
    heads = filed.sql(f"FROM head_repair WHERE {resample} AND population = 'top2' ORDER BY layer, head").pl()
    (model,) = filed.sql(f"FROM model_repair WHERE {resample} AND population = 'top2'").pl().to_dicts()
    t = float(stats.t.ppf(0.975, model["n_clusters"] - 1))

    late = heads.filter(pl.col("layer") >= 6)
    repaired, least, most = ((late[f"mean_self_repair{end}"] > 0).sum() for end in ("", "_low", "_high"))
    assert found["late_heads_repaired"] == near(repaired / 72, wilson(least, 72)[0], wilson(most, 72)[1])
    assert least < repaired < most

    name = "clipped_layernorm_fraction"
    half = t * np.hypot(stats.sem(heads[name]), model[f"{name}_se"])
    assert found["layernorm_fraction"] == near(model[name], model[name] - half, model[name] + half)

    lost = 1 - model["total_fraction_of_effect"]
    repair, effect = heads["mean_self_repair"].to_numpy(), heads["mean_direct_effect"].to_numpy()
    of_heads = np.sqrt(144 / 143 * np.sum((repair - (1 - lost) * effect) ** 2)) / effect.sum()
    half = t * np.hypot(of_heads, model["total_fraction_of_effect_se"])
    assert found["imperfect_repair"] == near(lost, lost - half, lost + half)

    above = filed.sql(
        f"SELECT share_above_1 FROM layernorm_ratio WHERE {resample} AND population = 'top2' AND level = 'head'"
    ).pl()["share_above_1"]  # fmt: skip
    half = t * stats.sem(above)
    assert found["norm_shrinks"] == near(above.mean(), above.mean() - half, above.mean() + half)  # type: ignore[operator]

    ratio = model["mean_ln_scale_ratio"]
    half = t * np.hypot(stats.sem(heads["mean_ln_scale_ratio"]), model["mean_ln_scale_ratio_se"])
    assert found["norm_ratio"] == near(ratio, ratio - half, ratio + half)

    tails = filed.sql(f"FROM head_tail WHERE {resample} AND measure = 'direct_effect'").pl()
    heavy = (tails["excess_kurtosis"] > 6).sum()
    assert found["heavy_tails"] == near(heavy / 144, *wilson(heavy, 144))

    noise = filed.sql(f"FROM head_noise WHERE {resample} ORDER BY layer, head").pl()["self_repair_sd_within"]
    every = filed.sql(f"FROM head_repair WHERE {resample} AND population = 'all' ORDER BY layer, head").pl()
    size = every["mean_self_repair"].abs()
    noisy = ((size >= t * every["mean_self_repair_se"]) & (size <= noise)).sum()
    assert found["noisy_repair"] == near(noisy / 144, *wilson(noisy, 144))
    assert len(found) == 7


def near(*values: float) -> Any:
    return tuple(pytest.approx(value, rel=1e-5) for value in values)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    interval = stats.binomtest(hits, n).proportion_ci(method="wilson")
    return interval.low, interval.high


def test_verdicts_follow_their_one_rule(filed: Con) -> None:
    rows = filed.sql(f"FROM reproduction_claims WHERE run_id = {FINAL}").pl().to_dicts()
    for row in rows:
        low, high, margin, published = (row[name] for name in ("low", "high", "margin", "published_value"))
        floor = row["expected_above"] + margin if published is None else published - margin
        ceiling = math.inf if published is None else published + margin
        if low > ceiling or high < floor:
            wanted = "differs"
        elif low < floor or high > ceiling:
            wanted = "not enough data" if high - low > (margin if published is None else 2 * margin) else "unclear"
        else:
            none = row["without_structure"]
            wanted = "unclear" if none is not None and low <= none <= high else "agrees"
        assert row["verdict"] == wanted, row
        assert (row["reason"] is None) == (wanted == "agrees")
    assert {"agrees", "differs"} <= {row["verdict"] for row in rows}


def test_how_well_a_text_is_predicted_is_the_mean_over_its_rows(filed: Con) -> None:
    found = dict(filed.execute("SELECT run_id, mean_logprob FROM text_logprobs").fetchall())
    wanted = dict(filed.execute("SELECT run_id, avg(clean_logprob) FROM tokens GROUP BY run_id").fetchall())
    assert found == pytest.approx(wanted)


def test_an_empty_warehouse_has_the_authors_agreement_alone(con: Con) -> None:
    for view in ("reproduction", "reproduction_agreement", "reproduction_claims", "self_repression_reproduction"):
        assert con.execute(f"FROM {view}").fetchall() == []
    assert con.execute("SELECT count(*) FROM published_agreement").fetchall() == [(14,)]


def test_slopes_of_feedback_meet_the_published_ones(con: Con, fill: Fill, one_row: OneRow) -> None:
    """L11H8 of gpt2-small, once with its own output added: x = -1, 1 and y = -0.5, 0.5 in two prompts alike."""
    fill(con, [one_row(prompt_id=prompt) for prompt in (0, 1)])
    con.execute("UPDATE models SET name = 'gpt2', n_layers = 12, n_heads = 12")
    for head, multiple, added_vector in ((8, 1, "own"), (8, 4, "own"), (9, 1, "own"), (8, 5, "random")):
        for prompt_id in (0, 1):
            con.execute(
                "INSERT INTO self_repression_sums VALUES (1, ?, 11, ?, ?, ?, 2, 0, 2, 0, 1, 0.5, NULL, NULL, NULL)",
                [prompt_id, head, added_vector, multiple],
            )
    found = con.execute(
        """
        SELECT run_id, label, multiple, added_vector, receiver, slope, slope_low, n_rows, difference + published_slope,
            same_side
        FROM self_repression_reproduction WHERE generation = 'old' ORDER BY ALL
        """
    ).fetchall()
    half = pytest.approx(0.5)
    assert found == [
        (1, "L11H8", 1, "own", "top_head", half, half, 4, half, True),
        (1, "L11H8", 5, "random", "top_head", half, half, 4, half, True),
    ]
    published = con.execute(
        "SELECT published_slope, n_published_rows FROM self_repression_reproduction WHERE generation = 'old' ORDER BY multiple"
    ).fetchall()
    assert published == [(0.330606, 870), (0.028325, 870)]
