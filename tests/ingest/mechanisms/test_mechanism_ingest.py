"""Mechanisms through the whole way, as a user types it: stored, resumed, shared among shards, refused."""

from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result

from selfrepair.app.cli.main import main
from selfrepair.ingest.runs import plan
from selfrepair.warehouse.schema import MECHANISM_TABLES
from selfrepair.warehouse.verify.verification import verify
from support import tiny

pytestmark = pytest.mark.usefixtures("without_summaries")

LAYERS, HEADS, PROMPTS, POSITIONS, ABLATIONS = 3, 4, 8, 11, 3
KEYS = {
    "neuron_changes": "ablation, prompt_id, pos, layer, head, mlp_layer, rank",
    "logit_lens": "prompt_id, pos, layer",
    "logprob_changes": "ablation, prompt_id, pos, layer, head",
    "self_repression": "prompt_id, pos, layer, head, added_vector, multiple",
    "self_repression_sums": "prompt_id, layer, head, added_vector, multiple",
}
SUMMED = {
    "edge_sums": (
        "ablation, layer, head, population, target_kind, target_layer, target_head",
        ("n_rows", "change", "squared_change"),
    ),
    "neuron_sums": (
        "ablation, layer, head, mlp_layer, population",
        ("n_rows", "change", "absolute_change", "anti_erasure"),
    ),
    "neuron_curves": (
        "ablation, layer, head, mlp_layer, population, nth",
        ("exceed_50", "exceed_1", "largest_changes"),
    ),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    return tiny.write_texts(tmp_path_factory.mktemp("texts") / "texts.jsonl")


def ingest(model: Path, texts: Path, db: Path, *more: str) -> Result:
    words = ["--dataset", str(texts), "--prompts", str(PROMPTS), "--seq-len", str(POSITIONS + 1), "--device", "cpu"]
    return CliRunner().invoke(main, ["ingest", "--model", str(model), *words, "--db", str(db), *more])


@pytest.fixture(scope="module")
def whole(model, texts, tmp_path_factory) -> Path:
    """One unit, all mechanisms."""
    db = tmp_path_factory.mktemp("whole") / "w.duckdb"
    done = ingest(model, texts, db, "--mechanisms", "--neurons", "all")
    assert done.exit_code == 0, done.output
    return db


def ask(db: Path, query: str) -> list[tuple]:
    with duckdb.connect(str(db), read_only=True) as con:
        return con.execute(query).fetchall()


def test_every_table_has_the_rows_it_must_have(whole):
    head_ablations = LAYERS * HEADS * ABLATIONS
    n_top = {"top2": PROMPTS * POSITIONS // 50, "top2_nobos": PROMPTS * (POSITIONS - 1) // 50}
    mlps_above = sum(HEADS * (LAYERS - layer) for layer in range(LAYERS)) * ABLATIONS
    heads_above = sum(HEADS * HEADS * (LAYERS - 1 - layer) for layer in range(LAYERS)) * ABLATIONS
    later_heads = HEADS  # of three layers, the last one alone
    expected = {
        "neuron_changes": 16 * ask(whole, "SELECT sum(n_changed) FROM neuron_sums")[0][0]
        - ask(whole, "SELECT count(*) FROM neuron_changes WHERE in_top2 AND in_top2_nobos")[0][0],
        "neuron_curves": 2 * mlps_above * 50,
        "neuron_sums": 2 * mlps_above,
        "edge_sums": 2 * (mlps_above + heads_above),
        "routing_sums": 0,  # no experts
        "expert_sums": 0,
        "logit_lens": PROMPTS * POSITIONS * LAYERS,
        "logprob_changes": PROMPTS * POSITIONS * head_ablations,
        "self_repression": PROMPTS * POSITIONS * later_heads * 3 * 3,
        "self_repression_sums": PROMPTS * later_heads * 3 * 3,
    }
    assert {table: ask(whole, f"SELECT count(*) FROM {table}")[0][0] for table in MECHANISM_TABLES} == expected
    rows = "SELECT population, sum(n_rows), sum(n_rows) > sum(n_changed) FROM neuron_sums GROUP BY ALL ORDER BY ALL"
    assert ask(whole, rows) == [
        ("top2", mlps_above * n_top["top2"], True),
        ("top2_nobos", mlps_above * n_top["top2_nobos"], False),
    ]
    assert ask(whole, "SELECT count(*) FROM neuron_changes WHERE ablation = 'resample' AND pos = 0") == [(0,)]
    assert ask(whole, "SELECT mechanisms, given_heads FROM runs") == [
        (["edges", "neurons_all", "logit_lens", "logprobs", "self_repression"], [])
    ]


def test_neurons_are_of_the_rows_that_the_views_call_top(whole):
    for population, condition in (("top2", "true"), ("top2_nobos", "pos > 0")):
        top = f"""
            SELECT ablation, layer, head, prompt_id, pos FROM measurements WHERE {condition}
            QUALIFY
                row_number() OVER (PARTITION BY ablation, layer, head ORDER BY direct_effect DESC, prompt_id, pos)
                <= count(*) OVER (PARTITION BY ablation, layer, head) // 50
        """
        rows = f"SELECT DISTINCT ablation, layer, head, prompt_id, pos FROM neuron_changes WHERE in_{population}"
        found = ask(whole, f"SELECT count(*) FROM ({rows})")
        assert found == ask(
            whole, f"SELECT sum(n_changed) FROM neuron_sums WHERE population = '{population}' AND mlp_layer = 2"
        )
        assert ask(whole, f"SELECT count(*) FROM ({rows} EXCEPT ({top}))") == [(0,)]


def test_the_warehouse_holds_to_every_rule(whole):
    assert [check for check in verify(whole) if not check.ok] == []


@pytest.mark.slow
def test_units_and_shards_bring_the_same_numbers(model, texts, whole, tmp_path, monkeypatch):
    db, parts = tmp_path / "w.duckdb", tmp_path / "parts"
    options = ("--mechanisms", "--neurons", "all", "--parts", str(parts), "--batch-size", "5")
    for shard in ("2/2", "1/2"):
        done = ingest(model, texts, db, *options, "--shard", shard)
        assert done.exit_code == 0, done.output
    assert CliRunner().invoke(main, ["load", str(parts), "--db", str(db)]).exit_code == 0
    assert ask(db, "SELECT count(*) FROM units") == [(8,)]
    assert [check for check in verify(db) if not check.ok] == []
    for table, key in KEYS.items():
        rows = f"SELECT COLUMNS(c -> c <> 'run_id') FROM {table} ORDER BY {key}"
        assert_close(ask(db, rows), ask(whole, rows), within=1.01e-4)
    for table, (key, sums) in SUMMED.items():
        added = ", ".join(f"sum({name})::DOUBLE" for name in sums)
        rows = f"SELECT {key}, {added} FROM {table} GROUP BY ALL ORDER BY ALL"
        assert_close(ask(db, rows), ask(whole, rows), within=1e-4)


def assert_close(found: list[tuple], expected: list[tuple], within: float) -> None:
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        for value, other in zip(mine, theirs, strict=True):
            assert value == (pytest.approx(other, abs=within) if isinstance(other, float) else other)


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_all_its_mechanisms(model, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "ROWS_IN_UNIT", 900)
    db = tmp_path / "w.duckdb"
    calls = []
    through = run_module().mechanism_columns

    def fails_at_the_third(run_plan, unit, measured):
        calls.append(unit.number)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return through(run_plan, unit, measured)

    monkeypatch.setattr(run_module(), "mechanism_columns", fails_at_the_third)
    done = ingest(model, texts, db, "--mechanisms")
    assert "2 of 4 units are finished and safe" in done.output
    done = ingest(model, texts, db, "--mechanisms")
    assert done.exit_code == 0, done.output
    assert calls == [0, 1, 2, 2, 3]
    assert [check for check in verify(db) if not check.ok] == []
    assert ask(db, "SELECT count(DISTINCT unit) FROM edge_sums") == [(4,)]


def run_module():
    from selfrepair.ingest.runs import runner

    return runner


@pytest.mark.slow
def test_given_heads_make_a_run_of_their_own_that_is_cross_checked(model, texts, tmp_path):
    db = tmp_path / "w.duckdb"
    for more in ((), ("--given", "L0H1,L1H2")):
        for ablation in ("mean", "resample"):
            done = ingest(model, texts, db, "--ablation", ablation, *more)
            assert done.exit_code == 0, done.output
            assert "complete" in done.output
    assert ask(db, "SELECT given_heads, count(*) FROM runs GROUP BY ALL ORDER BY ALL") == [
        ([], 2),
        (["L0H1", "L1H2"], 2),
    ]
    given = "run_id IN (SELECT run_id FROM runs WHERE len(given_heads) > 0)"
    ablated = ask(db, f"SELECT DISTINCT layer, head FROM measurements WHERE {given}")
    assert (0, 1) not in ablated
    assert len(ablated) == LAYERS * HEADS - 2
    assert [check for check in verify(db) if not check.ok] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--given", "L9H9", "--ablation", "mean"),
            "--given L9H9 is not in the model, whose heads go from L0H0 to L2H3",
        ),
        (("--given", "9.9"), "--given 9.9 is not a head. Write for example L9H6,L9H9"),
        (("--given", ","), "--given is empty"),
        (("--given", "L0H1"), "--given needs a single --ablation, such as --ablation resample"),
        (("--given", "L0H1", "--ablation", "mean", "--heads", "L0H1,L1H1"), "L0H1 is in --heads and in --given"),
        (("--given", "L0H0,L0H1,L0H2,L0H3", "--ablation", "mean", "--layers", "0"), "--given leaves no head to ablate"),
        (("--self-repression", "--layers", "0"), "Select some, such as --layers 2, or leave"),
        (("--self-repression", "--layers", "7"), "--layers 7 is not in the model"),
        (("--neurons", "first"), "'first' is not one of 'last', 'all', 'none'"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_words(model, texts, tmp_path, options, message):
    db = tmp_path / "w.duckdb"
    done = ingest(model, texts, db, *options)
    assert done.exit_code != 0
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output
    assert not db.exists()
