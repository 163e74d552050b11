"""Views of neurons, against the single changes of all neurons."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest

from selfrepair.warehouse.schema import CHANGE_SHARES
from support.empty import with_views
from support.mechanisms import Mechanisms, by_population, measured_mechanisms, mechanism_runs
from support.random_runs import FAILED

Fill = Callable[..., None]
OneRow = Callable[..., Mapping[str, Any]]
Con = duckdb.DuckDBPyConnection
Key = tuple[Any, ...]

CELL = ["run_id", "ablation", "population", "layer", "head", "mlp_layer"]
VIEWS = ("neuron_sparsity", "neuron_summary", "anti_erasure", "neuron_consistency", "neuron_top_rows")


@pytest.fixture(scope="module")
def runs() -> tuple[list[dict[str, Any]], Mechanisms]:
    return mechanism_runs(seed=31)


@pytest.fixture(scope="module")
def filled(runs: tuple[list[dict[str, Any]], Mechanisms], fill: Fill) -> Iterator[Con]:
    rows, made = runs
    with with_views() as con:
        fill(con, rows, status={FAILED: "failed"})
        made.insert(con)
        yield con


@pytest.fixture(scope="module")
def cells(runs: tuple[list[dict[str, Any]], Mechanisms]) -> dict[Key, pl.DataFrame]:
    """All neurons of each ablated head and MLP, a row for each row of the head's that counts."""
    neurons = by_population(measured_mechanisms(runs[1].neurons)).sort("prompt_id", "pos", "neuron")
    return dict(neurons.group_by(CELL))  # type: ignore[arg-type]


def by_key(con: Con, view: str, *more: str) -> dict[Key, dict[str, Any]]:
    rows = con.sql(f"FROM {view}").pl().to_dicts()
    found = {tuple(row[name] for name in (*CELL, *more)): row for row in rows}
    assert len(found) == len(rows)
    return found


def matrix(cell: pl.DataFrame, column: str) -> np.ndarray:
    """Rows of the head by neurons."""
    return cell[column].to_numpy().reshape(-1, cell["neuron"].n_unique())


def near(value: float | None) -> Any:
    return None if value is None else pytest.approx(value, rel=1e-8, abs=1e-8)


def test_the_largest_changes_of_each_row(filled: Con, cells: dict[Key, pl.DataFrame]) -> None:
    found = by_key(filled, "neuron_sparsity", "nth")
    assert len(found) == 32 * len(cells)
    for key, cell in cells.items():
        ordered = -np.sort(-abs(matrix(cell, "change")), axis=1)
        by_sign = -np.sort(-matrix(cell, "change"), axis=1)
        effect = matrix(cell, "direct_effect")[:, :1]
        for nth in (1, 2, 16, 32):
            row = found[*key, nth]
            for name, share in CHANGE_SHARES.items():
                assert row[f"{name}_share"] == np.mean(ordered[:, nth - 1] > share * effect[:, 0]), (key, nth, name)
            assert row["n_rows"] == len(ordered)
            assert row["mean_nth_change"] == near(ordered[:, nth - 1].mean())
            assert row["mean_cumulative_change"] == near(ordered[:, :nth].sum(1).mean())
            assert row["cumulative_share"] == near(ordered[:, :nth].sum() / ordered.sum())
            assert row["label"] == f"L{key[3]}H{key[4]}"
            for name, share in CHANGE_SHARES.items():
                assert row[f"signed_{name}_share"] == np.mean(by_sign[:, nth - 1] > share * effect[:, 0]), (
                    key,
                    nth,
                    name,
                )
            assert row["mean_nth_repair"] == near(by_sign[:, nth - 1].mean())
            for name, values in (("change", ordered), ("repair", np.maximum(by_sign, 0))):
                of_rows = values[ordered[:, 0] > 0]
                totals = np.maximum(of_rows.sum(1), 1e-12)
                assert row[f"cumulative_{name}_share"] == near((of_rows[:, :nth].sum(1) / totals).mean()), (key, nth)
        assert found[*key, 32]["cumulative_share"] == near(1)
    assert {row["exceed_10_share"] for row in found.values()} > {0, 1}


def test_what_all_neurons_come_to(filled: Con, cells: dict[Key, pl.DataFrame]) -> None:
    found = by_key(filled, "neuron_summary")
    assert found.keys() == cells.keys()
    for key, cell in cells.items():
        change, clean = matrix(cell, "change"), matrix(cell, "clean_effect")
        effect = matrix(cell, "direct_effect")[:, 0]
        size, positive = abs(change), np.maximum(change, 0)
        anti = np.where(clean < 0, positive, 0)
        shares = np.cumsum(-np.sort(-size, axis=1), axis=1).sum(0) / size.sum()
        wanted = {
            "n_rows": len(change),
            "n_changed": (size.max(1) > 0).sum(),
            "mean_direct_effect": effect.mean(),
            "mean_change": change.sum(1).mean(),
            "mean_absolute_change": size.sum(1).mean(),
            "mean_positive_change": positive.sum(1).mean(),
            "mean_anti_erasure": anti.sum(1).mean(),
            "share_of_effect": change.sum() / effect.sum(),
            "positive_share": positive.sum() / size.sum(),
            "anti_erasure_share": anti.sum() / positive.sum(),
            "neurons_for_half": int(np.argmax(shares >= 0.5 - 1e-12)) + 1,
        }
        for name, value in wanted.items():
            assert found[key][name] == near(value), (key, name)
    assert {key[0] for key in found} == {1, 3}
    rows = {key: cell.select("prompt_id", "pos").unique() for key, cell in cells.items()}
    both = [(rows[key], rows[*key[:2], "top2", *key[3:]]) for key in rows if key[2] == "top2_nobos"]
    assert {not later.join(of_all, on=later.columns, how="anti").is_empty() for later, of_all in both} == {True, False}
    assert all((rows[key]["pos"] > 0).all() for key in rows if key[2] == "top2_nobos")
    assert any((rows[key]["pos"] == 0).any() for key in rows if key[2] == "top2")


def kept(cell: pl.DataFrame) -> pl.DataFrame:
    return cell.filter(pl.col("rank") <= 16, pl.col("change") != 0)


def test_each_neuron_by_how_often_it_counts(filled: Con, cells: dict[Key, pl.DataFrame]) -> None:
    found = by_key(filled, "anti_erasure", "neuron")
    n_neurons = 0
    for key, cell in cells.items():
        whole = cell["change"].sum()
        for (neuron,), rows in kept(cell).group_by("neuron"):
            n_neurons += 1
            change, clean = rows["change"].to_numpy(), rows["clean_effect"].to_numpy()
            wanted = {
                "n_rows": cell.height // 32,
                "n_stored": rows.height,
                "n_first": rows.filter(rank=1).height,
                "n_anti_erasure": int(((change > 0) & (clean < 0)).sum()),
                "mean_clean_effect": clean.mean(),
                "mean_ablated_effect": (clean + change).mean(),
                "mean_change": change.mean(),
                "share_of_mlp": change.sum() / whole if abs(whole) > 1e-9 else None,
            }
            for name, value in wanted.items():
                assert found[*key, neuron][name] == near(value), (key, neuron, name)
    assert len(found) == n_neurons
    assert {row["n_anti_erasure"] for row in found.values()} > {0, 1, 2}


def most_frequent(rows: pl.DataFrame) -> list[int]:
    uses = rows.group_by("neuron").agg(
        pl.len().cast(pl.Int64).alias("n"), pl.col("change").abs().sum().round(4).alias("size")
    )
    return uses.sort(-pl.col("n"), -pl.col("size"), "neuron")["neuron"].to_list()[:10]


def test_whether_it_is_the_same_neurons(filled: Con, cells: dict[Key, pl.DataFrame]) -> None:
    found = by_key(filled, "neuron_consistency")
    assert found.keys() == cells.keys()
    for key, cell in cells.items():
        rows = kept(cell)
        first = Counter(rows.filter(rank=1)["neuron"])
        size = rows.group_by("neuron").agg(pl.col("change").abs().sum().round(4))
        sizes = dict(size.iter_rows())
        halves = [rows.filter(pl.col("prompt_id") % 2 == half) for half in (0, 1)]
        tops = [set(most_frequent(half)) for half in halves]
        smaller = min(len(top) for top in tops)
        wanted = {
            "n_rows": first.total(),
            "neurons_first": len(first),
            "neurons_first_4": rows.filter(pl.col("rank") <= 4)["neuron"].n_unique(),
            "neurons_first_16": rows["neuron"].n_unique(),
            "top_neuron": min(first, key=lambda neuron: (-first[neuron], -sizes[neuron], neuron)),
            "top_neuron_share": max(first.values()) / first.total(),
            "change_share_10": sum(sizes[neuron] for neuron in most_frequent(rows)) / sum(sizes.values()),
            "half_overlap": len(tops[0] & tops[1]) / smaller if smaller else None,
        }
        for name, value in wanted.items():
            assert found[key][name] == near(value), (key, name)
    overlaps = {row["half_overlap"] for row in found.values()}
    assert None in overlaps  # run 3 has a single prompt
    assert len(overlaps) > 5


def test_every_stored_change_with_its_row(filled: Con, runs: tuple[list[dict[str, Any]], Mechanisms]) -> None:
    place = ["run_id", "ablation", "layer", "head", "mlp_layer", "prompt_id", "pos", "neuron"]
    ablated = (pl.col("clean_effect") + pl.col("change")).alias("ablated_effect")
    wanted = kept(measured_mechanisms(runs[1].neurons)).with_columns(ablated).sort(place)
    found = filled.sql("FROM neuron_top_rows").pl().with_columns(pl.col("ablation").cast(pl.String)).sort(place)
    members = ["in_top2", "in_top2_nobos"]
    assert found.select(*place, "rank", *members).rows() == wanted.select(*place, "rank", *members).rows()
    assert len(set(found.select(members).rows())) == 3  # in either top alone, and in both
    for name in ("direct_effect", "clean_effect", "ablated_effect", "change"):
        steps = [frame[name].cast(pl.Float64) * 1e4 for frame in (found, wanted)]
        assert steps[0].round().to_list() == steps[1].round().to_list(), name
    is_anti = (wanted["change"] > 0) & (wanted["clean_effect"] < 0)
    assert found["is_anti_erasure"].equals(is_anti, check_names=False)
    assert found["token"].to_list() == [f"t{pos}" for pos in found["pos"]]
    assert found["target"].to_list() == [f"t{pos + 1}" for pos in found["pos"]]


def test_anti_erasure_by_hand(con: Con, fill: Fill, one_row: OneRow) -> None:
    """Neuron 7 erases 2 logits and then 1.5: anti-erasure; neuron 8 writes more; neuron 9 erases more.

    A second row, at position 0 and so in the top 2 % of all rows alone, has neuron 9 once more.
    """
    fill(con, [one_row()])
    for neuron, clean, ablated, rank in ((7, -2.0, -1.5, 2), (8, 0.5, 1.5, 1), (9, -1.0, -1.25, 3)):
        con.execute(
            "INSERT INTO neuron_changes VALUES (1, 'resample', 0, 1, 2, 1, 3, ?, ?, ?, ?, true, true)",
            [neuron, clean, ablated, rank],
        )
    con.execute("INSERT INTO neuron_changes VALUES (1, 'resample', 0, 0, 2, 1, 3, 9, 1, 5, 1, true, false)")
    con.execute("INSERT INTO neuron_sums VALUES (1, 0, 'resample', 2, 1, 3, 1, 5, 1, 2, 1.5, 0.5, 1, 'top2_nobos')")
    con.execute("INSERT INTO neuron_sums VALUES (1, 0, 'resample', 2, 1, 3, 2, 9, 5, 6, 5.5, 0.5, 2, 'top2')")
    found = con.execute("""
        SELECT neuron, n_rows, n_stored, n_first, n_anti_erasure, mean_change, share_of_mlp
        FROM anti_erasure
        ORDER BY population DESC, neuron
    """).fetchall()
    later = [(7, 1, 1, 0, 1, 0.5, 0.5), (8, 1, 1, 1, 0, 1, 1), (9, 1, 1, 0, 0, -0.25, -0.25)]
    assert found == [*later, (7, 2, 1, 0, 1, 0.5, 0.1), (8, 2, 1, 1, 0, 1, 0.2), (9, 2, 2, 1, 0, 1.875, 0.75)]
    summary = con.execute(
        "SELECT mean_change, positive_share, anti_erasure_share, neurons_for_half FROM neuron_summary ORDER BY population DESC"
    ).fetchall()
    assert summary == [(1, 0.75, pytest.approx(1 / 3), None), (2.5, 5.5 / 6, 0.5 / 5.5, None)]
    found = con.execute("SELECT population, top_neuron, half_overlap FROM neuron_consistency ORDER BY ALL").fetchall()
    assert found == [("top2", 9, None), ("top2_nobos", 8, None)]


def test_nothing_changes_and_no_neuron_does(con: Con, fill: Fill, one_row: OneRow) -> None:
    """As a version before 0.2 stored it: neuron 0 of a row in which nothing changes."""
    fill(con, [one_row()])
    con.execute("INSERT INTO neuron_changes VALUES (1, 'resample', 0, 1, 2, 1, 3, 0, -1, -1, 1, true, false)")
    con.execute("INSERT INTO neuron_sums VALUES (1, 0, 'resample', 2, 1, 3, 1, 0, 0, 0, 0, 0, NULL, 'top2')")
    con.execute(
        "INSERT INTO neuron_curves BY NAME SELECT 1 AS run_id, 0 AS unit, 'resample' AS ablation, 2 AS layer, 1 AS head, "
        "3 AS mlp_layer, 1 AS nth, 0 AS exceed_50, 0 AS exceed_10, 0 AS exceed_5, 0 AS exceed_2_5, 0 AS exceed_1, "
        "0 AS largest_changes, 'top2' AS population"
    )
    assert con.execute(
        "SELECT share_of_effect, positive_share, anti_erasure_share, neurons_for_half FROM neuron_summary"
    ).fetchall() == [(None,) * 4]
    assert con.execute(
        "SELECT cumulative_share, exceed_1_share, signed_exceed_1_share, cumulative_repair_share FROM neuron_sparsity"
    ).fetchall() == [(None, 0, None, None)]
    for view in ("anti_erasure", "neuron_consistency", "neuron_top_rows"):
        assert con.execute(f"FROM {view}").fetchall() == []


def test_no_rows_no_answer(con: Con, fill: Fill, one_row: OneRow) -> None:
    for view in VIEWS:
        assert con.execute(f"FROM {view}").fetchall() == []
    fill(con, [one_row()])
    for view in VIEWS:
        assert con.execute(f"FROM {view}").fetchall() == []
