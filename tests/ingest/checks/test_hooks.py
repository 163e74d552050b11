"""The engine against TransformerBridge's hooks: the cross-check itself, on every family."""

import itertools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from selfrepair.ingest.checks import hooks
from selfrepair.ingest.conventions import ABLATIONS
from selfrepair.ingest.engine.ablation import HeadAblation
from selfrepair.ingest.models.adapter import adapt
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.text.targets import next_token_targets
from support import families
from support.tiers import only

PARTNERS = [1, 2, 0]


@pytest.mark.parametrize("family", only(("gpt2", "llama-grouped"), families.CONFIGS))
def test_hooks_in_compatibility_mode_agree_with_the_engine(family):
    model = families.build(family, torch.float32)
    adapter = adapt(model, family)
    tokens = torch.randint(2, families.VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(5))
    heads = list(itertools.product(range(adapter.n_layers), (0, adapter.n_heads - 1)))
    measurer = Measurer(adapter, RunSettings(ABLATIONS, heads), batch_size=6)
    measurer.means = measurer.head_value_sums(tokens) / tokens.numel()
    measured = measurer.measure(next_token_targets(tokens), tokens[PARTNERS][:, :-1], range(3))
    biases = measurer.value_biases().clone()

    with torch.no_grad():
        bridge = hooks.boot(adapter)
        clean = hooks.run_clean(bridge, tokens)
        for ablated, effects in zip(measured.head_ablations, measured.effects, strict=True):
            replacement = {
                "resample": clean.head_values(ablated)[PARTNERS],
                "mean": (measurer.means.float() - biases)[ablated.layer, ablated.head],
                "zero": torch.zeros(adapter.d_head),
            }[ablated.ablation]
            by_hooks = hooks.measure_head_ablation(bridge, clean, ablated, replacement)
            torch.testing.assert_close(by_hooks, effects, rtol=0, atol=3e-5)


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor has that is computed while it is on."""

    numbers = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        tensors = result if isinstance(result, tuple | list) else [result]
        self.numbers = max([self.numbers, *(each.numel() for each in tensors if isinstance(each, torch.Tensor))])
        return result


@pytest.mark.parametrize("family", only(("pythia",), families.CONFIGS))
def test_where_memory_counts_a_check_holds_one_layer_s_heads_at_a_time_and_finds_the_same(family):
    adapter = adapt(families.build(family, torch.float32), family)
    tokens = torch.randint(2, families.VOCABULARY, (1, 20), generator=torch.Generator().manual_seed(6))
    ablated, replacement = HeadAblation(0, 1, "zero"), torch.zeros(adapter.d_head)
    one_layer = adapter.n_heads * tokens.numel() * adapter.d_model
    with torch.no_grad():
        bridge = hooks.boot(adapter)
        whole = hooks.run_clean(bridge, tokens)
        expected = hooks.measure_head_ablation(bridge, whole, ablated, replacement)
        with Largest() as largest:
            clean = hooks.run_clean(bridge, tokens, hooks.needed)
            found = hooks.measure_head_ablation(bridge, clean, ablated, replacement)
    assert torch.equal(found, expected)
    assert largest.numbers <= max(one_layer, tokens.numel() * adapter.d_mlp, bridge.W_U.numel())
    kept = {each.data_ptr(): each.numel() for each in clean.cache.values()}
    assert sum(kept.values()) <= 3.1 * adapter.n_layers * tokens.numel() * adapter.d_model  # z, MLP output, stream
