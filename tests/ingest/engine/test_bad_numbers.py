"""What stops a measurement: numbers that are none, an identity that fails, memory that does not hold one sequence."""

import contextlib

import pytest
import torch

from selfrepair.ingest.checks.numerics import check_effects
from selfrepair.ingest.checks.preflight import preflight
from selfrepair.ingest.conventions import PRECISIONS
from selfrepair.ingest.engine import ablation
from selfrepair.ingest.engine.ablation import HeadAblation
from selfrepair.ingest.models.adapter import adapt
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.text.targets import next_token_targets
from selfrepair.warehouse.errors import SelfRepairError
from support import families

TOKENS = torch.tensor([[0, 5, 9, 7, 3], [0, 8, 4, 4, 11], [0, 2, 12, 6, 30]])


def measurer_of(model) -> Measurer:
    adapter = adapt(model, "test")
    return Measurer(adapter, RunSettings(["zero"], [(0, 1), (2, 0)]), batch_size=4)


def test_nan_in_the_clean_forward_names_prompt_and_layer():
    model = families.build("gpt2")

    def poison(module, arguments, output):
        return output.index_fill(0, torch.tensor(1), float("nan")) if len(output) == 3 else output

    model.transformer.h[1].mlp.register_forward_hook(poison)
    with pytest.raises(SelfRepairError, match=r"clean forward of prompt_id 41, first in layer 1.*--dtype float32"):
        measurer_of(model).measure(next_token_targets(TOKENS), None, [40, 41, 42])


def test_infinity_after_an_ablation_names_head_prompt_and_position():
    model = families.build("gpt2")
    whole_batches = []

    def poison(module, arguments, output):
        whole_batches.append(len(output) == 3)
        if sum(whole_batches) < 2:  # the clean forward comes first
            return output
        output = output.clone()
        output[0, 3] = float("inf")
        return output

    model.transformer.h[2].mlp.register_forward_hook(poison)
    with pytest.raises(SelfRepairError, match=r"zero ablation of L0H1, prompt_id 40, position 3"):
        measurer_of(model).measure(next_token_targets(TOKENS), None, [40, 41, 42])


def test_a_broken_identity_stops_the_run(monkeypatch):
    sound = ablation.final_scale
    monkeypatch.setattr(ablation, "final_scale", lambda adapter, stream: sound(adapter, stream) * 1.5)
    monkeypatch.setattr(ablation, "project", lambda vectors, w: torch.linalg.vecdot(vectors, w) + 0.01)
    with pytest.raises(SelfRepairError, match=r"the identity .* fails by .*--dtype float64"):
        measurer_of(families.build("gpt2")).measure(next_token_targets(TOKENS), None, [40, 41, 42])


@pytest.mark.parametrize(("large", "error", "fails"), [(1.0, 2e-3, True), (1e4, 0.05, False), (1e4, 0.2, True)])
def test_the_identity_of_large_effects_holds_relative_to_them(large, error, fails):
    """Rounding grows with the numbers: parts of 1e4 logits that cancel cannot add up to 1e-3."""
    effects = torch.tensor([[[[1.0, 0.5, error - 0.5, large, 0.0, 0.0, -large, 1.0]]]], dtype=torch.float64)
    stack, precision = [HeadAblation(0, 1, "zero")], PRECISIONS["float32"]
    with pytest.raises(SelfRepairError, match="the identity") if fails else contextlib.nullcontext():
        check_effects(effects, stack, [40], precision)


def test_no_room_for_one_sequence_says_what_to_try():
    model = families.build("gpt2")
    measurer = measurer_of(model)

    def refuse(module, arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    model.transformer.h[0].mlp.register_forward_pre_hook(refuse)
    with pytest.raises(SelfRepairError, match=r"not even one sequence fits.*--seq-len"):
        measurer.measure(next_token_targets(TOKENS), None, [40, 41, 42])


def test_preflight_finds_a_part_that_the_adapter_does_not_know():
    model = families.build("gpt2")
    adapter = adapt(model, "test")
    model.transformer.h[1].register_forward_hook(lambda module, arguments, output: output * 1.01)
    with pytest.raises(SelfRepairError, match="do not add up to the final residual stream"):
        preflight(adapter, TOKENS, PRECISIONS["float64"], "test")


def test_preflight_finds_an_attention_output_that_is_not_the_sum_of_its_heads():
    model = families.build("gpt2")
    adapter = adapt(model, "test")
    model.transformer.h[1].attn.register_forward_hook(lambda module, arguments, output: (output[0] * 1.5, *output[1:]))
    with pytest.raises(SelfRepairError, match="do not add up to attention's output in layer 1"):
        preflight(adapter, TOKENS, PRECISIONS["float64"], "test")


def test_preflight_finds_scaled_logits():
    model = families.build("gpt2")
    adapter = adapt(model, "test")
    model.lm_head.register_forward_hook(lambda module, arguments, output: output.tanh())
    with pytest.raises(SelfRepairError, match="do not give the model's logits"):
        preflight(adapter, TOKENS, PRECISIONS["float64"], "test")


def test_preflight_finds_heads_that_do_nothing():
    model = families.build("gpt2")
    with torch.no_grad():
        model.transformer.h[2].attn.c_proj.weight.zero_()
    with pytest.raises(SelfRepairError, match="ablating a head of the last layer changes no logit"):
        preflight(adapt(model, "test"), TOKENS, PRECISIONS["float64"], "test")


@pytest.mark.parametrize("family", families.CONFIGS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_preflight_passes_every_supported_family(family, dtype):
    model = families.build(family, getattr(torch, dtype))
    preflight(adapt(model, family), TOKENS, PRECISIONS[dtype], family)
    assert not model.training
