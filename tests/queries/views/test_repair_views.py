"""The self-repair views against a plain reference in exact arithmetic: integers in steps of 1e-4, fractions."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import duckdb
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from selfrepair.queries.catalog.relations import relations, views
from selfrepair.warehouse.schema import ABLATIONS, EFFECTS
from support.empty import compute, with_views
from support.repair_reference import STEPS, Group, Head, Row, Shared, reference, stored, summary
from support.tiers import examples

Fill = Callable[..., None]
OneRow = Callable[..., Row]

GRAINS = {
    "head_repair": ("run_id", "ablation", "population", "layer", "head"),
    "layer_repair": ("run_id", "ablation", "population", "layer"),
    "model_repair": ("run_id", "ablation", "population"),
}


def fetched(con: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    cursor = con.execute(query)
    names = [column[0] for column in cursor.description or []]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@st.composite
def measured_rows(draw: st.DrawFn) -> list[Row]:
    """Measurements of 1 to 3 runs in steps of 1e-4: few distinct values, so that ties and zeros are common."""
    rows: list[Row] = []
    for run_id in range(1, draw(st.integers(1, 3)) + 1):
        random = Random(draw(st.integers(0, 2**32)))  # one draw, where st.randoms would take one a number
        spread = draw(st.sampled_from([0, 2, 50, 30_000]))
        n_positions = draw(st.sampled_from([1, 2, 49, 50, 99]))
        heads = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=3, unique=True))
        ablations = draw(st.lists(st.sampled_from(ABLATIONS), min_size=1, max_size=3, unique=True))
        no_part = draw(st.sampled_from([{}, {"repair_post_norm": None}]))
        for layer, head in heads:
            for prompt_id in range(draw(st.integers(1, 5))):
                for pos in range(n_positions):
                    direct_effect = random.randint(-spread, spread)
                    for ablation in ablations:
                        effects = {name: random.randint(-spread, spread) for name in EFFECTS}
                        place = {"prompt_id": prompt_id, "pos": pos, "layer": layer, "head": head}
                        row = {"run_id": run_id, "ablation": ablation, **place, **effects}
                        rows.append({**row, "direct_effect": direct_effect, **no_part})
    return rows


@settings(examples(3, 6), phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    rows=measured_rows(),
    prompts_in_document=st.integers(1, 2),
    shared=st.sampled_from([{}, {1: (0, 1)}, {2: (1, 30), 4: (0, 100)}, {1: (0, 100), 3: (2, 100)}]),
)
def test_views_equal_the_reference(rows: list[Row], prompts_in_document: int, shared: Shared, fill: Fill) -> None:
    with with_views() as con:
        fill(con, map(stored, rows), prompts_in_document=prompts_in_document, shared=shared)
        compute(con, *GRAINS)
        for view, grain in GRAINS.items():
            expected = reference(rows, grain, prompts_in_document, shared)
            found = {tuple(row[name] for name in grain): row for row in fetched(con, f"FROM {view}")}
            assert found.keys() == expected.keys()
            for group, numbers in expected.items():
                for name, value in numbers.items():
                    wanted = (
                        None
                        if value is None
                        else pytest.approx(value, rel=_tolerance(name), abs=_rounding(numbers, name))
                    )
                    assert found[group][name] == wanted, (view, group, name)


def _tolerance(name: str) -> float:
    return 5e-3 if name.endswith(("_low", "_high")) else 1e-4 if name.endswith("_se") else 1e-5


def _rounding(numbers: Mapping[str, Any], name: str) -> float:
    """Errors of values that are 32-bit floats: a standard error near 0 is a difference of large sums, ends of an interval
    are differences of value and width; those of Fieller's, the root of a difference, which may be 0.
    """
    estimate = name.removesuffix("_se").removesuffix("_low").removesuffix("_high")
    if name == estimate:
        return 1e-9
    width = (numbers.get(f"{estimate}_high") or 0) - (numbers.get(f"{estimate}_low") or 0)
    is_root = "fraction" in name and not name.startswith("clipped") and not name.endswith("_se")
    return (5e-4 if is_root else 1e-6) * (1 + abs(numbers[estimate] or 0)) + 2e-3 * width


@settings(examples(1, 2))
@given(rows=measured_rows())
@pytest.mark.slow
def test_a_view_has_one_row_per_grain(rows: list[Row], fill: Fill) -> None:
    with with_views() as con:
        fill(con, map(stored, rows))
        compute(con, *(view.name for view in views()))
        for view in views():
            grain = ", ".join(view.grain)
            repeated = con.execute(f"SELECT {grain} FROM {view.name} GROUP BY {grain} HAVING count(*) > 1").fetchall()
            assert repeated == [], view.name


@pytest.mark.parametrize("effect", [0.05379999801516533, 0.08339999616146088, 0.009599999524652958])
def test_repair_of_the_whole_effect_is_not_over_repair(
    con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow, effect: float
) -> None:
    """Effects as part files have them, a last digit below the 32-bit number of the same whole step."""
    fill(con, [one_row(direct_effect=effect, ablated_direct_effect=0.0, logit_change=0.0)])
    (row,) = fetched(con, "FROM head_repair WHERE population = 'all'")
    assert (row["overrepaired_share"], row["repaired_share"]) == (0, 1)


def test_self_repair_names_what_was_measured(con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow) -> None:
    fill(con, [one_row()])
    (row,) = fetched(con, "FROM self_repair")
    assert row == {
        "run_id": 1,
        "model": "model-1",
        "ablation": "resample",
        "prompt_id": 0,
        "pos": 1,
        "layer": 2,
        "head": 1,
        "label": "L2H1",
        "token": "t1",
        "target_id": 2,
        "target": "t2",
        "foil": None,
        "clean_logprob": -1.0,
        "clean_rank": 1,
        "clean_entropy": 2.0,
        "repeats_prompt_id": None,
        "direct_effect": 5.0,
        "ablated_direct_effect": 1.0,
        "removed_effect": 4.0,
        "logit_change": -3.0,
        "self_repair": 1.0,
        "repair_layernorm": 0.5,
        "repair_attention": 0.25,
        "repair_mlp": 0.375,
        "repair_post_norm": None,
        "ln_scale_ratio": 1.125,
        "status": "complete",
    }


def test_head_repair_by_hand(con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow) -> None:
    fill(
        con,
        [
            one_row(),
            one_row(pos=2, direct_effect=0.0, ablated_direct_effect=1.0, logit_change=-1.0, repair_layernorm=-2.0),
            one_row(pos=3, direct_effect=1.0, ablated_direct_effect=0.0, logit_change=3.0, repair_layernorm=4.5),
        ],
    )
    (row,) = fetched(con, "FROM head_repair WHERE population = 'all'")
    assert (row["model"], row["label"], row["depth"], row["n_rows"]) == ("model-1", "L2H1", 50.0, 3)
    assert (row["mean_direct_effect"], row["mean_removed_effect"]) == (2.0, pytest.approx(4 / 3))
    assert row["mean_self_repair"] == 1.0  # of 1, -2 and 4
    assert (row["undefined_ratios"], row["clipped_layernorm_fraction"]) == (1, 0.55)  # of 0.5 / 5 and 4.5 / 1
    assert row["layernorm_fraction_of_effect"] == 0.5  # (0.5 - 2 + 4.5) / (5 + 0 + 1)
    assert row["layernorm_fraction_of_removed"] == 0.75  # the same / (4 - 1 + 1)
    assert row["repaired_share"] == pytest.approx(2 / 3)
    assert row["overrepaired_share"] == pytest.approx(1 / 3)  # 4 > 1; not 1 > 5, not -2 > 0


def test_no_self_repair_is_exactly_zero(con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow) -> None:
    """0.3 - (0.1 - 0.2) and the like are not exact in binary: a row without repair must not count as repaired."""
    effects = [(de, ade, ade - de) for de in range(-40, 41, 7) for ade in range(-40, 41, 3)]
    rows = [
        one_row(pos=pos, direct_effect=de / STEPS, ablated_direct_effect=ade / STEPS, logit_change=change / STEPS)
        for pos, (de, ade, change) in enumerate(effects)
    ]
    fill(con, rows)
    assert con.execute("SELECT DISTINCT self_repair FROM self_repair").fetchall() == [(0.0,)]
    assert con.execute("SELECT DISTINCT repaired_share FROM model_repair").fetchall() == [(0.0,)]


def test_effects_that_cancel_divide_nothing(con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow) -> None:
    fill(con, [one_row(pos=pos, direct_effect=effect) for pos, effect in enumerate((0.3, -0.1, -0.2))])
    fractions = con.execute("SELECT total_fraction_of_effect FROM head_repair WHERE population = 'all'").fetchall()
    assert fractions == [(None,)]


def test_tops_of_every_size(con: duckdb.DuckDBPyConnection) -> None:
    """A head with n rows has max(1, floor(p % of n)) rows in its top p %, for every n; ties go to the first ones."""
    sizes = [*range(1, 420), 1000, 2549, 2550, 2551]
    con.execute(
        "INSERT INTO measurements "
        "SELECT size, ablation, i // 7, i % 7, 0, 0, hash(size, i) % 60, 0, 0, 0, 0, 0, 1, NULL "
        "FROM (SELECT unnest(?) AS size), range(size) AS rows(i), unnest(['zero', 'mean']) AS kinds(ablation)",
        [sizes],
    )
    effects = fetched(con, "SELECT run_id, direct_effect, prompt_id, pos FROM measurements WHERE ablation = 'mean'")
    ordered: dict[int, list[Group]] = defaultdict(list)
    for row in effects:
        ordered[row["run_id"]].append((-row["direct_effect"], row["prompt_id"], row["pos"]))
    cuts = fetched(con, "FROM top_cuts")
    assert {cut["top_percent"] for cut in cuts} == {100, 50, 20, 10, 5, 2.6, 2, 1.4, 1, 0.5}
    assert len(cuts) == 10 * (len(sizes) + sum(size > 1 for size in sizes))  # one row is the first: without it, none
    for cut in cuts:
        places = sorted(place for place in ordered[cut["run_id"]] if cut["with_first"] or place[2] > 0)
        n_top = max(1, round(10 * cut["top_percent"]) * len(places) // 1000)
        assert cut["n_top"] == n_top
        assert (-cut["cut_effect"], cut["cut_prompt_id"], cut["cut_pos"]) == places[n_top - 1]


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say(con: duckdb.DuckDBPyConnection) -> None:
    """300 draws of 40 prompts whose rows share a prompt's effect: 95 % intervals hold the true fraction in 92 to 98 %.

    Taken for independent, the same rows would hold it in half of the draws.
    """
    con.execute("SELECT setseed(0.42)")
    con.execute(
        """
        INSERT INTO measurements
        WITH prompts AS (
            SELECT run_id, prompt_id, 1 + random() AS effect, random() - 0.5 AS luck
            FROM range(300) AS runs(run_id), range(40) AS prompts(prompt_id)
        ),
        rows AS (
            SELECT run_id, prompt_id, pos, round(effect + 0.2 * (random() - 0.5), 4) AS effect, luck
            FROM prompts, range(1, 16) AS positions(pos)
        )
        SELECT run_id, 'zero', prompt_id, pos, 0, 0, effect, 0, 0, round(effect * (0.3 + 0.4 * luck), 4), 0, 0, 1, NULL
        FROM rows
        """
    )
    con.execute("INSERT INTO prompts SELECT DISTINCT run_id, prompt_id, prompt_id, NULL, [0], '' FROM measurements")
    con.execute("SET threads = 1")
    estimates = "FROM repair_estimates WHERE population = 'all' AND level = 'head' AND estimate = "
    for estimate in ("layernorm_fraction_of_effect", "layernorm_fraction_of_removed", "clipped_layernorm_fraction"):
        query = f"SELECT avg(CAST(0.3 BETWEEN low AND high AS INTEGER)) {estimates}'{estimate}'"
        assert 0.92 <= con.execute(query).fetchall()[0][0] <= 0.98, estimate


def test_failed_runs_are_not_aggregated(con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow) -> None:
    rows = [one_row(run_id=run_id) for run_id in (1, 2, 3)]
    fill(con, rows, status={1: "complete", 2: "failed", 3: "incomplete"})
    for view in GRAINS:
        assert con.execute(f"SELECT DISTINCT run_id FROM {view} ORDER BY 1").fetchall() == [(1,), (3,)]
    assert con.execute("SELECT DISTINCT run_id FROM self_repair ORDER BY 1").fetchall() == [(1,), (2,), (3,)]


def test_the_reference_covers_every_number() -> None:
    """A new number in a view needs a line in the reference."""
    row = dict.fromkeys((*EFFECTS, "removed_effect", "self_repair", "cluster"), 1)
    checked = summary([Head({}, {0}, Counter({1: 1}), [row], [], None)]).keys()
    named = {"model", "label", "depth", "n_heads", "logit_of", "status"}
    for view, grain in GRAINS.items():
        assert {column.name for column in relations()[view].columns} - named - set(grain) == checked


def test_rows_of_a_prompt_that_stands_twice_are_one_observation(
    con: duckdb.DuckDBPyConnection, fill: Fill, one_row: OneRow
) -> None:
    """Six documents; then each of them twice, which is no more knowledge: every estimate keeps its interval."""
    once = [
        one_row(run_id=run_id, prompt_id=prompt_id, pos=pos, direct_effect=2.0 + (prompt_id % 6 * 7 + pos) % 5)
        for run_id, n_prompts in ((1, 6), (2, 12))
        for prompt_id in range(n_prompts)
        for pos in range(8)
    ]
    fill(con, once, shared={6 + prompt_id: (prompt_id, 100) for prompt_id in range(6)})
    both = fetched(
        con,
        "SELECT * EXCLUDE (run_id, n_rows, n_prompts) FROM repair_estimates WHERE population = 'all' AND level = 'head' "
        "ORDER BY estimate, run_id",
    )
    assert len(both) == 58
    for first, second in zip(both[::2], both[1::2], strict=True):
        assert second == pytest.approx(first), first["estimate"]
    marked = con.execute(
        "SELECT repeats_prompt_id, count(*) FROM self_repair WHERE run_id = 2 GROUP BY ALL ORDER BY ALL NULLS FIRST"
    )
    assert marked.fetchall() == [(None, 48), *((prompt_id, 8) for prompt_id in range(6))]
