"""The engine against TransformerBridge's hooks: the cross-check itself, on every family."""

import itertools

import pytest
import torch

from selfrepair.ingest import hook_method
from selfrepair.ingest.atlas import locate
from selfrepair.ingest.conventions import ABLATIONS
from selfrepair.ingest.measure import Measurer
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
    measured = measurer.measure(tokens, tokens[PARTNERS], range(3))
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
