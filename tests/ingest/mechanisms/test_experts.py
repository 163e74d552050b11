"""Re-routing against whole forwards of the model with hooks, in which each expert is run alone, in float64."""

import contextlib
import inspect

import pytest
import torch

from selfrepair.ingest.engine.unembedding import mean_unembedding, target_logit_directions
from selfrepair.ingest.mechanisms.experts import EXPERT_SUMS, ROUTING_SUMS
from selfrepair.ingest.mechanisms.top_rows import TopRowsSearch
from selfrepair.ingest.models.adapter import adapt
from selfrepair.ingest.request.mechanisms import Mechanisms
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.text.targets import next_token_targets
from selfrepair.warehouse.errors import SelfRepairError
from support import families, sweep
from support.tiers import first_of_each

TOKENS = sweep.prompts()
N_ROWS = TOKENS.shape[0] * (TOKENS.shape[1] - 1)

CASES = {
    "mixtral": "experts alone",
    "afmoe": "a shared expert, and a norm of what the MLP makes",
    "cohere2_moe": "parallel blocks, half of what the experts add up to",
    "qwen2_moe": "a gated shared expert",
    "llama4_text": "every expert is given every token",
    "gpt_oss": "biases and attention sinks",
    "deepseek_v3": "latent attention, a dense first layer",
    "granitemoe": "a residual multiplier",
    "dbrx": "experts that see prompts, not their tokens alone",
    "qwen3_next": "layers without attention heads",
    "olmoe": "weights that do not add up to one",
}


def measured(case, batch_size=7):
    adapter = adapt(sweep.build(case), case)
    settings = RunSettings(
        ("resample",), adapter.heads, mechanisms=Mechanisms(edges=True, experts=True).available(adapter)[0]
    )
    measurer = Measurer(adapter, settings, batch_size=batch_size)
    search = TopRowsSearch(adapter.heads, 50 * 5)
    targets, partners = next_token_targets(TOKENS), TOKENS[sweep.PARTNERS][:, :-1]
    measurer.find_top_rows(search, targets, partners, range(len(TOKENS)))
    measurer.top_rows = search.found()
    return measurer, measurer.measure(targets, partners, range(len(TOKENS)))


@pytest.fixture
def in_float64():
    with sweep.WithoutFloat32():
        yield


class Watched:
    """A forward of the model alone: what each MLP with experts makes, and of each of its experts alone."""

    def __init__(self, adapter, tokens, replaced=None):
        self.adapter, self.z, self.choices, self.parts, self.made = adapter, {}, {}, {}, {}
        with contextlib.ExitStack() as stack:
            for layer, block in enumerate(adapter.blocks):
                self._watch(stack, layer, block, replaced)
            adapter.model(input_ids=tokens[None], use_cache=False)

    def _watch(self, stack, layer, block, replaced):
        def on_z(_, args):
            z = args[0].unflatten(-1, (self.adapter.n_heads, -1)).clone()
            if replaced is not None and replaced[0] == layer:
                z[..., replaced[1], :] = replaced[2]
            self.z[layer] = z
            return (z.flatten(-2),)

        if block.output_projection is not None:
            stack.callback(block.output_projection.register_forward_pre_hook(on_z).remove)
        if block.mlp_post_norm is not None:
            keep = lambda _, args: self.made.update({layer: args[0][0]})  # noqa: E731
            stack.callback(block.mlp_post_norm.register_forward_pre_hook(keep).remove)
        if block.experts is not None:
            stack.callback(block.experts.module.register_forward_hook(self._on_experts(layer), with_kwargs=True).remove)

    def _on_experts(self, layer):
        n_experts = self.adapter.blocks[layer].experts.n_experts

        def hook(module, args, kwargs, out):
            given = list(inspect.signature(module.forward).bind(*args, **kwargs).arguments.values())
            alone, weights = [], []
            for expert in range(n_experts):
                if len(given) == 1:
                    mine = torch.zeros(n_experts, *out.unflatten(0, (n_experts, -1)).shape[1:]).to(out)
                    mine[expert] = given[0].unflatten(0, (n_experts, -1))[expert]
                    alone.append(module.forward(mine.flatten(0, 1)).unflatten(0, (n_experts, -1)).sum(0))
                    weights.append(mine[expert].norm(dim=-1))
                else:
                    only = torch.where(given[1] == expert, given[2], 0)
                    alone.append(module.forward(given[0], given[1], only).flatten(0, -2))
                    weights.append(only.sum(-1))
            weights = torch.stack(weights, dim=-1)
            self.choices[layer] = weights / weights.sum(dim=-1, keepdim=True)
            self.parts[layer] = torch.stack(alone, dim=1)

        return hook


@pytest.mark.parametrize("case", first_of_each(3, list(CASES)))
@torch.no_grad()
def test_every_sum_equals_the_naive_one(case, in_float64):
    measurer, found = measured(case)
    adapter = measurer.adapter
    layers = [n for n, block in enumerate(adapter.blocks) if block.experts is not None]
    clean = [Watched(adapter, tokens[:-1]) for tokens in TOKENS]
    directions = target_logit_directions(adapter, mean_unembedding(adapter), TOKENS[:, 1:], None)
    scale, parallel = found.scale, adapter.parallel_blocks
    for number, ablated in enumerate(measurer.head_ablations):
        top = measurer.top_rows.mask((ablated.layer, ablated.head), range(len(TOKENS)), TOKENS.shape[1] - 1)[0]
        n_experts = found.experts.experts.shape[-2]
        routing = torch.zeros(2, len(layers), 4).double()
        experts = torch.zeros(2, len(layers), n_experts, len(EXPERT_SUMS)).double()
        for prompt, tokens in enumerate(TOKENS):
            new = clean[sweep.PARTNERS[prompt]].z[ablated.layer][..., ablated.head, :]
            other = Watched(adapter, tokens[:-1], (ablated.layer, ablated.head, new))
            for at, layer in enumerate(layers):
                if layer < ablated.layer + parallel:
                    continue
                block, both = adapter.blocks[layer], []
                for run in (clean[prompt], other):
                    added = run.parts[layer] * block.experts.factor * block.mlp_addition.times
                    if block.mlp_post_norm is not None:
                        norm, mean_square = block.mlp_post_norm, run.made[layer].square().mean(-1)
                        added = added * norm.weight / (mean_square + norm.variance_epsilon).sqrt()[:, None, None]
                    both.append((added * directions[prompt][:, None]).sum(-1) / scale[prompt][:, None])
                before, after = (run.choices[layer] for run in (clean[prompt], other))
                changed, kept = (before > 0) != (after > 0), (before > 0) & (after > 0)
                rows = [changed.any(-1), ((before > 0) & (after == 0)).sum(-1)]
                rows += [(before > 0).sum(-1), (after - before).abs().sum(-1) / 2]
                change = both[1] - both[0]
                of_expert = [before > 0, after > 0, change, change * kept]
                for population, chosen in enumerate((torch.ones_like(top[prompt]), top[prompt])):
                    routing[population, at] += torch.stack([row[chosen].double().sum() for row in rows])
                    experts[population, at] += torch.stack([row[chosen].double().sum(0) for row in of_expert], dim=-1)
        torch.testing.assert_close(found.experts.routing[number, ..., :4], routing, rtol=0, atol=1e-8)
        torch.testing.assert_close(found.experts.experts[number], experts, rtol=0, atol=1e-8)
    assert found.experts.routing[..., 0].sum() > 0, "no ablation changed a routing"


@pytest.mark.parametrize("case", first_of_each(2, ["qwen2_moe", "afmoe", "cohere2_moe"]))
def test_experts_and_the_rest_add_up_to_the_change_of_their_mlp(case, in_float64):
    measurer, found = measured(case)
    layers = [n for n, block in enumerate(measurer.adapter.blocks) if block.experts is not None]
    of_mlps = found.edges.sums[:, :, 0, measurer.adapter.n_layers * measurer.adapter.n_heads :][..., layers]
    sums = dict(zip(ROUTING_SUMS, found.experts.routing.unbind(-1), strict=True))
    torch.testing.assert_close(sums["change"], of_mlps, rtol=0, atol=1e-9)
    added_up = found.experts.experts[..., EXPERT_SUMS.index("change")].sum(-1) + sums["shared_change"]
    torch.testing.assert_close(added_up, of_mlps, rtol=0, atol=1e-9)
    assert sums["shared_change"].abs().max() > 1e-3


def test_batch_size_changes_nothing():
    (_, one), (_, many) = measured("qwen2_moe", 1), measured("qwen2_moe", 100)
    for name in ("prompt_rows", "prompt_routing", "experts"):
        torch.testing.assert_close(getattr(one.experts, name), getattr(many.experts, name), rtol=0, atol=1e-10)


def test_what_has_no_experts_is_left_out_in_silence_and_what_hides_them_with_a_line():
    wanted = Mechanisms(experts=True)
    dense = adapt(families.build("gpt2"), "small")
    assert wanted.available(dense) == (Mechanisms(), [])
    with pytest.raises(SelfRepairError, match=r"no routed experts to measure. Use --no-experts"):
        wanted.routed_layers(dense)
    found, notes = wanted.available(adapt(sweep.build("axk1"), "small"))  # its experts end in a norm
    assert found == Mechanisms()
    assert notes == ["Re-routing is not measured: what each expert of this model adds cannot be told apart."]
