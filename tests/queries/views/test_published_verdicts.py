"""Which runs are compared with the paper, and which of them agree with it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from selfrepair.queries.marts import refresh as marts
from support.empty import installed
from support.fabricate import fabricate
from support.loaded import stored
from support.published import EARLY, FINAL, NOT_PUBLISHED, runs_of
from support.templates import copied

Fill = Callable[..., None]

OneRow = Callable[..., Mapping[str, Any]]

Con = duckdb.DuckDBPyConnection


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
