"""Slopes of self-repression, against least squares on positions and an error clustered by prompt from residuals."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import duckdb
import numpy as np
import pytest
from scipy import stats

from support.empty import with_views
from support.mechanisms import Mechanisms, measured_mechanisms, mechanism_runs
from support.random_runs import FAILED

Fill = Callable[..., None]
OneRow = Callable[..., Mapping[str, Any]]
Con = duckdb.DuckDBPyConnection
Fit = dict[str, Any]

KEY = ["run_id", "layer", "head", "multiple"]


@pytest.fixture(scope="module")
def made() -> tuple[list[dict[str, Any]], Mechanisms]:
    return mechanism_runs(seed=71)


@pytest.fixture(scope="module")
def filled(made: tuple[list[dict[str, Any]], Mechanisms], fill: Fill) -> Iterator[Con]:
    rows, mechanisms = made
    with with_views() as con:
        fill(con, rows, status={FAILED: "failed"})
        mechanisms.insert(con)
        yield con


def fit(prompts: np.ndarray, x: np.ndarray, y: np.ndarray) -> Fit:
    """Slope, intercept and the slope's sandwich error with the prompts as clusters: (X'X)^-1 X'u u'X (X'X)^-1."""
    design = np.stack([np.ones_like(x), x], axis=1)
    (intercept, slope), *_ = np.linalg.lstsq(design, y, rcond=None)
    residual = y - design @ [intercept, slope]
    bread = np.linalg.inv(design.T @ design)
    scores = np.array([design[prompts == prompt].T @ residual[prompts == prompt] for prompt in np.unique(prompts)])
    n = len(scores)
    found: Fit = {"slope": slope, "intercept": intercept, "se": None, "low": None, "high": None}
    if n > 1:
        found["se"] = float(np.sqrt((bread @ (scores.T @ scores) @ bread)[1, 1] * n / (n - 1)))
        width = stats.t.ppf(0.975, n - 1) * found["se"]
        found |= {"low": slope - width, "high": slope + width}
    return found


def near(value: float | None, tolerance: float = 1e-6) -> Any:
    return None if value is None else pytest.approx(value, rel=tolerance, abs=tolerance)


def test_slopes_errors_and_verdicts(filled: Con, made: tuple[list[dict[str, Any]], Mechanisms]) -> None:
    rows = measured_mechanisms(made[1].self_repression)
    found = {tuple(row[name] for name in KEY): row for row in filled.sql("FROM self_repression_slope").pl().to_dicts()}
    heads = dict(rows.group_by(KEY))
    assert found.keys() == heads.keys()
    for key, head in heads.items():
        fits: dict[str, Fit | None] = dict.fromkeys(("own", "other", "random"))
        for (added_vector,), part in head.group_by("added_vector"):
            fits[str(added_vector)] = fit(*(part[name].to_numpy() for name in ("prompt_id", "x", "y")))
        own = head.filter(added_vector="own")
        prompts, x, y, z = (own[name].to_numpy() for name in ("prompt_id", "x", "y", "z"))
        wanted = {
            "n_prompts": len(np.unique(prompts)),
            "n_rows": len(x),
            "mean_direct_effect": near(x.mean()),
            "mean_direct_effect_after": near(y.mean()),
            "correlation": near(np.corrcoef(x, y)[0, 1]),
            "label": f"L{key[1]}H{key[2]}",
            "n_tested": sum(other[0] == key[0] and other[-1] == key[-1] for other in heads),
            "verdict": "not enough data" if all(one and one["low"] is not None for one in fits.values()) else None,
        }
        for prefix, one in (
            ("", fits["own"]),
            ("own_scale_", fit(prompts, x, z)),
            ("other_", fits["other"]),
            ("random_", fits["random"]),
        ):
            one = one or dict.fromkeys(("slope", "se", "low", "high"))
            wanted[f"{prefix}slope"] = near(one["slope"])
            wanted[f"{prefix}slope_se"] = near(one["se"])
            for end in ("low", "high"):
                wanted[f"{prefix}slope_{end}"] = near(one[end], 5e-3)  # t by its expansion
        assert found[key]["intercept"] == near((fits["own"] or {})["intercept"])
        for name, value in wanted.items():
            assert found[key][name] == value, (key, name)
    assert {row["verdict"] for row in found.values()} == {"not enough data", None}
    assert {row["run_id"] for row in found.values()} == {1, 3}


def test_what_was_not_measured_at_the_own_scale_is_null(filled: Con) -> None:
    found = filled.execute(
        "SELECT added_vector, count(own_scale_slope), count(slope) FROM self_repression_fits WHERE run_id = 1 GROUP BY ALL"
    ).fetchall()
    assert {added_vector: n_own > 0 for added_vector, n_own, _ in found} == {
        "own": True,
        "other": True,
        "random": False,
    }
    assert all(n > 0 for *_, n in found)


def insert(con: Con, added_vector: str, points: dict[int, list[tuple[float, float]]]) -> None:
    for prompt_id, values in points.items():
        x, y = np.array(values).T
        con.execute(
            "INSERT INTO self_repression_sums VALUES (1, ?, 2, 1, ?, 1, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL)",
            [prompt_id, added_vector, len(x), *(float(sum) for sum in (x.sum(), x @ x, y.sum(), x @ y, y @ y))],
        )


def test_a_slope_by_hand(con: Con, fill: Fill, one_row: OneRow) -> None:
    """With x = -1, 1 in two prompts; y = -0.6, 0.4 and -0.4, 0.6: slope 0.5, residuals -0.1, -0.1 and 0.1, 0.1 that cancel
    in each prompt's score, so that the error is 0.
    """
    fill(con, [one_row(prompt_id=prompt) for prompt in (0, 1)])
    insert(con, "own", {0: [(-1, -0.6), (1, 0.4)], 1: [(-1, -0.4), (1, 0.6)]})
    insert(con, "other", {0: [(-1, -1), (1, 1)], 1: [(-1, -1), (1, 1)]})
    ask = "SELECT slope, intercept, slope_se, own_scale_slope, other_slope, random_slope, verdict FROM self_repression_slope"
    zero = pytest.approx(0, abs=1e-12)
    assert con.execute(ask).fetchall() == [(pytest.approx(0.5), zero, zero, None, pytest.approx(1), None, None)]


@pytest.mark.parametrize(
    ("n_prompts", "own", "control", "spread", "verdict"),
    [
        (12, 0.5, 1.0, 0.01, "repressing"),
        (12, 1.5, 1.0, 0.01, "reinforcing"),
        (12, 1.0, 1.0, 0.01, "neither"),
        (12, 0.96, 1.0, 0.0, "neither"),  # told from 1 for sure, and within the margin
        (12, 0.5, 0.48, 0.01, "neither"),  # as its controls
        (12, 0.5, 0.6, 0.2, "not enough data"),
        (12, 0.9, 1.0, 0.045, "not enough data"),  # alone it is told from 0.95, but not among 20 heads
        (11, 0.5, 1.0, 0.01, "not enough data"),
    ],
)
def test_a_verdict_has_a_margin_and_allows_for_how_many_heads_there_are(
    con: Con, fill: Fill, one_row: OneRow, n_prompts: int, own: float, control: float, spread: float, verdict: str
) -> None:
    """Slopes of single prompts lie `spread` to either side of their mean in turn; 20 heads have the same."""
    fill(con, [one_row(prompt_id=prompt) for prompt in range(n_prompts)])
    for added_vector, slope in (("own", own), ("other", control), ("random", control)):
        slopes = [slope + spread * (-1) ** prompt for prompt in range(n_prompts)]
        insert(con, added_vector, {prompt: [(-1, -one), (1, one)] for prompt, one in enumerate(slopes)})
    con.execute(
        "INSERT INTO self_repression_sums SELECT sums.* REPLACE (head + n AS head) "
        "FROM self_repression_sums AS sums CROSS JOIN range(1, 20) AS others(n)"
    )
    found = con.execute("SELECT DISTINCT n_tested, verdict FROM self_repression_slope").fetchall()
    assert found == [(20, verdict)]


def test_one_direct_effect_has_no_slope(con: Con, fill: Fill, one_row: OneRow) -> None:
    fill(con, [one_row(prompt_id=prompt) for prompt in (0, 1)])
    for added_vector in ("own", "other", "random"):
        insert(con, added_vector, {0: [(0.1, 0.3), (0.1, 0.7)], 1: [(0.1, 0.2)]})
    found = con.execute(
        "SELECT slope, slope_se, slope_low, intercept, correlation, verdict, n_rows FROM self_repression_slope"
    ).fetchall()
    assert found == [(None, None, None, None, None, None, 3)]


def test_no_rows_no_answer(con: Con, fill: Fill, one_row: OneRow) -> None:
    assert con.execute("FROM self_repression_slope").fetchall() == []
    fill(con, [one_row()])
    assert con.execute("FROM self_repression_slope").fetchall() == []
