"""Answers read after each layer, and self-repair where they are right and wrong, against numpy."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest

from support.empty import with_views
from support.mechanisms import Mechanisms, measured_mechanisms, mechanism_runs
from support.random_runs import FAILED, STEPS, with_repair

Fill = Callable[..., None]
OneRow = Callable[..., Mapping[str, Any]]
Con = duckdb.DuckDBPyConnection
Runs = tuple[list[dict[str, Any]], Mechanisms]

CELL = ["run_id", "ablation", "layer", "head"]


@pytest.fixture(scope="module")
def runs() -> Runs:
    return mechanism_runs(seed=41)


@pytest.fixture(scope="module")
def filled(runs: Runs, fill: Fill) -> Iterator[Con]:
    rows, made = runs
    with with_views() as con:
        fill(con, rows, status={FAILED: "failed"})
        made.insert(con)
        yield con


def near(value: float | None) -> Any:
    return None if value is None else pytest.approx(value, rel=1e-6, abs=1e-7)


def test_the_answer_after_each_layer(filled: Con, runs: Runs) -> None:
    logit_lens = measured_mechanisms(runs[1].tables["logit_lens"]).sort("run_id", "prompt_id", "pos", "layer")
    wanted = []
    for (run_id,), rows in logit_lens.group_by("run_id", maintain_order=True):
        logit, logprob, rank = (rows[name].to_numpy().reshape(-1, 4) for name in ("logit", "logprob", "rank"))
        for layer in range(4):
            ordered = np.sort(rank[:, layer])
            wanted.append(
                (
                    *(run_id, f"model-{run_id}", layer, 25 * layer, len(rank)),
                    *(near(logit[:, layer].mean()), near(logprob[:, layer].mean())),
                    *((rank[:, layer] == 1).mean(), (rank[:, layer] <= 10).mean()),
                    ordered[int(np.ceil(len(rank) / 2)) - 1],
                    (rank[:, layer:] == 1).all(axis=1).mean(),
                )
            )
    found = filled.execute("FROM logit_lens_by_layer").fetchall()
    assert found == wanted
    assert {row[0] for row in found} == {1, 3}
    for run_id in (1, 3):
        *_, last = (row for row in found if row[0] == run_id)
        assert last[-1] == last[7]  # after the last layer nothing changes any more


@pytest.mark.parametrize("n", range(1, 8))
def test_the_median_is_a_rank_that_occurs(n: int, con: Con, fill: Fill, one_row: OneRow) -> None:
    fill(con, [one_row(pos=pos) for pos in range(n)])
    con.execute(f"INSERT INTO logit_lens SELECT 1, 0, pos, 0, 0, 0, 10 * pos + 1 FROM range({n}) AS positions (pos)")
    assert con.execute("SELECT median_rank FROM logit_lens_by_layer").fetchall() == [(10 * ((n + 1) // 2 - 1) + 1,)]


def clustered(values: np.ndarray, prompts: np.ndarray, chosen: np.ndarray) -> tuple[float | None, float | None]:
    """Mean over the chosen rows and its standard error, prompts being what was drawn."""
    if not chosen.any():
        return None, None
    scores = scores_of(values, prompts, chosen)
    n = len(np.unique(prompts[chosen]))
    return float(values[chosen].mean()), float(np.sqrt(n / (n - 1) * (scores**2).sum())) if n > 1 else None


def scores_of(values: np.ndarray, prompts: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """What each prompt moves the mean over the chosen rows."""
    residual = np.where(chosen, values - values[chosen].mean(), 0)
    return np.array([residual[prompts == prompt].sum() for prompt in np.unique(prompts)]) / chosen.sum()


def test_repair_where_the_answer_is_right_and_wrong(filled: Con, runs: Runs) -> None:
    rows, made = runs
    logit_lens = made.tables["logit_lens"].select("run_id", "prompt_id", "pos", "layer", "rank")
    small = [pl.col("run_id", "prompt_id").cast(pl.Int32), pl.col("pos", "layer", "head").cast(pl.Int16)]
    every = with_repair(rows).with_columns(small).join(logit_lens, on=["run_id", "prompt_id", "pos", "layer"])
    place = pl.struct(-pl.col("direct_effect"), "prompt_id", "pos").rank("ordinal").over(CELL)
    top = every.filter(place <= (pl.len() * 2 // 100).clip(lower_bound=1).over(CELL))
    found = {}
    for row in filled.sql("FROM repair_by_logit_lens").pl().to_dicts():
        found[row["population"], *(row[name] for name in CELL)] = row
    n_cells = 0
    for population, frame in (("all", every), ("top2", top)):
        for key, cell in frame.group_by(CELL):
            n_cells += 1
            prompts, right = cell["prompt_id"].to_numpy(), (cell["rank"] == 1).to_numpy()
            repair, effect = (cell[name].to_numpy() / STEPS for name in ("self_repair", "direct_effect"))
            wanted = {"n_right": right.sum(), "n_wrong": (~right).sum()}
            for side, chosen in (("right", right), ("wrong", ~right)):
                for name, values in (("self_repair", repair), ("direct_effect", effect)):
                    mean, error = clustered(values, prompts, chosen)
                    wanted |= {f"mean_{name}_{side}": mean, f"mean_{name}_{side}_se": error}
            if right.any() and not right.all():
                scores = scores_of(repair, prompts, ~right) - scores_of(repair, prompts, right)
                n = len(scores)
                wanted["self_repair_difference"] = repair[~right].mean() - repair[right].mean()
                wanted["self_repair_difference_se"] = np.sqrt(n / (n - 1) * (scores**2).sum()) if n > 1 else None
            else:
                wanted["self_repair_difference"] = wanted["self_repair_difference_se"] = None
            for name, value in wanted.items():
                assert found[population, *key][name] == near(value), (population, key, name)
    assert len(found) == n_cells
    assert any(row["mean_self_repair_right"] is None for row in found.values())
    assert any(row["mean_self_repair_wrong_se"] is None for row in found.values())
    assert sum(row["self_repair_difference_se"] is not None for row in found.values()) > 10


def test_a_wrong_answer_by_hand(con: Con, fill: Fill, one_row: OneRow) -> None:
    """The answer is read after the head's own layer, 2: there it is right at position 1 and wrong at 2 and 3."""
    changes = {1: -3.0, 2: -4.0, 3: -1.0}  # self-repair is logit_change + 4
    fill(con, [one_row(pos=pos, logit_change=change) for pos, change in changes.items()])
    for layer, ranks in ((1, (5, 1, 1)), (2, (1, 2, 9)), (3, (1, 1, 7))):
        for pos, rank in zip(changes, ranks, strict=True):
            con.execute("INSERT INTO logit_lens VALUES (1, 0, ?, ?, 0, 0, ?)", [pos, layer, rank])
    found = con.execute(
        "SELECT n_right, n_wrong, mean_self_repair_right, mean_self_repair_wrong, self_repair_difference, "
        "self_repair_difference_se FROM repair_by_logit_lens WHERE population = 'all'"
    ).fetchall()
    assert found == [(1, 2, 1, 1.5, 0.5, None)]
    settled = con.execute("SELECT layer, top1_share, top1_from_here_share FROM logit_lens_by_layer").fetchall()
    third = pytest.approx(1 / 3)
    assert settled == [(1, pytest.approx(2 / 3), 0), (2, third, third), (3, pytest.approx(2 / 3), pytest.approx(2 / 3))]


def test_no_rows_no_answer(con: Con, fill: Fill, one_row: OneRow) -> None:
    for view in ("logit_lens_by_layer", "repair_by_logit_lens"):
        assert con.execute(f"FROM {view}").fetchall() == []
    fill(con, [one_row()])
    for view in ("logit_lens_by_layer", "repair_by_logit_lens"):
        assert con.execute(f"FROM {view}").fetchall() == []
