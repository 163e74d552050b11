"""The views of heavy tails against brute force over single rows, and against distributions whose numbers are known."""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from scipy.stats import kurtosis

from selfrepair.queries.catalog.relations import relations
from support.effects import STEPS, Drawn, Group, Row, grouped, quantile, self_repair, stored

Fill = Callable[..., None]
OneRow = Callable[..., Mapping[str, Any]]

SIGNED: Mapping[str, Callable[[Row], int]] = {
    "direct_effect": lambda row: int(row["direct_effect"]),
    "logit_change": lambda row: int(row["logit_change"]),
    "self_repair": self_repair,
}
GRAIN = ("run_id", "ablation", "measure", "layer", "head")
TOPS = {"0_1": 1000, "1": 100, "2": 50, "10": 10}
HILLS = {"10": 10, "2": 50, "0_5": 200}
QUANTILES = {"50": 50, "90": 90, "98": 98, "99": 99, "99_9": 99.9}
DRAWN = {
    "ties": [Drawn(spread=3), Drawn(run_id=2, heads=[(1, 0)], n_prompts=1, n_positions=7)],
    "many values": [Drawn(spread=5000, heads=[(0, 0), (2, 1)], n_prompts=20, n_positions=60)],
    "one row": [Drawn(heads=[(2, 1)], n_prompts=1, n_positions=1)],
    "all zero": [Drawn(spread=0, n_positions=5)],
}


def distributions(rows: list[Row]) -> dict[Group, list[int]]:
    """Each distribution's values in steps, the highest first."""
    found = {}
    for (run_id, ablation, layer, head), members in grouped(rows, "run_id", "ablation", "layer", "head").items():
        for measure, value_of in SIGNED.items():
            values = sorted(map(value_of, members), reverse=True)
            found[run_id, ablation, measure, layer, head] = values
            found[run_id, ablation, f"abs_{measure}", layer, head] = sorted(map(abs, values), reverse=True)
    return found


def hill(values: list[int], k: int) -> float | None:
    """The Hill index of the k highest values; None where it has none."""
    if k >= len(values) or values[k] <= 0 or values[0] == values[k]:
        return None
    return k / math.fsum(math.log(value / values[k]) for value in values[:k])


def hill_error(rows: list[Row], value_of: Callable[[Row], int], k: int) -> float | None:
    """The standard error of the Hill index of the k highest values, clustered by prompt, with the correction for the cut."""
    values = sorted(map(value_of, rows), reverse=True)
    index = hill(values, k)
    prompts = {row["prompt_id"] for row in rows}
    if index is None or len(prompts) == 1:
        return None
    before, after = 7 * k // 10, -(-13 * k // 10)
    steepness = 1 / index
    if after < len(values) and values[after] > 0:
        steepness = k * math.log(values[before] / values[after]) / (after - before)
    of = {prompt: [value_of(row) for row in rows if row["prompt_id"] == prompt] for prompt in prompts}
    logs = {p: [math.log(value / values[k]) for value in of[p] if value >= values[k]] for p in prompts}
    total, n_top = math.fsum(map(math.fsum, logs.values())), sum(map(len, logs.values()))
    share = n_top / len(values)
    residuals = [
        math.fsum(logs[p]) - total / n_top * share * len(of[p]) - steepness * (len(logs[p]) - share * len(of[p]))
        for p in prompts
    ]
    squares = math.fsum(residual**2 for residual in residuals)
    return index * math.sqrt(squares * len(prompts) / (len(prompts) - 1)) / total


def gini(values: list[int]) -> float | None:
    array = np.array(values, dtype=float)
    if not array.any():
        return None
    return float(np.abs(array[:, None] - array[None, :]).mean() / (2 * np.abs(array).mean()))


def near(value: float | None) -> Any:
    return None if value is None else pytest.approx(value, rel=1e-9, abs=1e-12)


def drawn_rows(case: str) -> list[Row]:
    return [row for seed, drawn in enumerate(DRAWN[case]) for row in drawn.rows(seed)]


def filled(con: duckdb.DuckDBPyConnection, fill: Fill, case: str) -> dict[Group, list[int]]:
    rows = drawn_rows(case)
    fill(con, stored(rows))
    return distributions(rows)


def by_grain(con: duckdb.DuckDBPyConnection, query: str) -> dict[Group, dict[str, Any]]:
    rows = con.sql(query).pl().to_dicts()
    found = {tuple(row[name] for name in GRAIN): row for row in rows}
    assert len(found) == len(rows)
    return found


def curves(con: duckdb.DuckDBPyConnection, view: str) -> dict[Group, list[Row]]:
    return grouped(con.sql(f"FROM {view} ORDER BY {relations()[view].grain[-1]}").pl().to_dicts(), *GRAIN)


def one_head(con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow, values: Any) -> None:
    """Gives one head these direct effects [logits], each row a prompt of its own."""
    fill(con, [one_row()])
    effects = pl.DataFrame({"direct_effect": values}).with_row_index("prompt_id")
    con.register("effects", effects)
    con.execute("CREATE TEMP TABLE one AS FROM measurements")
    con.execute("DELETE FROM measurements")
    con.execute("INSERT INTO prompts SELECT 1, prompt_id, prompt_id, NULL, [0], '' FROM effects WHERE prompt_id > 0")
    con.execute(
        "INSERT INTO measurements BY NAME SELECT one.* REPLACE (effects.direct_effect AS direct_effect, "
        "effects.prompt_id AS prompt_id) FROM one, effects"
    )


def numbers_of(con: duckdb.DuckDBPyConnection, measure: str) -> dict[str, Any]:
    (row,) = con.sql(f"FROM head_tail WHERE measure = '{measure}'").pl().to_dicts()
    return row


@pytest.mark.parametrize("case", DRAWN)
def test_numbers_equal_brute_force(con: duckdb.DuckDBPyConnection, fill: Fill, case: str) -> None:
    expected = filled(con, fill, case)
    found = by_grain(con, "FROM head_tail")
    assert found.keys() == expected.keys()
    for group, values in expected.items():
        row, n = found[group], len(values)
        assert row["n_rows"] == n
        for name, percent in QUANTILES.items():
            assert row[f"quantile_{name}"] == quantile(values, percent) / STEPS, (group, name)
        total = sum(map(abs, values))
        for name, part in TOPS.items():
            share = sum(values[: max(1, n // part)]) / total if total else None
            assert row[f"share_top_{name}"] == near(share), (group, name)
        for name, part in HILLS.items():
            k = max(1, n // part)
            index = hill(values, k)
            assert row[f"hill_{name}"] == near(index), (group, name)
        assert row["gini"] == near(gini(values)), group
        uneven = values[0] > values[-1]
        assert row["excess_kurtosis"] == near(float(kurtosis(values)) if uneven else None), group


@pytest.mark.parametrize("case", ["ties", "many values"])
def test_hill_errors_are_clustered(con: duckdb.DuckDBPyConnection, fill: Fill, case: str) -> None:
    filled(con, fill, case)
    found, n = by_grain(con, "FROM head_tail"), 0
    for (run_id, ablation, layer, head), members in grouped(
        drawn_rows(case), "run_id", "ablation", "layer", "head"
    ).items():
        for measure, value_of in SIGNED.items():
            for prefix, of in (("", value_of), ("abs_", lambda row, of=value_of: abs(of(row)))):
                for name, part in HILLS.items():
                    error = hill_error(members, of, max(1, len(members) // part))
                    key = run_id, ablation, prefix + measure, layer, head
                    wanted = None if error is None else pytest.approx(error, rel=1e-6, abs=1e-6)
                    assert found[key][f"hill_{name}_se"] == wanted, (key, name)
                    n += error is not None
    assert n > 20


@pytest.mark.parametrize("case", DRAWN)
def test_moments_and_quantiles_that_other_views_read(con: duckdb.DuckDBPyConnection, fill: Fill, case: str) -> None:
    expected = filled(con, fill, case)
    found = by_grain(con, "FROM tail_numbers")
    assert found.keys() == expected.keys()
    for group, values in expected.items():
        logits = np.array(values) / STEPS
        assert found[group]["mean"] == near(float(logits.mean()))
        assert found[group]["variance"] == pytest.approx(float(logits.var()), rel=1e-9, abs=1e-18)
        for percent in (5, 25, 75, 95):
            assert found[group][f"quantile_{percent}"] == quantile(values, percent) / STEPS


@pytest.mark.parametrize("case", DRAWN)
def test_the_tail_curve_is_exact_from_the_highest_value_to_the_lowest(
    con: duckdb.DuckDBPyConnection, fill: Fill, case: str
) -> None:
    expected = filled(con, fill, case)
    found = curves(con, "tail_curve")
    assert found.keys() == expected.keys()
    for group, values in expected.items():
        points = found[group]
        assert [point["value"] for point in points] == sorted({point["value"] for point in points})
        assert len(points) <= 100
        assert (points[0]["value"], points[-1]["value"]) == (values[-1] / STEPS, values[0] / STEPS)
        for point in points:
            n_reached = sum(value / STEPS >= point["value"] for value in values)
            assert (point["n_reached"], point["reached_share"]) == (n_reached, n_reached / len(values))


def test_a_highest_value_of_many_rows_is_a_point(con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow) -> None:
    one_head(con, fill, one_row, [*[9.0] * 302, *np.arange(1698) / 1000])
    found = con.execute(
        "SELECT value, n_reached FROM tail_curve WHERE measure = 'abs_direct_effect' ORDER BY value DESC LIMIT 2"
    ).fetchall()
    assert found[0] == (9, 302)
    assert found[1][0] < 1.7
    counted = con.execute("SELECT count(*) FROM tail_curve WHERE measure = 'abs_direct_effect'").fetchall()
    assert counted < [(101,)]


@pytest.mark.parametrize("case", DRAWN)
def test_points_leave_no_long_stretch_out(con: duckdb.DuckDBPyConnection, fill: Fill, case: str) -> None:
    """From the value after a point to the next point it is at most one stretch, by logarithm and by rows."""
    expected = filled(con, fill, case)
    for group, points in curves(con, "tail_points").items():
        values = expected[group]
        n, reached = len(values), dict(zip(values, range(1, len(values) + 1), strict=True))  # the last of equal values
        downwards = sorted(points, key=lambda point: -point["value"])
        for point, following in pairwise(downwards):
            next_value = max(value for value in values if value / STEPS < point["value"])
            assert point["next_value"] == next_value / STEPS
            assert following["n_reached"] <= reached[next_value] * (n + 1) ** (1 / 60) * (1 + 1e-9)
            assert following["n_reached"] - reached[next_value] <= (n + 1) / 40
        assert downwards[-1]["next_value"] is None
        total = sum(map(abs, values))
        for point in points:
            share = sum(values[: point["n_reached"]]) / total if total else None
            assert point["reached_total_share"] == near(share)


@pytest.mark.parametrize("case", DRAWN)
def test_the_hill_curve_equals_brute_force(con: duckdb.DuckDBPyConnection, fill: Fill, case: str) -> None:
    expected = filled(con, fill, case)
    found, tail = curves(con, "hill_curve"), curves(con, "tail_curve")
    assert found.keys() <= expected.keys()
    for group, values in expected.items():
        points = found.get(group, [])
        with_cut_above_0 = [n for n in (point["n_reached"] for point in tail[group]) if values[n:] and values[n] > 0]
        assert [point["n_top"] for point in points] == sorted(with_cut_above_0)
        for point in points:
            k = point["n_top"]
            assert point["cut_value"] == values[k] / STEPS
            assert point["top_share"] == k / len(values)
            assert point["hill"] == pytest.approx(hill(values, k), rel=1e-9)


@pytest.mark.parametrize("case", DRAWN)
def test_the_lorenz_curve_equals_brute_force(con: duckdb.DuckDBPyConnection, fill: Fill, case: str) -> None:
    expected = filled(con, fill, case)
    found = curves(con, "lorenz_curve")
    assert found.keys() == {group for group, values in expected.items() if group[2].startswith("abs_") and any(values)}
    for group, points in found.items():
        ascending, n = expected[group][::-1], len(expected[group])
        assert len(points) <= 101
        assert (points[0]["lowest_share"], points[-1]["lowest_share"], points[-1]["total_share"]) == (0, 1, 1)
        for point, following in pairwise(points):
            assert point["lowest_share"] < following["lowest_share"]
            lowest = ascending[: round(point["lowest_share"] * n)]
            assert point["total_share"] == pytest.approx(sum(lowest) / sum(ascending), rel=1e-9, abs=1e-12)


def test_by_hand(con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow) -> None:
    one_head(con, fill, one_row, [4.0, 2.0, 2.0, -1.0, 1.0])
    row = numbers_of(con, "direct_effect")
    assert (row["model"], row["label"], row["n_rows"]) == ("model-1", "L2H1", 5)
    assert (row["quantile_50"], row["quantile_90"]) == (2.0, 4.0)
    assert row["share_top_10"] == pytest.approx(0.4)  # the 4 of 4 + 2 + 2 + 1 + 1
    assert row["gini"] == pytest.approx(44 / 25 / 4)  # 22 over all pairs, twice, / 5^2; / (2 * mean size 2)
    assert row["hill_10"] == pytest.approx(1 / math.log(2))  # ln(4 / 2)
    tops = con.sql("SELECT n_top, cut_value FROM hill_curve WHERE measure = 'direct_effect' ORDER BY 1").fetchall()
    assert tops == [(1, 2.0), (3, 1.0)]  # the 4, cut by the 2s; these, too, cut by the 1, which -1 does not cut
    absolute = con.sql("FROM lorenz_curve WHERE measure = 'abs_direct_effect' ORDER BY lowest_share").pl()
    shares = absolute.select("lowest_share", "total_share").rows()
    assert shares == [pytest.approx(pair) for pair in [(0, 0), (0.4, 0.2), (0.8, 0.6), (1, 1)]]


def test_signs_that_cancel_leave_shares_within_one(con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow) -> None:
    one_head(con, fill, one_row, [1.0, -1.0])
    row = numbers_of(con, "direct_effect")
    assert (row["share_top_10"], row["gini"], row["excess_kurtosis"]) == (0.5, 0.5, -2.0)
    assert (row["hill_10"], row["hill_10_se"]) == (None, None)
    assert (numbers_of(con, "abs_direct_effect")["gini"], numbers_of(con, "abs_direct_effect")["hill_10"]) == (0, None)


def test_effects_below_zero_have_their_highest_rows_on_top(
    con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow
) -> None:
    one_head(con, fill, one_row, [-1.0, -3.0])
    assert numbers_of(con, "direct_effect")["share_top_10"] == -0.25
    assert numbers_of(con, "abs_direct_effect")["share_top_10"] == 0.75


def test_evenly_spread_values_have_the_numbers_of_a_uniform_distribution(
    con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow
) -> None:
    n = 10_000
    one_head(con, fill, one_row, np.arange(1, n + 1) / STEPS)
    row = numbers_of(con, "direct_effect")
    assert (row["quantile_50"], row["quantile_98"], row["quantile_99_9"]) == (0.5, 0.98, 0.999)
    assert row["gini"] == pytest.approx((n - 1) / (3 * n), rel=1e-9)
    assert row["excess_kurtosis"] == pytest.approx(-6 * (n**2 + 1) / (5 * (n**2 - 1)), rel=1e-9)
    assert row["share_top_10"] == pytest.approx(1000 * (9001 + n) / 2 / (n * (n + 1) / 2), rel=1e-9)


@pytest.mark.parametrize("alpha", [2.0, 3.0])
def test_a_pareto_distribution_has_its_exponent_and_its_gini(
    con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow, alpha: float
) -> None:
    n = 100_000
    # evenly spaced probabilities instead of drawn ones: their sums are near the distribution's own
    values = ((np.arange(n) + 0.5) / n) ** (-1 / alpha)
    one_head(con, fill, one_row, np.round(values, 4))
    row = numbers_of(con, "direct_effect")
    assert row["gini"] == pytest.approx(1 / (2 * alpha - 1), rel=0.02)
    assert row["quantile_99"] == pytest.approx(100 ** (1 / alpha), rel=1e-3)
    for name, part in TOPS.items():
        assert row[f"share_top_{name}"] == pytest.approx(part ** (1 / alpha - 1), rel=0.05)
    for name in HILLS:
        assert row[f"hill_{name}"] == pytest.approx(alpha, rel=0.01)
    levels = con.sql(
        "SELECT hill FROM hill_curve WHERE measure = 'direct_effect' AND top_share BETWEEN 0.01 AND 0.9"
    ).pl()
    assert levels.height > 40
    assert levels["hill"].to_list() == pytest.approx([alpha] * levels.height, rel=0.01)


@pytest.mark.parametrize("seed", range(4))
def test_the_hill_index_of_a_sample_is_within_its_standard_error(
    con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow, seed: int
) -> None:
    alpha = 2.0
    one_head(con, fill, one_row, np.round(1 + np.random.default_rng(seed).pareto(alpha, 20_000), 4))
    row = numbers_of(con, "direct_effect")
    for name, part in HILLS.items():
        assert row[f"hill_{name}_se"] == pytest.approx(row[f"hill_{name}"] / math.sqrt(20_000 // part), rel=0.3)
        assert abs(row[f"hill_{name}"] - alpha) < 3 * row[f"hill_{name}_se"]
    assert row["gini"] == pytest.approx(1 / (2 * alpha - 1), abs=0.02)
    curve = con.sql("FROM hill_curve WHERE measure = 'direct_effect' AND n_top > 5").pl()
    independent = curve["hill"] / curve["n_top"].sqrt()
    assert (curve["hill_se"] / independent).to_list() == pytest.approx([1] * curve.height, rel=0.3)


def test_the_area_under_the_lorenz_curve_is_the_gini(
    con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow
) -> None:
    one_head(con, fill, one_row, np.round(1 + np.random.default_rng(1).pareto(1.5, 20_000), 4))
    points = con.sql("FROM lorenz_curve WHERE measure = 'abs_direct_effect'").pl()
    area = float(np.trapezoid(points["total_share"], points["lowest_share"]))
    assert 1 - 2 * area == pytest.approx(numbers_of(con, "abs_direct_effect")["gini"], rel=2e-3)
    steepest = points.filter(pl.col("lowest_share") > 0.99)
    assert steepest.height > 20


def test_failed_runs_are_left_out(con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow) -> None:
    rows = [one_row(run_id=run_id, pos=pos, direct_effect=pos) for run_id in (1, 2, 3) for pos in (1, 2)]
    fill(con, rows, status={1: "complete", 2: "failed", 3: "incomplete"})
    for view in ("head_tail", "tail_curve", "hill_curve", "lorenz_curve"):
        models = con.execute(f"SELECT DISTINCT run_id, model FROM {view} ORDER BY 1").fetchall()
        assert models == [(1, "model-1"), (3, "model-3")], view


def test_an_empty_warehouse_has_no_rows(con: duckdb.DuckDBPyConnection) -> None:
    for view in ("head_tail", "tail_curve", "hill_curve", "lorenz_curve"):
        assert con.execute(f"FROM {view}").fetchall() == []
