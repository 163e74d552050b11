"""A run against the paper's own numbers: matched, correlated, judged; against scipy, and where nothing is to be said."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from scipy import stats

from selfrepair.queries.marts import refresh as marts
from support.empty import installed
from support.fabricate import fabricate
from support.loaded import stored
from support.published import EARLY, FINAL, NOT_PUBLISHED
from support.templates import copied

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


def runs_of(con: Con, view: str) -> set[int]:
    return {run_id for (run_id,) in con.execute(f"SELECT DISTINCT run_id FROM {view}").fetchall()}


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


@pytest.mark.parametrize(
    ("change", "verdict", "reason"),
    [
        (
            "UPDATE selfrepair_marts.text_logprobs SET mean_logprob = -10",
            "differs",
            "the model does not predict its text",
        ),
        ("UPDATE models SET d_vocab = 400", "not enough data", "whether the model predicts its text is not certain"),
        (
            "UPDATE selfrepair_marts.repair_means SET mean_direct_effect = 0.1 WHERE level = 'model'",
            "differs",
            "direct effects are below half of the published ones",
        ),
        (
            "UPDATE selfrepair_marts.repair_means SET mean_direct_effect_se = 9 WHERE level = 'model'",
            "not enough data",
            "direct effects may be below half of the published ones",
        ),
        ("UPDATE selfrepair_marts.repair_means SET n_clusters = 11", "not enough data", "fewer than 12 documents"),
    ],
)
def test_what_is_no_trained_model_agrees_on_nothing(changed: Con, change: str, verdict: str, reason: str) -> None:
    agreed = f"SELECT claim FROM reproduction_claims WHERE run_id = {FINAL} AND verdict = 'agrees'"
    before = changed.execute(agreed).fetchall()
    assert before
    changed.execute(change)
    found = changed.execute(f"SELECT claim, verdict, reason FROM reproduction_claims WHERE run_id = {FINAL}").fetchall()
    for (claim,) in before:
        assert (claim, verdict, reason) in found
    assert "agrees" not in {row[1] for row in found}


@pytest.mark.parametrize(("ratio", "verdict"), [(1.006, "agrees"), (1.003, "differs"), (1.00499, "not enough data")])
def test_a_bound_in_words_has_to_be_exceeded_by_the_margin(changed: Con, ratio: float, verdict: str) -> None:
    """However sure it is that the mean scale ratio is above 1: below 1.005 it does not count."""
    se = 0 if verdict != "not enough data" else 0.01
    changed.execute(
        f"UPDATE selfrepair_marts.repair_means SET mean_ln_scale_ratio = {ratio}, mean_ln_scale_ratio_se = {se}"
    )
    found = changed.execute(
        f"SELECT verdict FROM reproduction_claims WHERE run_id = {FINAL} AND claim = 'norm_ratio'"
    ).fetchall()
    assert found == [(verdict,)]


@pytest.mark.parametrize("n_prompts", [2, 16])
def test_effects_at_random_agree_on_nothing(n_prompts: int, tmp_path: Path) -> None:
    """Even where the text is predicted and effects are large: no head does the same to all its rows."""
    run = fabricate(
        "random",
        n_units=1,
        prompts_per_unit=n_prompts,
        n_layers=12,
        n_heads=12,
        ablations=("resample",),
        model="gpt2",
        seed=n_prompts,
    )
    model = replace(run.record.model, checkpoint=None, revision=None, d_vocab=50_257)
    ours = [replace(unit, prompts=unit.prompts | {"document_id": unit.prompts["prompt_id"]}) for unit in run.units]
    run = replace(run, record=replace(run.record, given_heads=(), model=model), units=ours)
    with duckdb.connect(str(stored(tmp_path, run))) as con:
        verdicts = con.execute("SELECT verdict, reason FROM reproduction_claims").fetchall()
        agreements = con.execute("SELECT verdict FROM reproduction_agreement").fetchall()
    assert len(verdicts) == 7
    assert {verdict for verdict, _ in verdicts} <= {"differs", "not enough data", "unclear"}
    assert not any("predict" in reason for _, reason in verdicts)
    if n_prompts == 2:
        assert set(verdicts) == {("not enough data", "fewer than 12 documents")}
    assert ("agrees",) not in agreements


def untrained(folder: Path) -> None:
    """A file `w.duckdb` in `folder`: a GPT-2 of the published shape with random weights in a folder named gpt2, measured."""
    from selfrepair.app.cli.main import main
    from support import tiny

    model, texts = tiny.save_shaped(folder / "gpt2", n_layers=12, n_heads=12), folder / "texts.jsonl"
    tiny.write_texts(texts, 300)
    typed = ["--model", str(model), "--dataset", str(texts), "--packing", "document", "--prompts", "300"]
    typed += ["--seq-len", "16", "--ablation", "resample", "--no-edges", "--neurons", "none", "--no-logit-lens"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("selfrepair.ingest.runs.plan.N_CROSSCHECKS", 2)  # of 64, which take most of the time
        done = CliRunner().invoke(main, ["ingest", *typed, "--device", "cpu", "--db", str(installed(folder))])
    assert done.exit_code == 0, done.output


@pytest.mark.slow
@pytest.mark.parametrize("n_prompts", [2, 64, 300])
def test_an_untrained_model_agrees_on_nothing(n_prompts: int, tmp_path: Path) -> None:
    """Over all its prompts or the first of them; also if it predicted its text."""
    pytest.importorskip("torch", reason="measuring needs the ingest extra")
    with duckdb.connect(str(copied(tmp_path, "untrained", untrained))) as con:
        if n_prompts < 300:
            for table in ("measurements", "tokens", "prompts"):
                con.execute(f"DELETE FROM {table} WHERE prompt_id >= {n_prompts}")
            con.execute(f"UPDATE runs SET n_prompts = {n_prompts}")
            marts.refresh(con, [1])
        for change in ("SELECT 1", "UPDATE tokens SET clean_logprob = clean_logprob / 100"):
            con.execute(change)
            verdicts = con.execute("SELECT verdict FROM reproduction_claims").fetchall()
            assert len(verdicts) == 7
            assert set(verdicts) <= {("differs",), ("not enough data",), ("unclear",)}
            assert ("agrees",) not in con.execute("SELECT verdict FROM reproduction_agreement").fetchall()


def test_half_the_heads_make_no_verdict(changed: Con) -> None:
    """The run as it would be summarised with its last six layers unmeasured."""
    for mart in ("repair_means", "tail_numbers"):
        changed.execute(f"DELETE FROM selfrepair_marts.{mart} WHERE run_id = {FINAL} AND layer >= 6")
    changed.execute(f"UPDATE selfrepair_marts.repair_means SET n_heads = 72 WHERE run_id = {FINAL} AND level = 'model'")
    found = changed.execute(
        "SELECT n_heads, n_published_heads, verdict, count(*), count(value) FROM reproduction_claims "
        f"WHERE run_id = {FINAL} GROUP BY ALL"
    ).fetchall()
    assert found == [(72, 144, None, 6, 6)]
    found = changed.execute(f"SELECT DISTINCT n_heads FROM reproduction_agreement WHERE run_id = {FINAL}").fetchall()
    assert found == [(72,)]


@pytest.mark.parametrize("n_heads", [2, 3, 4])
def test_few_heads_have_no_interval(changed: Con, n_heads: int) -> None:
    """The run as it would be summarised with so many heads measured."""
    changed.execute(
        f"DELETE FROM selfrepair_marts.repair_means WHERE run_id = {FINAL} AND level = 'head' "
        f"AND NOT (layer = 8 AND head < {n_heads})"
    )
    found = changed.execute(
        "SELECT n_heads, spearman, spearman_low, spearman_high FROM reproduction_agreement"
    ).fetchall()
    assert {row[0] for row in found} == {n_heads}
    assert all(row[1] is not None for row in found)
    intervals = {row[2:] for row in found if abs(row[1]) < 0.999}
    if n_heads <= 3:
        assert intervals <= {(None, None)}
    else:
        assert intervals
        assert all(low < high for low, high in intervals)
    verdicts = changed.execute("SELECT DISTINCT verdict FROM reproduction_agreement").fetchall()
    assert set(verdicts) == {("not enough data",), (None,)}  # 4 heads leave more than 0.3 of the correlation open


def test_only_the_published_models_final_weights_are_compared(filed: Con) -> None:
    for view in ("reproduction", "reproduction_agreement", "reproduction_claims"):
        assert runs_of(filed, view) == {FINAL}, view
    assert runs_of(filed, "head_repair") == {EARLY, FINAL, NOT_PUBLISHED}
    assert filed.execute("SELECT DISTINCT ablation FROM reproduction").fetchall() == [("resample",)]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE runs SET given_heads = ['L0H1']",
        "UPDATE runs SET status = 'failed'",
        "UPDATE models SET checkpoint = 512",
        "UPDATE models SET revision = 'step512'",
        "UPDATE models SET revision = 'another'",
        "UPDATE models SET n_heads = 16",
        "UPDATE models SET name = name || '-copy'",
    ],
)
def test_what_is_another_model_is_not_compared(changed: Con, change: str) -> None:
    changed.execute(f"{change} WHERE model_id = (SELECT model_id FROM runs WHERE run_id = {FINAL})")
    for view in ("reproduction", "reproduction_agreement", "reproduction_claims"):
        assert runs_of(changed, view) == set(), view


@pytest.mark.parametrize("name", ["pythia-160m", "Mirror/Pythia-160M", "a/b/pythia-160m"])
def test_a_model_is_recognised_by_its_last_name(changed: Con, name: str) -> None:
    changed.execute("UPDATE models SET name = ? WHERE name = 'EleutherAI/pythia-160m'", [name])
    assert FINAL in runs_of(changed, "reproduction")


def test_the_main_revision_is_the_final_weights(changed: Con) -> None:
    changed.execute("UPDATE models SET revision = 'main'")
    assert runs_of(changed, "reproduction") == {FINAL}


def test_several_runs_of_a_model_are_each_compared(changed: Con) -> None:
    changed.execute("UPDATE models SET checkpoint = NULL")
    for view in ("reproduction", "reproduction_agreement", "reproduction_claims"):
        assert runs_of(changed, view) == {EARLY, FINAL}, view
    counted = changed.execute("SELECT run_id, count(*) FROM reproduction GROUP BY ALL ORDER BY ALL").fetchall()
    assert counted == [(EARLY, 144 * 31), (FINAL, 144 * 31)]


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
