"""Re-routing through the whole way, as a user types it: stored, resumed, verified, and left out of models without experts."""

import re
from pathlib import Path

import duckdb
import pytest
import torch
from click.testing import CliRunner, Result

from selfrepair.app.cli.main import main
from selfrepair.ingest.runs import plan
from selfrepair.warehouse.verify.verification import verify
from support import sweep, tiny

PROMPTS, POSITIONS, NEVER = 6, 11, 3
KEY = "ablation, layer, head, population, mlp_layer"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A gpt-oss of two layers, whose routers never choose the last of four experts."""
    folder = tmp_path_factory.mktemp("model") / "small"
    built = sweep.build("gpt_oss").to(torch.float32)
    with torch.no_grad():
        for layer in built.model.layers:
            layer.mlp.router.bias[NEVER] = -1e4
    built.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    return tiny.write_texts(tmp_path_factory.mktemp("texts") / "texts.jsonl")


def ingest(model: Path, texts: Path, db: Path, *more: str) -> Result:
    words = ["--dataset", str(texts), "--prompts", str(PROMPTS), "--seq-len", str(POSITIONS + 1), "--device", "cpu"]
    done = CliRunner().invoke(
        main, ["ingest", "--model", str(model), *words, "--crosscheck", "2", "--db", str(db), *more]
    )
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(scope="module")
def whole(model, texts, tmp_path_factory) -> Path:
    db = tmp_path_factory.mktemp("whole") / "w.duckdb"
    ingest(model, texts, db)
    return db


def ask(db: Path, query: str) -> list[tuple]:
    with duckdb.connect(str(db), read_only=True) as con:
        return con.execute(query).fetchall()


def test_experts_are_measured_unless_they_are_not_wanted(whole, model, texts, tmp_path):
    assert ask(whole, "SELECT mechanisms FROM runs") == [(["edges", "experts", "logit_lens"],)]
    assert [check for check in verify(whole) if not check.ok] == []
    # three pairs of a layer and an MLP at or above it
    assert ask(whole, "SELECT count(*), min(n_experts), max(n_experts) FROM routing_sums") == [(4 * 3 * 3 * 2, 4, 4)]
    assert ask(whole, "SELECT sum(rerouted_rows) > 0, sum(chosen_experts) = 2 * sum(n_rows) FROM routing_sums") == [
        (True, True)
    ]
    without = tmp_path / "w.duckdb"
    ingest(model, texts, without, "--no-experts", "--ablation", "zero", "--layers", "1")
    assert ask(without, "SELECT mechanisms FROM runs") == [(["edges", "logit_lens"],)]
    assert ask(without, "SELECT count(*) FROM routing_sums") == [(0,)]


def test_an_expert_that_is_never_chosen_has_no_rows_and_no_means(whole):
    assert ask(whole, f"SELECT count(*) FROM expert_sums WHERE expert = {NEVER}") == [(0,)]


@pytest.mark.slow
def test_a_dry_run_counts_the_experts(model, texts, whole, tmp_path):
    db = tmp_path / "w.duckdb"
    sizes = []
    for more in ((), ("--no-experts",)):
        said = ingest(model, texts, db, "--dry-run", "--ablation", "zero", *more).output
        sizes.append(int(re.search(r"about ([\d,]+) in a new warehouse", said)[1].replace(",", "")))
    # four heads with two MLPs above them and four with one, in two populations; a unit and the run's summary
    assert sizes[0] - sizes[1] == pytest.approx(4 * (2 + 1) * 2 * 2 * (4 * 20 + 30), abs=2)


@pytest.mark.slow
def test_units_bring_the_same_sums(model, texts, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "ROWS_IN_UNIT", 2 * POSITIONS * 24)
    db = tmp_path / "w.duckdb"
    ingest(model, texts, db, "--batch-size", "5")
    assert ask(db, "SELECT count(*) FROM units") == [(3,)]
    assert [check for check in verify(db) if not check.ok] == []
    for table, key, sums in (
        ("routing_sums", KEY, ("n_rows", "rerouted_rows", "replaced_experts", "weight_distance", "change")),
        ("expert_sums", f"{KEY}, expert", ("clean_rows", "ablated_rows", "change", "kept_change")),
    ):
        rows = (
            f"SELECT {key}, {', '.join(f'sum({name})::DOUBLE' for name in sums)} FROM {table} GROUP BY ALL ORDER BY ALL"
        )
        found, expected = ask(db, rows), ask(whole, rows)
        assert len(found) == len(expected)
        for mine, theirs in zip(found, expected, strict=True):
            assert mine[:-5] == theirs[:-5]
            assert mine[-4:] == pytest.approx(theirs[-4:], abs=1e-4)
