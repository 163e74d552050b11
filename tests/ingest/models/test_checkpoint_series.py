"""A series of training checkpoints: one run each, from one command."""

import re
import weakref

import duckdb
import pytest
import torch
from click.testing import CliRunner

from selfrepair.app.cli.main import main
from selfrepair.ingest.models.hub.revisions import parse_checkpoints
from selfrepair.ingest.runs import requested, stored_run
from selfrepair.ingest.runs.runner import measure_run
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.parts.folder import PartsFolder
from support import families, hub, tiny

pytestmark = pytest.mark.usefixtures("without_summaries")

STEPS = (0, 512, 143000)
ROWS = 4 * 8 * 2  # prompts x positions x heads, with one ablation
OPTIONS = ["--prompts", "4", "--seq-len", "9", "--device", "cpu", "--ablation", "mean", "--heads", "L0H1,L2H3"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A hub that holds three checkpoints with different weights, which this process asks."""
    root = tmp_path_factory.mktemp("steps")
    model = families.build("pythia", torch.float32)
    tiny.tokenizer().save_pretrained(root)
    with hub.serve() as running, hub.ask_only(running.address, root / "cache"):
        for step in STEPS:
            with torch.no_grad():
                model.get_input_embeddings().weight += 0.01
            model.save_pretrained(root)
            running.add("models", "lab/pythia", root, f"step{step}")
        running.add("models", "lab/pythia", root)
        yield running


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return tiny.write_texts(tmp_path_factory.mktemp("texts") / "texts.jsonl")


@pytest.fixture
def ingest(server, texts, tmp_path):
    def run(*more: str, checkpoint: str = "0,512,143000"):
        words = ["--model", "lab/pythia", "--dataset", str(texts), "--checkpoint", checkpoint, *OPTIONS]
        return CliRunner().invoke(main, ["ingest", *words, "--db", str(tmp_path / "w.duckdb"), *more])

    return run


def stored(tmp_path) -> list[tuple]:
    with duckdb.connect(str(tmp_path / "w.duckdb"), read_only=True) as connection:
        return connection.execute(
            """
            SELECT checkpoint, revision, status, count(*)
            FROM runs JOIN models USING (model_id) JOIN measurements USING (run_id) GROUP BY ALL ORDER BY checkpoint
            """
        ).fetchall()


@pytest.mark.slow
def test_an_interrupted_series_goes_on_with_the_same_command_one_model_at_a_time(ingest, tmp_path, monkeypatch):
    began: list[int] = []
    models: list[weakref.ref] = []
    load_model = requested.load_model

    def load_alone(*arguments, **options):
        assert not [model for model in models if model() is not None], "two models in memory"
        loaded = load_model(*arguments, **options)
        models.append(weakref.ref(loaded.adapter.model))
        return loaded

    def interrupt_the_second(plan, *arguments, **options):
        began.append(plan.record.model.checkpoint)
        if len(began) == 2:
            raise KeyboardInterrupt
        return measure_run(plan, *arguments, **options)

    monkeypatch.setattr(requested, "load_model", load_alone)
    monkeypatch.setattr(stored_run, "measure_run", interrupt_the_second)
    stopped = ingest(checkpoint="0,143000")
    assert stopped.exit_code != 0
    assert "Interrupted. 0 of 1 units are finished and safe" in stopped.output
    assert stored(tmp_path) == [(0, "step0", "complete", ROWS)]
    done = ingest(checkpoint="0,143000")
    assert done.exit_code == 0, done.output
    assert began == [0, 143000, 0, 143000]
    first, second = (line for line in done.stdout.splitlines() if "of lab/pythia, step" in line)
    assert first.startswith(f"run 1 of lab/pythia, step 0 is complete: nothing was left to measure; {ROWS:,} rows in ")
    assert second == "run 2 of lab/pythia, step 143000 is complete: 1 unit measured now"  # the report has its facts
    assert stored(tmp_path) == [(0, "step0", "complete", ROWS), (143000, "step143000", "complete", ROWS)]
    assert len(models) == 4


@pytest.mark.slow
def test_a_series_is_shared_among_shards(ingest, tmp_path):
    parts = tmp_path / "parts"
    for shard in ("1/2", "2/2"):
        done = ingest("--shard", shard, "--parts", str(parts), checkpoint="512,143000")
        assert done.exit_code == 0, done.output
        assert done.stdout.count(f"shard {shard}: 2 units measured") == 2
    runs = [PartsFolder(parts, folder.name) for folder in parts.iterdir()]
    assert sorted(run.run().model.checkpoint for run in runs) == [512, 143000]
    assert [run.finished_units() for run in runs] == [{0, 1, 2, 3}] * 2


def test_a_dry_run_prices_the_sum(ingest, tmp_path):
    said = ingest("--dry-run").stdout
    assert f"All 3 checkpoints: {3 * ROWS:,} rows, " in said
    rows, first, every = (
        int(re.search(pattern, said)[1].replace(",", ""))
        for pattern in (r"  rows +([\d,]+)", r"([\d,]+) in a new warehouse", r"([\d,]+) bytes and")
    )
    assert rows == ROWS
    assert first < every < 3 * first, "a warehouse's own tables are there once"
    assert not (tmp_path / "w.duckdb").exists()


def test_a_missing_checkpoint_is_found_out_before_the_first_is_measured(ingest, tmp_path):
    said = ingest(checkpoint="0,513,143000")
    assert said.exit_code == 1
    assert "model 'lab/pythia' has no checkpoint 513. Nearest: --checkpoint 0 or 512 or 143000." in said.stderr
    assert not (tmp_path / "w.duckdb").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--checkpoint", "1000,last"), "--checkpoint last is not a training step. Write for example 143000, or"),
        (("--checkpoint", ","), "--checkpoint , is not a training step"),
        (
            ("--model", "demo", "--checkpoint", "1,2"),
            "model 'demo' has one set of weights, and --checkpoint names 2",
        ),
        (("--revision", "main", "--checkpoint", "0,512"), "--revision and --checkpoint both choose the weights"),
    ],
)
def test_what_is_no_series_says_so(ingest, words, message):
    result = ingest(*words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr


def test_steps_are_read_in_the_order_given_each_once():
    assert parse_checkpoints(None) == (None,)
    assert parse_checkpoints("143000, 0,143000") == (143000, 0)
    with pytest.raises(SelfRepairError, match="--checkpoint -5 is not a training step"):
        parse_checkpoints("-5")
