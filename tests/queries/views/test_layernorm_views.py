"""The views of the final norm's scale against plain counting over single rows."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import duckdb
import pytest

from support.effects import STEPS, Drawn, Group, Row, grouped, populations, quantile, stored

Fill = Callable[..., None]
OneRow = Callable[..., Mapping[str, Any]]

LEVELS = ("run_id", "ablation", "population", "level", "layer", "head")
HEADS = ("run_id", "ablation", "population", "layer", "head")
PERCENTS = (1, 5, 25, 50, 75, 95, 99)
DRAWN = {
    "ties": [Drawn(spread=3), Drawn(run_id=2, heads=[(1, 0)], n_prompts=1, n_positions=7)],
    "beyond the outer bins": [Drawn(spread=500, n_prompts=6, n_positions=60)],
    "one row": [Drawn(heads=[(2, 1)], n_prompts=1, n_positions=1)],
    "all one": [Drawn(spread=0, n_positions=5)],
}


def filled(con: duckdb.DuckDBPyConnection, fill: Fill, case: str) -> list[Row]:
    """The rows drawn, in the populations they belong to."""
    rows = [row for seed, drawn in enumerate(DRAWN[case]) for row in drawn.rows(seed)]
    fill(con, stored(rows))
    return populations(rows)


def ratios(rows: list[Row]) -> dict[Group, list[int]]:
    """S/S' in steps of every head and of every run's heads together, in the populations `all` and `top2`."""
    found: dict[Group, list[int]] = {}
    for row in rows:
        if row["population"] != "top2_nobos":
            run = (row["run_id"], row["ablation"], row["population"])
            for group in ((*run, "head", row["layer"], row["head"]), (*run, "model", None, None)):
                found.setdefault(group, []).append(row["ln_scale_ratio"])
    return found


def answers(con: duckdb.DuckDBPyConnection, query: str, grain: tuple[str, ...]) -> dict[Group, dict[str, Any]]:
    rows = con.sql(query).pl().to_dicts()
    found = {tuple(row[name] for name in grain): row for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.parametrize("case", DRAWN)
def test_ratios_equal_the_reference(con: duckdb.DuckDBPyConnection, fill: Fill, case: str) -> None:
    expected = ratios(filled(con, fill, case))
    found = answers(con, "FROM layernorm_ratio", LEVELS)
    assert found.keys() == expected.keys()
    for group, values in expected.items():
        row, n = found[group], len(values)
        assert row["n_rows"] == n
        assert row["mean_ln_scale_ratio"] == pytest.approx(sum(values) / STEPS / n, rel=1e-6)
        for percent in PERCENTS:
            assert row[f"ln_scale_ratio_quantile_{percent}"] == quantile(values, percent) / STEPS, (group, percent)
        assert row["share_above_1"] == sum(value > STEPS for value in values) / n
        assert row["share_below_1"] == sum(value < STEPS for value in values) / n
        assert row["label"] == (None if group[3] == "model" else f"L{group[4]}H{group[5]}")


@pytest.mark.parametrize("case", DRAWN)
def test_the_histogram_equals_the_reference(con: duckdb.DuckDBPyConnection, fill: Fill, case: str) -> None:
    expected = ratios(filled(con, fill, case))
    rows = con.sql("FROM layernorm_histogram").pl().to_dicts()
    found = grouped(rows, *LEVELS)
    assert found.keys() == expected.keys()
    for group, values in expected.items():
        edges = [min(12_450, max(7_500, value - value % 50)) for value in values]
        assert {row["bin_low"]: row["n_rows"] for row in found[group]} == {
            edge / STEPS: n for edge, n in Counter(edges).items()
        }
        for row in found[group]:
            assert row["bin_high"] == round(row["bin_low"] + 0.005, 4)
            assert row["bin_share"] == row["n_rows"] / len(values)


@pytest.mark.parametrize("case", DRAWN)
def test_frozen_equals_the_reference(con: duckdb.DuckDBPyConnection, fill: Fill, case: str) -> None:
    expected = grouped(filled(con, fill, case), *HEADS)
    found = answers(con, "FROM frozen_layernorm", HEADS)
    assert found.keys() == expected.keys()
    for group, members in expected.items():
        row, n = found[group], len(members)
        changes = [member["logit_change"] for member in members]
        frozen = [member["logit_change"] - member["repair_layernorm"] for member in members]
        assert row["n_rows"] == n
        assert row["mean_logit_change"] == pytest.approx(sum(changes) / STEPS / n, rel=1e-5, abs=1e-6)
        assert row["mean_frozen_logit_change"] == pytest.approx(sum(frozen) / STEPS / n, rel=1e-5, abs=1e-6)
        difference = row["mean_logit_change"] - row["mean_frozen_logit_change"]
        assert row["mean_repair_layernorm"] == pytest.approx(difference, rel=1e-9, abs=1e-12)
        larger = sum(abs(after) > abs(before) for after, before in zip(frozen, changes, strict=True))
        assert row["larger_frozen_share"] == larger / n, group


def test_ratios_by_hand(con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow) -> None:
    """Four rows; the one with the highest direct effect is the top 2 %."""
    values = (0.9, 1.0, 1.0049, 1.005)
    fill(con, [one_row(pos=pos, direct_effect=pos, ln_scale_ratio=value) for pos, value in enumerate(values)])
    found = answers(con, "FROM layernorm_ratio WHERE level = 'head'", ("population",))
    row = found["all",]
    assert (row["model"], row["label"], row["share_above_1"], row["share_below_1"]) == ("model-1", "L2H1", 0.5, 0.25)
    assert (row["ln_scale_ratio_quantile_25"], row["ln_scale_ratio_quantile_50"]) == (0.9, 1.0)
    assert (found["top2",]["n_rows"], found["top2",]["ln_scale_ratio_quantile_50"]) == (1, 1.005)
    bins = "SELECT bin_low, bin_high, n_rows, bin_share FROM layernorm_histogram"
    assert con.execute(f"{bins} WHERE level = 'head' AND population = 'all'").fetchall() == [
        (0.9, 0.905, 1, 0.25),
        (1.0, 1.005, 2, 0.5),
        (1.005, 1.01, 1, 0.25),
    ]


def test_a_model_pools_the_rows_of_its_heads(con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow) -> None:
    fill(con, [one_row(head=head, pos=pos, ln_scale_ratio=1 + head / 10) for head in (0, 1) for pos in range(2 + head)])
    (row,) = con.sql("FROM layernorm_ratio WHERE level = 'model' AND population = 'all'").pl().to_dicts()
    assert (row["n_rows"], row["share_above_1"], row["share_below_1"]) == (5, 0.6, 0.0)
    assert row["mean_ln_scale_ratio"] == pytest.approx(1.06)


@pytest.mark.parametrize(
    ("logit_change", "repair_layernorm", "larger"),
    [
        (-0.3, 0.1, 1.0),  # -0.4 without it
        (-0.3, -0.1, 0.0),
        (0.3, 0.1, 0.0),
        (0.3, -0.1, 1.0),
        (0.3, 0.6, 0.0),  # -0.3: equally large
        (0.1, 0.2, 0.0),
        (0.3, 0.6001, 1.0),
        (0.3, 0.5999, 0.0),
        (0.0, 0.0001, 1.0),
        (0.3, 0.0, 0.0),
    ],
)
def test_when_freezing_makes_the_change_larger(
    con: duckdb.DuckDBPyConnection,
    fill: Fill,
    one_row: OneRow,
    logit_change: float,
    repair_layernorm: float,
    larger: float,
) -> None:
    fill(con, [one_row(logit_change=logit_change, repair_layernorm=repair_layernorm)])
    rows = con.execute("SELECT larger_frozen_share, mean_frozen_logit_change FROM frozen_layernorm").fetchall()
    assert rows == [(larger, pytest.approx(logit_change - repair_layernorm, abs=1e-7))] * 3


def test_failed_runs_are_left_out(con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow) -> None:
    fill(con, [one_row(run_id=run_id) for run_id in (1, 2, 3)], status={1: "complete", 2: "failed", 3: "incomplete"})
    for view in ("layernorm_ratio", "layernorm_histogram", "frozen_layernorm"):
        models = con.execute(f"SELECT DISTINCT run_id, model FROM {view} ORDER BY 1").fetchall()
        assert models == [(1, "model-1"), (3, "model-3")], view


def test_an_empty_warehouse_has_no_rows(con: duckdb.DuckDBPyConnection) -> None:
    for view in ("layernorm_ratio", "layernorm_histogram", "frozen_layernorm"):
        assert con.execute(f"FROM {view}").fetchall() == []
