"""Ranks of heads and agreement between orders and between ablations, against scipy."""

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, product
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from scipy import stats

from support.empty import with_views
from support.random_runs import ABLATIONS, FAILED, ROW_NUMBERS, STEPS, in_logits, random_runs, with_repair

Fill = Callable[..., None]
OneRow = Callable[..., Mapping[str, Any]]
Con = duckdb.DuckDBPyConnection
Key = tuple[Any, ...]

EXACT_STEP = 625
"""A sixteenth of a logit in steps of 1e-4: sums are exact in binary, and so heads that are equal compare as equal."""

MEANS = tuple(name for name in ROW_NUMBERS if name != "direct_effect")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """The runs of `random_runs`, and run 6 of 40 heads whose means are few different ones."""
    rng = np.random.default_rng(8)
    many = [
        {
            "run_id": 6,
            "ablation": ablation,
            "prompt_id": 0,
            "pos": pos,
            "layer": number % 4,
            "head": number // 4,
            "direct_effect": effect / 2,
            "logit_change": int(rng.integers(-3, 3)) / 2 - effect / 4 - (ablation == "zero"),
            **dict.fromkeys(("ablated_direct_effect", "repair_attention", "repair_mlp", "ln_scale_ratio"), 0.5),
            "repair_layernorm": number / 4,
        }
        for number, pos in product(range(40), range(2))
        for effect in [int(rng.integers(-4, 5))]
        for ablation in ("resample", "zero")
    ]
    return random_runs(seed=14, step=EXACT_STEP) + many


@pytest.fixture(scope="module")
def filled(rows: list[dict[str, Any]], fill: Fill) -> Iterator[Con]:
    with with_views() as con:
        fill(con, rows, status={FAILED: "failed"})
        con.execute("CREATE TABLE head_means AS FROM head_repair")  # computed once for all that reads it
        con.execute("CREATE OR REPLACE VIEW head_repair AS FROM head_means")
        yield con


@pytest.fixture(scope="module")
def means(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Each head's means in logits by population, in the order of layer and head."""
    head = ["run_id", "ablation", "layer", "head"]
    ordered = with_repair(rows).sort(*head, -pl.col("direct_effect"), "prompt_id", "pos")

    def top(members: pl.DataFrame) -> pl.DataFrame:
        rank = pl.int_range(1, pl.len() + 1).over(head)
        return members.filter(rank <= pl.max_horizontal(1, pl.len().over(head) * 2 // 100))

    populations = {"all": ordered, "top2": top(ordered), "top2_nobos": top(ordered.filter(pl.col("pos") > 0))}
    return pl.concat(
        members.group_by(head)
        .agg(
            *(pl.col(name).mean() / STEPS for name in ("direct_effect", *MEANS)),
            of_means=pl.when(pl.col("direct_effect").sum() != 0).then(
                pl.col("self_repair").sum() / pl.col("direct_effect").sum()
            ),
            clipped=pl.map_groups(["self_repair", "direct_effect"], clipped_mean, pl.Float64, returns_scalar=True),
        )
        .with_columns(pl.lit(population).alias("population"))
        for population, members in populations.items()
    ).sort("run_id", "population", "ablation", "layer", "head")


def clipped_mean(columns: Any) -> float | None:
    repair, effect = (column.to_numpy() for column in columns)
    ratios = in_logits(repair[effect != 0]) / in_logits(effect[effect != 0])
    return float(ratios.clip(0, 1).mean()) if ratios.size else None


def places(values: np.ndarray) -> np.ndarray:
    """1 for the highest; equal ones in the order in which they come."""
    order = np.argsort(-values, kind="stable")
    found = np.empty(len(values), dtype=int)
    found[order] = np.arange(1, len(values) + 1)
    return found


def by_run(means: pl.DataFrame) -> Iterator[tuple[Key, pl.DataFrame]]:
    yield from means.group_by("run_id", "ablation", "population", maintain_order=True)


def test_every_head_has_its_places(filled: Con, means: pl.DataFrame) -> None:
    found = filled.execute(
        "SELECT run_id, ablation, population, layer, head, direct_effect_rank, logit_change_rank, rank_difference, "
        "absolute_direct_effect_rank, absolute_logit_change_rank, missed_in_top10, missed_in_top20, mean_direct_effect "
        "FROM importance_rank"
    ).fetchall()
    expected = {}
    for key, heads in by_run(means):
        effect, change = heads["direct_effect"].to_numpy(), heads["logit_change"].to_numpy()
        numbers = (
            places(effect),
            places(-change),
            places(-change) - places(effect),
            places(abs(effect)),
            places(abs(change)),
            (places(effect) <= 10) & (places(-change) > 10),
            (places(effect) <= 20) & (places(-change) > 20),
            effect,
        )
        for layer, head, *row in zip(heads["layer"], heads["head"], *numbers, strict=True):
            expected[*key, layer, head] = tuple(row)
    assert {row[:5]: row[5:-1] for row in found} == {key: row[:-1] for key, row in expected.items()}
    assert [row[-1] for row in found] == pytest.approx([expected[row[:5]][-1] for row in found], rel=1e-9, abs=1e-12)
    assert len(found) == len(expected)
    assert any(row[10] for row in found)
    assert any(row[11] for row in found)
    assert {row[0] for row in found} == {1, 2, 3, 4, 6}


def test_orders_agree_as_scipy_says(filled: Con, means: pl.DataFrame) -> None:
    found = filled.execute("FROM rank_agreement").fetchall()
    expected = []
    for (run_id, ablation, population), heads in by_run(means):
        effect, change = heads["direct_effect"].to_numpy(), heads["logit_change"].to_numpy()
        overlaps = [np.mean(places(-change)[places(effect) <= size] <= size) for size in (10, 20)]
        spearman = kendall = None
        if np.ptp(effect) and np.ptp(change):
            spearman = near(stats.spearmanr(effect, -change).statistic, 1e-9)
            kendall = near(stats.kendalltau(effect, -change, variant="b").statistic, 1e-9)
        expected.append((run_id, f"model-{run_id}", ablation, population, len(heads), spearman, kendall, *overlaps))
    order = {name: number for number, name in enumerate(ABLATIONS)}
    assert found == sorted(expected, key=lambda row: (row[0], order[row[2]], row[3] == "all", row[3]))
    assert any(row[5] is None for row in found)
    assert 0 < min(row[7] for row in found) < 1


AGREEMENT = (
    "run_id, population, measure, ablation_a, ablation_b, n_heads, pearson, spearman, mean_difference, "
    "mean_absolute_difference"
)


def test_ablations_agree_as_scipy_says(filled: Con, means: pl.DataFrame) -> None:
    names = {f"mean_{name}": name for name in MEANS}
    names |= {"total_fraction_of_effect": "of_means", "clipped_total_fraction": "clipped"}
    expected = {}
    for (run_id, population), heads in means.group_by("run_id", "population"):
        by_ablation = {name: heads.filter(pl.col("ablation") == name) for name in ABLATIONS}
        for (a, b), (measure, column) in product(combinations(ABLATIONS, 2), names.items()):
            both = by_ablation[a].join(by_ablation[b], on=["layer", "head"]).drop_nulls([column, f"{column}_right"])
            if both.height:
                expected[run_id, population, measure, a, b] = agreement(*both.select(column, f"{column}_right"))
    found = {row[:5]: row[5:] for row in filled.execute(f"SELECT {AGREEMENT} FROM ablation_agreement").fetchall()}
    assert found.keys() == expected.keys()
    for key, numbers in expected.items():
        tolerance = 1e-6 if key[2] == "clipped_total_fraction" else 1e-9  # ratios of 32-bit floats
        assert found[key] == tuple(near(number, tolerance) for number in numbers), key
    assert {key[3:] for key in found} == set(combinations(ABLATIONS, 2))
    assert {row[0] for row in found} == {1, 2, 3, 6}


def near(number: float | None, tolerance: float) -> Any:
    return None if number is None else pytest.approx(number, rel=tolerance, abs=tolerance)


def agreement(column_a: pl.Series, column_b: pl.Series) -> tuple[Any, ...]:
    a, b = column_a.to_numpy(), column_b.to_numpy()
    pearson = spearman = None
    if np.ptp(a) and np.ptp(b):
        pearson, spearman = stats.pearsonr(a, b).statistic, stats.spearmanr(a, b).statistic
    return len(a), pearson, spearman, float(np.mean(a - b)), float(np.mean(abs(a - b)))


def test_a_hidden_head_by_hand(con: Con, fill: Fill, one_row: OneRow) -> None:
    """Twelve heads, the later the weaker by direct effect; ablating the first changes nothing."""
    rows = [
        one_row(
            layer=number // 4,
            head=number % 4,
            direct_effect=12.0 - number,
            logit_change=0.0 if number == 0 else number - 12.0,
        )
        for number in range(12)
    ]
    fill(con, rows)
    found = con.execute(
        "SELECT label, direct_effect_rank, logit_change_rank, rank_difference, missed_in_top10, missed_in_top20 "
        "FROM importance_rank WHERE population = 'all' ORDER BY direct_effect_rank"
    ).fetchall()
    assert found[0] == ("L0H0", 1, 12, 11, True, False)
    assert found[1] == ("L0H1", 2, 1, -1, False, False)
    assert found[11] == ("L2H3", 12, 11, -1, False, False)
    ((spearman, kendall, top10, top20),) = con.execute(
        "SELECT spearman, kendall_tau, top10_overlap, top20_overlap FROM rank_agreement WHERE population = 'all'"
    ).fetchall()
    assert (top10, top20) == (0.9, 1)
    assert spearman == pytest.approx(1 - 6 * (11**2 + 11) / (12 * 143))
    assert kendall == pytest.approx((55 - 11) / 66)  # the first head's 11 pairs are the wrong way round


def test_a_difference_by_hand(con: Con, fill: Fill, one_row: OneRow) -> None:
    changes = {"mean": (-1.0, 2.0, 0.0), "zero": (-3.0, 3.0, 1.0)}
    fill(
        con,
        [
            one_row(head=head, ablation=ablation, logit_change=change)
            for ablation, values in changes.items()
            for head, change in enumerate(values)
        ],
    )
    found = con.execute(
        "SELECT ablation_a, ablation_b, n_heads, spearman, mean_difference, mean_absolute_difference "
        "FROM ablation_agreement WHERE population = 'all' AND measure = 'mean_logit_change'"
    ).fetchall()
    assert found == [("mean", "zero", 3, 1, 0, pytest.approx(4 / 3))]  # differences 2, -1 and -1


def test_a_constant_has_no_correlation(con: Con, fill: Fill, one_row: OneRow) -> None:
    fill(con, [one_row(head=head, ablation=name, direct_effect=float(head)) for head in (0, 1) for name in ABLATIONS])
    assert set(con.execute("SELECT spearman, kendall_tau FROM rank_agreement").fetchall()) == {(None, None)}
    found = con.execute(
        "SELECT DISTINCT pearson, spearman FROM ablation_agreement WHERE measure = 'mean_logit_change'"
    ).fetchall()
    assert found == [(None, None)]


def test_no_rows_no_answer(con: Con) -> None:
    for view in ("importance_rank", "rank_agreement", "ablation_agreement"):
        assert con.execute(f"FROM {view}").fetchall() == []
