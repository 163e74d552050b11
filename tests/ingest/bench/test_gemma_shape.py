"""The benchmark on a model with post-norms, grouped keys and gated MLPs: the engine is timed alone."""

import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Gemma3TextConfig

from selfrepair.ingest.bench import engine
from selfrepair.ingest.models.adapter import adapt
from selfrepair.ingest.request.bench_request import BenchRequest
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.text.targets import next_token_targets

SMALL = Gemma3TextConfig(
    vocab_size=300,
    hidden_size=32,
    intermediate_size=96,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=1,
    head_dim=16,
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = engine.SHAPES["gemma3-270m"]
    assert (shape.vocab_size, shape.num_key_value_heads, shape.num_hidden_layers) == (262_144, 1, 18)
    monkeypatch.setitem(engine.SHAPES, "gemma3-270m", SMALL)


def test_the_engine_is_timed_without_hooks(capsys: pytest.CaptureFixture[str]) -> None:
    size = {"seq_len": 8, "n_prompts": 2, "heads_per_layer": 2, "batch_size": "4", "repeats": 1}
    engine.run(BenchRequest(shape="gemma3-270m", device="cpu", **size))
    said = capsys.readouterr().out
    assert said.count("not timed") == 4
    assert '"times_the_hook_method": null' in said
    assert '"heads": 6' in said


def test_counted_operations_are_those_of_the_ablations() -> None:
    model = engine._random_model("gemma3-270m")
    model.set_attn_implementation("eager")  # its products are counted as they are; the fused kernel's are not
    adapter = adapt(model, "gemma")
    assert engine._mlp_matrices(adapter) == 3
    tokens = torch.randint(2, 300, (2, 17))

    def counted(measurer: Measurer) -> int:
        with FlopCounterMode(display=False) as counter:
            measurer.measure(next_token_targets(tokens), tokens.roll(1, 0)[:, :-1], range(2))
        return int(counter.get_total_flops())

    few, many = [(0, 0)], list(itertools.product(range(3), range(2)))
    measurers = [Measurer(adapter, RunSettings(["resample"], heads), batch_size=8) for heads in (few, many)]
    for measurer in measurers:
        counted(measurer)  # records calls and value biases once
    real = counted(measurers[1]) - counted(measurers[0])
    claimed = engine._flops(adapter, many, 2, 16) - engine._flops(adapter, few, 2, 16)
    assert claimed <= real <= 1.25 * claimed
