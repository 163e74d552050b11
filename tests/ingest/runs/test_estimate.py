"""What a dry run counts and says: the clean forward of each prompt predicts, those of partners, means and top rows do not."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from selfrepair.app.cli.main import main
from selfrepair.ingest.cli import dry_run
from selfrepair.ingest.engine import forward
from selfrepair.ingest.engine.memory import BatchSize
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.runs import estimate
from selfrepair.ingest.runs.estimate import LOADING, MEASURING, PREPARING
from selfrepair.ingest.runs.estimated_memory import GPUMemory
from selfrepair.ingest.runs.requested import make_plan
from support import tiny


@pytest.mark.parametrize("ablation", ["zero", "resample,mean,zero"])
def test_each_prompt_is_predicted_once_after_each_layer(tmp_path, monkeypatch, ablation):
    texts = tiny.write_texts(tmp_path / "texts.jsonl")
    model = tiny.save(tmp_path / "model")
    plan = make_plan(
        IngestRequest(model=str(model), dataset=str(texts), n_prompts=4, seq_len=8, ablation=ablation, edges=True)
    )
    predicted = []
    predict = forward.predict
    monkeypatch.setattr(forward, "predict", lambda *arguments: predicted.append(1) or predict(*arguments))

    def predictions(work, device, repeats):
        predicted.clear()
        work()
        return [float(len(predicted))] * repeats

    monkeypatch.setattr(estimate, "seconds", predictions)
    adapter = plan.model.adapter
    counted = sum(estimate._measuring(plan, plan.prompts.targets([3]), BatchSize(4, adapter.device)))
    assert counted == len(plan.prompts) * adapter.n_layers


def test_workers_wait_for_what_is_done_once_and_share_whole_units():
    seconds = {"start-up": 10.0, PREPARING: 20.0, MEASURING: 800.0, "cross-check": 30.0, LOADING: 16.0}
    cost = estimate.Estimate(0, 0, 0, 0, 8, seconds, 0.0, [], None)
    assert cost.seconds_with(1) == 876
    assert cost.seconds_with(3) == 60 + 300 + 6  # three units each at most, and the last three are loaded afterwards
    assert cost.seconds_with(8) == cost.seconds_with(100) == 60 + 100 + 16
    assert replace(cost, seconds=seconds | {LOADING: 1600.0}).seconds_with(8) == 60 + 100 + 1600  # the loader decides


def test_a_dry_run_of_several_workers_says_what_each_measures(capsys, monkeypatch):
    plan = SimpleNamespace(
        record=SimpleNamespace(model=SimpleNamespace(name="m", n_layers=2, n_heads=3), device="G", dtype="float32")
    )
    gpus = [
        GPUMemory("cuda:0", "layers 0-0", 900.0, 1500.0, 1400.0),
        GPUMemory("cuda:1", "layers 1-1", 800.0, 1000.0, 1400.0),
    ]
    seconds = {MEASURING: 80.0, LOADING: 2.0}
    monkeypatch.setattr(dry_run, "estimate", lambda *_: estimate.Estimate(5, 6, 7, 8, 8, seconds, 2000.0, gpus, None))
    monkeypatch.setattr(dry_run, "available_mb", lambda: 3000.0)
    dry_run.print_estimate(plan, None, 0.0, 1, n_workers=4, n_processes=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[4:] == [
        "  time      about 1 min 22 s: measuring 1 min 20 s, writing and loading 2 s",
        "  4 workers about 21 s: of 8 units, each measures 2 at most; until they are loaded, part files take as much again",
        "  memory    about 2,000 MB of RAM, 4,000 MB in 2 processes",
        "  cuda:0    layers 0-0: about 1,500 MB, 900 MB of it weights; it has 1,400 MB",
        "  cuda:1    layers 1-1: about 1,000 MB, 800 MB of it weights; it has 1,400 MB",
        "cuda:0 may run out of memory: name more devices, or a smaller --dtype.",
        "This machine has 3,000 MB of RAM to spare, which is less: name fewer processes or prompts.",
        "Nothing was written. Leave out --dry-run to measure.",
    ]


def test_a_number_of_workers_belongs_to_a_dry_run():
    said = CliRunner().invoke(main, ["ingest", "--model", "demo", "--workers", "8"])
    assert said.exit_code == 2
    assert "--workers belongs to --dry-run. To share a run among workers, use --devices or --shard auto." in said.stderr
