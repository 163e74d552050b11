"""The noise of self-repair against numpy and scipy over single rows."""

from collections.abc import Callable, Mapping
from typing import Any

import duckdb
import numpy as np
import pytest
from scipy.stats import linregress

from support.effects import STEPS, Drawn, Group, Row, grouped, quantile, self_repair, stored

Fill = Callable[..., None]
OneRow = Callable[..., Mapping[str, Any]]

GRAIN = ("run_id", "ablation", "layer", "head")
PERCENTS = (5, 25, 50, 75, 95)
DRAWN = {
    "ties": [Drawn(spread=3, n_prompts=9), Drawn(run_id=2, heads=[(1, 0)], n_prompts=2, n_positions=7)],
    "many values": [Drawn(spread=5000, heads=[(0, 0), (2, 1)], n_prompts=12, n_positions=40)],
    "one prompt": [Drawn(heads=[(2, 1)], n_prompts=1, n_positions=9)],
    "one row a prompt": [Drawn(heads=[(2, 1)], n_prompts=8, n_positions=1)],
    "one row": [Drawn(heads=[(2, 1)], n_prompts=1, n_positions=1)],
    "all zero": [Drawn(spread=0, n_positions=5)],
}


def found_noise(con: duckdb.DuckDBPyConnection) -> dict[Group, dict[str, Any]]:
    rows = con.sql("FROM head_noise").pl().to_dicts()
    found = {tuple(row[name] for name in GRAIN): row for row in rows}
    assert len(found) == len(rows)
    return found


def spread(rows: list[Row], value_of: Callable[[Row], int]) -> tuple[float | None, float | None]:
    """Standard deviation within prompts, pooled, and of the prompts' means [logits]."""
    prompts = [np.array([value_of(row) for row in group]) / STEPS for group in grouped(rows, "prompt_id").values()]
    freedom = len(rows) - len(prompts)
    squares = sum(float(((prompt - prompt.mean()) ** 2).sum()) for prompt in prompts)
    means = [prompt.mean() for prompt in prompts]
    between = float(np.std(means, ddof=1)) if len(prompts) > 1 else None
    return (squares / freedom) ** 0.5 if freedom else None, between


def near(value: float | None) -> Any:
    return None if value is None else pytest.approx(value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("case", DRAWN)
def test_noise_equals_the_reference(con: duckdb.DuckDBPyConnection, fill: Fill, case: str) -> None:
    rows = [row for seed, drawn in enumerate(DRAWN[case]) for row in drawn.rows(seed)]
    fill(con, stored(rows))
    found, expected = found_noise(con), grouped(rows, *GRAIN)
    assert found.keys() == expected.keys()
    for group, members in expected.items():
        row = found[group]
        assert (row["n_rows"], row["n_prompts"]) == (len(members), len(grouped(members, "prompt_id")))
        measures: dict[str, Callable[[Row], int]] = {
            "self_repair": self_repair,
            "logit_change": lambda r: r["logit_change"],
        }
        for measure, value_of in measures.items():
            within, between = spread(members, value_of)
            assert row[f"{measure}_sd_within"] == near(within), (group, measure)
            assert row[f"{measure}_sd_between"] == near(between), (group, measure)
        assert_line(row, members)
        defined = [r for r in members if r["direct_effect"]]
        ratios = [np.float32(self_repair(r) / STEPS) / np.float32(r["direct_effect"] / STEPS) for r in defined]
        for percent in PERCENTS:
            assert row[f"self_repair_quantile_{percent}"] == quantile(map(self_repair, members), percent) / STEPS
            ratio = quantile(ratios, percent) if ratios else None
            assert row[f"repair_ratio_quantile_{percent}"] == ratio, (group, percent)
        assert row["undefined_ratios"] == len(members) - len(defined)
        overrepaired = sum(self_repair(r) > r["direct_effect"] for r in members)
        assert row["overrepaired_share"] == pytest.approx(overrepaired / len(members), rel=1e-12)


def assert_line(row: Mapping[str, Any], members: list[Row]) -> None:
    effects = np.array([r["direct_effect"] for r in members]) / STEPS
    changes = np.array([r["logit_change"] for r in members]) / STEPS
    if effects.min() == effects.max():
        assert (row["slope"], row["intercept"], row["correlation"]) == (None, None, None)
        return
    # the covariance is of numbers as they are stored, with 24 bits
    line = linregress(effects, changes)
    scale = float(np.abs(changes).max())
    assert row["slope"] == pytest.approx(line.slope, rel=1e-6, abs=1e-6 * scale / float(effects.std()))
    assert row["intercept"] == pytest.approx(line.intercept, rel=1e-6, abs=1e-6 * scale)
    assert row["correlation"] == (None if changes.min() == changes.max() else pytest.approx(line.rvalue, abs=1e-6))


def test_by_hand(con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow) -> None:
    """Two prompts; self-repair 1 and -1 in one, 8 and 9 in the other; logit_change = 2 - direct_effect throughout."""
    effects = {(0, 1): (5.0, 1.0), (0, 2): (4.0, 3.0), (1, 1): (-1.0, -6.0), (1, 2): (2.0, -7.0)}
    fill(
        con,
        [
            one_row(
                prompt_id=prompt_id,
                pos=pos,
                direct_effect=direct_effect,
                ablated_direct_effect=ablated,
                logit_change=2 - direct_effect,
            )
            for (prompt_id, pos), (direct_effect, ablated) in effects.items()
        ],
    )
    (row,) = found_noise(con).values()
    assert (row["model"], row["label"], row["n_prompts"], row["n_rows"]) == ("model-1", "L2H1", 2, 4)
    # self-repair is 2 - ablated_direct_effect: 1 and -1 with mean 0, 8 and 9 with mean 8.5
    assert row["self_repair_sd_within"] == pytest.approx((2.5 / 2) ** 0.5)
    assert row["self_repair_sd_between"] == pytest.approx(8.5 / 2**0.5)
    assert (row["self_repair_quantile_5"], row["self_repair_quantile_50"]) == (-1.0, 1.0)
    assert (row["slope"], row["intercept"], row["correlation"]) == (-1.0, 2.0, -1.0)
    # 1 / 5, -1 / 4, 8 / -1 and 9 / 2
    assert (row["repair_ratio_quantile_5"], row["repair_ratio_quantile_50"]) == (-8.0, -0.25)
    assert row["overrepaired_share"] == 0.5  # 8 > -1 and 9 > 2


@pytest.mark.parametrize("steps", [1237, 1111, 3333, 7001])
def test_rows_alike_within_prompts_have_no_noise_there(
    con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow, steps: int
) -> None:
    places = [(prompt_id, pos) for prompt_id in range(7) for pos in range(9)]
    fill(
        con,
        [one_row(prompt_id=prompt_id, pos=pos, logit_change=prompt_id * steps / STEPS) for prompt_id, pos in places],
    )
    (row,) = found_noise(con).values()
    assert (row["logit_change_sd_within"], row["self_repair_sd_within"]) == (0.0, 0.0)
    assert row["logit_change_sd_between"] == pytest.approx(steps / STEPS * (28 / 6) ** 0.5)


def test_a_perfect_line_has_no_correlation_beyond_one(
    con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow
) -> None:
    effects = np.random.default_rng(0).integers(1, 40_000, (50, 3)) / STEPS
    rows = [
        one_row(layer=layer, pos=pos, direct_effect=effect, logit_change=(-1) ** layer * effect)
        for layer, of_layer in enumerate(effects)
        for pos, effect in enumerate(of_layer)
    ]
    fill(con, rows)
    for row in found_noise(con).values():
        assert abs(row["correlation"]) <= 1
        assert row["correlation"] == pytest.approx((-1) ** row["layer"], abs=1e-6)


@pytest.mark.parametrize(
    ("n_documents", "n_positions", "n_sampled"), [(127, 200, 127), (128, 195, 128), (320, 80, 160), (130, 400, 65)]
)
def test_errors_are_estimated_from_enough_documents(
    con: duckdb.DuckDBPyConnection, n_documents: int, n_positions: int, n_sampled: int
) -> None:
    """Every n-th, such that 64 documents and 12,500 positions are left."""
    con.execute(f"INSERT INTO prompts SELECT 1, i, i, NULL, [i], '' FROM range({n_documents}) AS prompts(i)")
    con.execute(
        "INSERT INTO tokens BY NAME SELECT 1 AS run_id, prompt_id, pos, prompt_id AS token_id, '' AS token, "
        "prompt_id AS target_id, '' AS target, 0 AS clean_logit, 0 AS clean_logprob, 1 AS clean_rank, 0 AS clean_entropy, "
        "1 AS clean_ln_scale "
        f"FROM prompts, range({n_positions}) AS positions(pos)"
    )
    found = con.execute("SELECT count(*), any_value(n_sampled), any_value(n_clusters) FROM sampled_clusters").fetchall()
    assert found == [(n_sampled, n_sampled, n_documents)]


@pytest.mark.slow
def test_of_many_documents_every_nth_stands_for_all(
    con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow
) -> None:
    """128 documents of 200 positions: intervals of half of them are as wide as those of all, around the same numbers."""
    fill(con, [one_row(prompt_id=prompt_id, pos=0) for prompt_id in range(128)])
    con.execute("SELECT setseed(0.3)")
    con.execute(
        """
        INSERT INTO measurements BY NAME
        WITH effects AS (
            SELECT prompt_id, pos, luck, round(luck + exp(2 * random()), 4) AS effect, random() AS noise
            FROM (SELECT prompt_id, random() AS luck FROM range(128) AS prompts(prompt_id)), range(1, 200) AS positions(pos)
        )
        SELECT measurements.* REPLACE (
            effects.prompt_id AS prompt_id, effects.pos AS pos, effect AS direct_effect,
            round(luck * noise, 4) AS repair_mlp, round(luck - effect * noise, 4) AS logit_change
        )
        FROM measurements, effects WHERE measurements.prompt_id = 0
        """
    )
    con.execute(
        "INSERT INTO tokens BY NAME SELECT tokens.* REPLACE (place AS pos) FROM tokens, range(1, 200) AS places(place)"
    )
    names = ["slope", "intercept", "correlation", "self_repair_sd_within", "self_repair_sd_between"]
    queries = [
        f"SELECT {', '.join(f'{name}, {name}_high - {name}_low' for name in names)} FROM head_noise",
        "SELECT hill_10, hill_10_se FROM head_tail WHERE measure = 'direct_effect'",
        "SELECT fraction, fraction_high - fraction_low FROM repair_sensitivity WHERE level = 'model' AND part = 'mlp' "
        "AND top_percent = 10 AND with_first AND clipped ORDER BY average",
    ]
    of_half = [number for query in queries for row in con.execute(query).fetchall() for number in row]
    con.execute("DELETE FROM tokens")  # which say how many positions there are
    of_all = [number for query in queries for row in con.execute(query).fetchall() for number in row]
    assert of_half[::2] == pytest.approx(of_all[::2], rel=1e-9)
    assert of_half[1::2] == pytest.approx(of_all[1::2], rel=0.25)
    assert not set(of_half[1::2]) & set(of_all[1::2])


def test_failed_runs_are_left_out(con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow) -> None:
    fill(con, [one_row(run_id=run_id) for run_id in (1, 2, 3)], status={1: "complete", 2: "failed", 3: "incomplete"})
    models = con.execute("SELECT run_id, model FROM head_noise ORDER BY 1").fetchall()
    assert models == [(1, "model-1"), (3, "model-3")]


def test_an_empty_warehouse_has_no_rows(con: duckdb.DuckDBPyConnection) -> None:
    assert con.execute("FROM head_noise").fetchall() == []
