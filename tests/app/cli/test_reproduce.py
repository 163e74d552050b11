"""`selfrepair reproduce`: what it asks to be measured, and its report on a run whose numbers are known."""

import json
from dataclasses import replace
from pathlib import Path

import click
import duckdb
import pytest
from click.testing import CliRunner

from selfrepair import Warehouse
from selfrepair.app.cli import reproduce as module
from selfrepair.app.cli.main import main
from selfrepair.app.cli.reproduce import PROTOCOL, TokenCount, n_prompts
from selfrepair.app.cli.reproduce_report import reproduce_report
from selfrepair.app.data.published import HUB_IDS, QUANTITIES, SHAPES
from selfrepair.app.wording.columns import words
from selfrepair.warehouse.errors import SelfRepairError
from support.published import EARLY, FINAL, NOT_PUBLISHED, compared


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compared(tmp_path_factory.mktemp("my runs"))


@pytest.fixture(scope="module")
def report(db: Path) -> str:
    return reproduce_report(db, FINAL, "pythia-160m")


@pytest.mark.parametrize(
    ("typed", "tokens"), [("100k", 100_000), ("1.5M", 1_500_000), ("0.2k", 200), ("127", 127), ("1M", 1_000_000)]
)
def test_tokens_can_be_typed_short(typed: str, tokens: int) -> None:
    assert TokenCount().convert(typed, None, None) == tokens


@pytest.mark.parametrize("typed", ["", "many", "-1k", "0", "1e5", "1 k", "1K"])
def test_what_is_no_number_of_tokens_says_how_to_write_one(typed: str) -> None:
    with pytest.raises(click.BadParameter, match=r"Write it as 100000, 100k or 1\.5M"):
        TokenCount().convert(typed, None, None)


@pytest.mark.parametrize(
    ("tokens", "prompts"), [(1, 31), (31 * 127, 31), (31 * 127 + 1, 32), (100_000, 788), (127_000, 1_000)]
)
def test_prompts_hold_at_least_so_many_tokens(tokens: int, prompts: int) -> None:
    assert n_prompts(tokens) == prompts


def test_the_models_are_those_whose_heads_were_published(db: Path) -> None:
    known = Warehouse(db).sql("SELECT DISTINCT published_model, hub_name FROM published_head_repair").rows()
    assert dict(known) == {name: hub_id.rpartition("/")[2] for name, hub_id in HUB_IDS.items()}


def test_a_name_that_views_would_not_recognise_is_refused_before_measuring(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    done = CliRunner().invoke(main, ["reproduce", "pythia-160m", "--model", str(tmp_path / "copy")])
    assert done.exit_code == 1
    assert "would be stored as 'copy', but pythia-160m is recognised by the name 'pythia-160m'" in done.output
    assert "leave out --model for EleutherAI/pythia-160m" in done.output


def test_shapes_are_those_of_the_published_heads(db: Path) -> None:
    sql = "SELECT published_model, max(layer) + 1, max(head) + 1 FROM published_head_repair GROUP BY published_model"
    assert {name: (layers, heads) for name, layers, heads in Warehouse(db).sql(sql).rows()} == SHAPES


@pytest.mark.parametrize("names", [("n_layer", "n_head"), ("num_hidden_layers", "num_attention_heads")])
def test_a_model_of_another_shape_is_refused_before_measuring(names: tuple[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "gpt2"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(dict(zip(names, (3, 4), strict=True))))
    db = tmp_path / "w.duckdb"
    done = CliRunner().invoke(main, ["reproduce", "gpt2-small", "--model", str(folder), "--db", str(db)])
    assert done.exit_code == 1
    assert (
        "holds a model of 3 layers with 4 heads each, but gpt2-small has 12 with 12. Nothing was measured."
        in done.output
    )
    assert not db.exists()


def test_a_config_that_is_none_is_left_to_the_ingest(tmp_path: Path) -> None:
    for content in ("[" * 100_000, "3", '"n_layer"', "null"):
        (tmp_path / "config.json").write_text(content)
        module._check_shape("gpt2-small", tmp_path)


def test_what_is_typed_reaches_the_ingest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed_to_ingest: list[list[str]] = []

    def measured(ctx: click.Context, name: str, args: list[str]) -> None:
        typed_to_ingest.append([name, *args])

    monkeypatch.setattr(module, "run_command", measured)
    typed = ["--tokens", "10k", "--device", "cpu", "--dtype", "tf32", "--dataset", "t.jsonl", "--dry-run"]
    done = CliRunner().invoke(main, ["reproduce", "gpt2-small", *typed, "--db", str(tmp_path / "w.duckdb")])
    assert (done.exit_code, done.output) == (0, "")
    ((name, *args),) = typed_to_ingest
    given = dict(zip(args[:14:2], args[1:14:2], strict=True))
    assert name == "ingest"
    assert given == {
        "--model": "gpt2",
        "--dataset": "t.jsonl",
        "--prompts": "79",
        "--protocol": "rushing2024",
        "--dtype": "tf32",
        "--device": "cpu",
        "--db": str(tmp_path / "w.duckdb"),
    }
    assert args[14:] == ["--neurons", "none", "--no-edges", "--no-logit-lens", "--dry-run"]


def test_the_report_has_every_quantity_as_the_view_has_it(db: Path, report: str) -> None:
    known = Warehouse(db).view("reproduction_agreement", run_id=FINAL, population="top2", published_run="default")
    lines = {line[:26].strip(): line.split() for line in report.splitlines()}
    assert report.startswith(
        f"Run {FINAL}: EleutherAI/pythia-160m, 14 prompts of tiny-text, against the paper's pythia-160m"
    )
    assert known.height == 10
    for row in known.to_dicts():
        cells = lines[words(row["quantity"])]
        assert f"{row['spearman']:z.2f}" in cells
        assert cells[-1] == (row["verdict"] or "-")
        assert f"{row['slope']:z.2f}" in cells
        if row["authors_spearman"] is not None:
            assert f"{row['authors_spearman']:.2f}" in cells
    table = report.partition("\n\n")[2]  # below the facts of the run
    places = [table.index(words(quantity)) for quantity in QUANTITIES]
    assert places == sorted(places)


def test_the_report_has_every_claim_as_the_view_has_it(db: Path, report: str) -> None:
    for row in Warehouse(db).view("reproduction_claims", run_id=FINAL).to_dicts():
        (line,) = (line for line in report.splitlines() if line.startswith(row["statement"]))
        rest = line.removeprefix(row["statement"])
        assert f"{row['value']:z.3f}" in rest
        assert rest.endswith(row["verdict"])
        published = row["published_value"]
        assert (f"above {row['expected_above']:g}" if published is None else f"{published:.3f}") in rest
        assert row["low"] is None or f"{row['low']:z.3f} to {row['high']:z.3f}" in rest


def test_the_next_steps_can_be_pasted(db: Path, report: str) -> None:
    steps = [line for line in report.splitlines() if line.startswith("  selfrepair ")]
    assert len(steps) == 3
    assert sum(f"--db '{db}'" in step for step in steps) == 2
    assert Warehouse(db).sql(steps[0].split('"')[1]).height == 5


@pytest.mark.parametrize("run_id", [EARLY, NOT_PUBLISHED])
def test_a_run_of_another_model_is_said_to_be_one(db: Path, run_id: int) -> None:
    with pytest.raises(
        SelfRepairError, match=r"cannot be compared with gpt2-small: .* selfrepair describe reproduction"
    ):
        reproduce_report(db, run_id, "gpt2-small")


@pytest.mark.slow
def test_the_whole_way_on_a_model_of_the_same_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model of 12 layers of 12 heads in a folder named gpt2: measured and compared."""
    pytest.importorskip("torch", reason="measuring needs the ingest extra")
    from selfrepair.ingest.request.protocols import PROTOCOLS
    from selfrepair.ingest.runs import plan
    from support import tiny

    monkeypatch.setattr(plan, "N_CROSSCHECKS", 2)  # of 64, which take most of the time at twelve layers
    short = replace(PROTOCOLS[PROTOCOL], seq_len=32)  # of 128
    monkeypatch.setitem(PROTOCOLS, PROTOCOL, short)
    monkeypatch.setattr(module, "SEQ_LEN", short.seq_len)
    model = tiny.save_shaped(tmp_path / "gpt2", n_layers=12, n_heads=12)
    typed = ["--model", str(model), "--dataset", str(tiny.write_texts(tmp_path / "texts.jsonl", 60)), "--device", "cpu"]
    typed += ["--tokens", "31", "--db", str(tmp_path / "w.duckdb")]
    done = CliRunner().invoke(main, ["reproduce", "gpt2-small", *typed])
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith(reproduce_report(tmp_path / "w.duckdb", 1, "gpt2-small") + "\n")
    with duckdb.connect(str(tmp_path / "w.duckdb"), read_only=True) as con:
        assert con.execute("SELECT count(*) FROM measurements").fetchall() == [(144 * 31 * 31,)]
        n_heads = con.execute("SELECT DISTINCT n_heads FROM reproduction_agreement").fetchall()
        verdicts = con.execute("SELECT count(*) FROM reproduction_claims WHERE verdict IS NULL").fetchall()
    assert (n_heads, verdicts) == ([(144,)], [(0,)])
