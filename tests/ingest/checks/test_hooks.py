"""The engine against TransformerBridge's hooks: the cross-check itself, on every family."""

import itertools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from selfrepair.ingest.checks import hooks as hook_method
from selfrepair.ingest.conventions import ABLATIONS
from selfrepair.ingest.engine.ablation import Cell
from selfrepair.ingest.models.adapter import locate
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.text.targets import next_tokens
from support import families

PARTNERS = [1, 2, 0]


@pytest.mark.parametrize("family", families.CONFIGS)
def test_hooks_in_compatibility_mode_agree_with_the_engine(family):
    model = families.build(family, torch.float32)
    atlas = locate(model, family)
    tokens = torch.randint(2, families.VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(5))
    heads = list(itertools.product(range(atlas.n_layers), (0, atlas.n_heads - 1)))
    measurer = Measurer(atlas, ablations=ABLATIONS, heads=heads, batch_size=6)
    measurer.means = measurer.head_value_sums(tokens) / tokens.numel()
    measured = measurer.measure(next_tokens(tokens), tokens[PARTNERS][:, :-1], range(3))
    biases = measurer.value_biases().clone()

    with torch.no_grad():
        bridge = hook_method.boot(atlas)
        clean = hook_method.run_clean(bridge, tokens)
        for cell, effects in zip(measured.cells, measured.effects, strict=True):
            replacement = {
                "resample": clean.head_values(cell)[PARTNERS],
                "mean": (measurer.means.float() - biases)[cell.layer, cell.head],
                "zero": torch.zeros(atlas.d_head),
            }[cell.ablation]
            by_hooks = hook_method.measure_cell(bridge, clean, cell, replacement)
            torch.testing.assert_close(by_hooks, effects, rtol=0, atol=3e-5)


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor has that is computed while it is on."""

    numbers = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        tensors = result if isinstance(result, tuple | list) else [result]
        self.numbers = max([self.numbers, *(each.numel() for each in tensors if isinstance(each, torch.Tensor))])
        return result


@pytest.mark.parametrize("family", families.CONFIGS)
def test_where_memory_counts_a_check_holds_one_layer_s_heads_at_a_time_and_finds_the_same(family):
    atlas = locate(families.build(family, torch.float32), family)
    tokens = torch.randint(2, families.VOCABULARY, (1, 20), generator=torch.Generator().manual_seed(6))
    cell, replacement = Cell(0, 1, "zero"), torch.zeros(atlas.d_head)
    one_layer = atlas.n_heads * tokens.numel() * atlas.d_model
    with torch.no_grad():
        bridge = hook_method.boot(atlas)
        whole = hook_method.run_clean(bridge, tokens)
        expected = hook_method.measure_cell(bridge, whole, cell, replacement)
        with Largest() as largest:
            clean = hook_method.run_clean(bridge, tokens, hook_method.needed)
            found = hook_method.measure_cell(bridge, clean, cell, replacement)
    assert torch.equal(found, expected)
    assert largest.numbers <= max(one_layer, tokens.numel() * atlas.d_mlp, bridge.W_U.numel())
    kept = {each.data_ptr(): each.numel() for each in clean.cache.values()}
    assert sum(kept.values()) <= 3.1 * atlas.n_layers * tokens.numel() * atlas.d_model  # z, MLP output, stream
