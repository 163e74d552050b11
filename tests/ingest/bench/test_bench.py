"""The benchmark's own arithmetic: what it counts is what the engine multiplies."""

import itertools
import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from selfrepair.ingest.bench import engine
from selfrepair.ingest.conventions import PRECISIONS
from selfrepair.ingest.models.adapter import adapt
from selfrepair.ingest.request.bench_request import BenchRequest
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.text.targets import next_token_targets
from selfrepair.warehouse.errors import SelfRepairError
from support import families


def counted(measurer: Measurer, tokens: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        measurer.measure(next_token_targets(tokens), tokens.roll(1, 0)[:, :-1], range(len(tokens)))
    return counter.get_total_flops()


@pytest.mark.parametrize("family", ["gpt2", "pythia"])
def test_counted_operations_are_those_of_the_ablations(family):
    model = families.build(family, torch.float32)
    model.set_attn_implementation("eager")  # its products are counted as they are; the fused kernel's are not
    adapter = adapt(model, family)
    tokens = torch.randint(2, families.VOCABULARY, (2, 17))

    def measurer(heads):
        return Measurer(adapter, RunSettings(["resample"], heads), batch_size=8)

    few = [(0, 0)]
    many = list(itertools.product(range(adapter.n_layers), range(2)))
    for each in (measurer(few), measurer(many)):
        counted(each, tokens)  # records calls and value biases once
    real = counted(measurer(many), tokens) - counted(measurer(few), tokens)
    claimed = engine._flops(adapter, many, 2, 16) - engine._flops(adapter, few, 2, 16)
    # Eager attention multiplies the masked half of the scores too, and direct effects are read through W_O.
    assert claimed <= real <= 1.25 * claimed


@pytest.mark.slow
def test_figures_hold_together(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(engine.SHAPES, "demo", families.CONFIGS["gpt2"])
    size = {"shape": "demo", "seq_len": 16, "n_prompts": 2, "heads_per_layer": 2, "batch_size": "4"}
    engine.run(BenchRequest(**size, device="cpu", repeats=1, json_file=tmp_path / "bench.json"))
    figures = json.loads((tmp_path / "bench.json").read_text())
    assert figures["heads"] == 3 * 2
    assert figures["batch_size"] == 4
    assert figures["share_of_peak"] == pytest.approx(figures["gflops"] / figures["matmul_peak_gflops"])
    ratio = figures["token_heads_per_s"] / figures["hook_token_heads_per_s"]
    assert figures["times_the_hook_method"] == pytest.approx(ratio)
    assert figures["times_the_released_code"] > 0
    assert 0 < figures["times_transformer_lens"] < figures["times_the_released_code"]
    assert figures["peak_memory_mb"] > 50
    assert "times the hook method" in capsys.readouterr().out
    assert PRECISIONS[figures["dtype"]].torch_dtype == "float32"


def test_the_hook_method_runs_two_forwards_a_head_the_released_code_four_and_patching_one(tmp_path, monkeypatch):
    forwards, timed = [], []
    boot, seconds = engine.hooks.boot, engine.seconds

    def booted(adapter):
        bridge = boot(adapter)
        bridge.blocks[0].register_forward_hook(lambda *_: forwards.append(1))
        return bridge

    def counted_seconds(work, *args):
        before = len(forwards)
        result = seconds(work, *args)
        timed.append(len(forwards) - before)
        return result

    monkeypatch.setitem(engine.SHAPES, "demo", families.CONFIGS["gpt2"])
    monkeypatch.setattr(engine.hooks, "boot", booted)
    monkeypatch.setattr(engine, "seconds", counted_seconds)
    engine.run(BenchRequest(shape="demo", seq_len=8, n_prompts=2, heads_per_layer=1, device="cpu", repeats=1))
    assert timed == [0, 0, 0, 2 * engine.HOOKED_HEADS, 4 * engine.HOOKED_HEADS, engine.HOOKED_HEADS]


def test_a_file_that_may_not_be_written_is_refused_before_anything_is_timed(tmp_path, monkeypatch):
    from selfrepair.ingest.cli.bench import bench

    monkeypatch.setattr("os.access", lambda path, mode: False)  # whoever tests may be root, who may write anywhere
    with pytest.raises(
        SelfRepairError, match=r"f\.json may not be written\. Change the permissions, or name another file"
    ):
        bench.main(["--json", str(tmp_path / "f.json")], standalone_mode=False)
