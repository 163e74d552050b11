"""Self-repression and its controls equal one forward for each position."""

import itertools

import pytest
import torch

from selfrepair.ingest.engine.attention_calls import record_calls
from selfrepair.ingest.engine.clean_kv import clean_kv_forward
from selfrepair.ingest.engine.forward import value_biases
from selfrepair.ingest.mechanisms.self_repression import MULTIPLES, _added_vectors, _random, other_head
from selfrepair.ingest.models.adapter import adapt
from selfrepair.ingest.request.mechanisms import Mechanisms
from support import families, naive
from support.measuring import PROMPTS, SEQ, measure, prompts


def test_self_repression_equals_one_forward_for_each_position(family):
    model = families.build(family)
    measurer, found = measure(families.build(family), mechanisms=Mechanisms(self_repression=True), ablations=("zero",))
    self_repression, adapter = found.self_repression, measurer.adapter
    later_half = range((adapter.n_layers + 1) // 2, adapter.n_layers)
    assert self_repression.heads == list(itertools.product(later_half, range(adapter.n_heads)))
    with torch.no_grad():
        for (number, (layer, head)), (prompt, tokens) in itertools.product(
            enumerate(self_repression.heads), enumerate(prompts().tolist())
        ):
            clean = naive.forward(model, tokens)
            weight, bias = naive.head_weight(model, layer, head), naive.value_bias(model, layer, head)
            output = (clean.z[layer][:, head] - bias) @ weight
            w = torch.stack([naive.direction(model, token) for token in tokens[1:]])
            s = naive.scale(model, clean.final)
            direct = (output[:-1] * w).sum(-1) / s[:-1]
            torch.testing.assert_close(self_repression.direct_effect[number, prompt], direct, rtol=0, atol=1e-8)
            for index, multiple in enumerate(MULTIPLES):
                for pos in range(len(tokens) - 1):
                    run = naive.forward(model, tokens, add=(layer, pos, multiple * output[pos]))
                    direct_effect_after = ((run.z[layer][pos, head] - bias) @ weight * w[pos]).sum()
                    mine = self_repression.direct_effect_after[0, index, number, prompt, pos]
                    torch.testing.assert_close(mine, direct_effect_after / s[pos], rtol=0, atol=1e-8)
                    own = direct_effect_after / naive.scale(model, run.final)[pos]
                    torch.testing.assert_close(
                        self_repression.direct_effect_after_own_scale[index, number, prompt, pos],
                        own,
                        rtol=0,
                        atol=1e-8,
                    )


def test_controls_equal_one_forward_for_each_position_and_head(family):
    model = families.build(family)
    measurer, found = measure(families.build(family), mechanisms=Mechanisms(self_repression=True), ablations=("zero",))
    self_repression, ids = found.self_repression, range(PROMPTS)
    drawn = torch.stack([_random(torch.empty(SEQ - 1, measurer.adapter.d_model).double(), f"0 {n}") for n in ids])
    with torch.no_grad():
        for number, (layer, head) in list(enumerate(self_repression.heads))[::2]:
            other = self_repression.other_heads[number]
            assert other == other_head((layer, head), measurer.adapter.n_heads, 0)
            for prompt, tokens in enumerate(prompts().tolist()):
                clean = naive.forward(model, tokens)
                weight, bias = naive.head_weight(model, layer, head), naive.value_bias(model, layer, head)
                length = ((clean.z[layer][:, head] - bias) @ weight).norm(dim=-1, keepdim=True)
                its = (clean.z[layer][:, other] - naive.value_bias(model, layer, other)) @ naive.head_weight(
                    model, layer, other
                )
                s = naive.scale(model, clean.final)
                for kind, direction in ((1, its), (2, drawn[prompt])):
                    added = direction[: SEQ - 1] / direction[: SEQ - 1].norm(dim=-1, keepdim=True) * length[: SEQ - 1]
                    for (index, multiple), pos in itertools.product(enumerate(MULTIPLES), (0, SEQ // 2, SEQ - 2)):
                        run = naive.forward(model, tokens, add=(layer, pos, multiple * added[pos]))
                        direct_effect_after = (
                            (run.z[layer][pos, head] - bias) @ weight @ naive.direction(model, tokens[pos + 1])
                        ) / s[pos]
                        mine = self_repression.direct_effect_after[kind, index, number, prompt, pos]
                        torch.testing.assert_close(mine, direct_effect_after, rtol=0, atol=1e-8)


def test_controls_are_as_long_as_the_heads_own_output(family):
    model = families.build(family)
    adapter = adapt(model, "test")
    tokens = prompts()
    with torch.inference_mode():
        calls = record_calls(adapter, SEQ - 1)
        forward = clean_kv_forward(adapter, calls, tokens[:, :-1])
        bias = value_biases(adapter, record_calls(adapter, 2))[1]
        for head in range(adapter.n_heads):
            drawn = torch.randn(PROMPTS, SEQ - 1, adapter.d_model, dtype=torch.float64)
            number = other_head((1, head), adapter.n_heads, 4)
            own, other, random = _added_vectors(forward, (1, head), number, bias, drawn)
            for control in (other, random):
                torch.testing.assert_close(control.norm(dim=-1), own.norm(dim=-1), rtol=1e-12, atol=0)
            assert number != head
            expected = forward.z[1][:, :, number] - bias[number]
            expected = expected @ adapter.head_output_weight(1)[number]
            cosine = torch.nn.functional.cosine_similarity(other, expected, dim=-1)
            torch.testing.assert_close(cosine, torch.ones_like(cosine), rtol=0, atol=1e-10)


def test_the_control_is_neither_the_head_itself_nor_a_co_ablated_one():
    drawn = {other_head((3, 1), 4, seed, co_ablated=[(3, 0), (2, 2)]) for seed in range(40)}
    assert drawn == {2, 3}
    assert other_head((3, 1), 2, 0, co_ablated=[(3, 0)]) is None
    assert other_head((3, 0), 1, 0) is None


def test_another_head_without_output_adds_nothing():
    model = families.build("gpt2")
    with torch.no_grad():
        model.transformer.h[2].attn.c_proj.weight[:] = 0
    _, found = measure(model, mechanisms=Mechanisms(self_repression=True), ablations=("mean",), heads=[(2, 0), (2, 1)])
    assert bool(found.self_repression.direct_effect_after.isfinite().all())
    assert bool((found.self_repression.direct_effect_after[1] == found.self_repression.direct_effect).all())


@pytest.mark.parametrize("given", [(), ((0, 1),)])
def test_self_repression_depends_on_no_batch(family, given):
    results = [
        measure(
            families.build(family),
            mechanisms=Mechanisms(self_repression=True),
            ablations=("resample",),
            batch_size=size,
            given=given,
        )[1]
        for size in (1, 30)
    ]
    one, many = (found.self_repression for found in results)
    torch.testing.assert_close(one.direct_effect_after, many.direct_effect_after, rtol=0, atol=1e-10)
    torch.testing.assert_close(
        one.direct_effect_after_own_scale, many.direct_effect_after_own_scale, rtol=0, atol=1e-10
    )
