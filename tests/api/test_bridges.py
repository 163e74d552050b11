"""A TransformerBridge is measured as the model that it wraps, where it still is that model."""

import pytest
import torch
from polars.testing import assert_frame_equal
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources import build_bridge_from_module

from selfrepair import SelfRepairError, measure
from selfrepair.ingest.models.in_memory import share_model
from support import families, tiny

IDS = [[0, 5, 9, 7], [0, 8, 3, 4], [0, 6, 2, 11]]
SHAPES = ["pythia", "opt", "qwen3", "bloom"]


def bridge_of(family: str) -> TransformerBridge:
    model = families.build(family, torch.float32)
    return build_bridge_from_module(model, model.config.architectures[0], hf_config=model.config, model_name=family)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("family", ["gpt2", *(pytest.param(family, marks=pytest.mark.slow) for family in SHAPES)])
def test_a_bridge_has_the_weights_and_rows_of_its_model(family: str) -> None:
    bridge = bridge_of(family)
    before = {name: (id(p), p._version) for name, p in bridge.original_model.named_parameters()}
    inside, plain = share_model(bridge), share_model(families.build(family, torch.float32))
    assert inside.record == plain.record
    found, expected = (measure(model, IDS) for model in (bridge, families.build(family, torch.float32)))
    assert_frame_equal(found.measurements, expected.measurements, abs_tol=1.01e-4)
    assert {name: (id(p), p._version) for name, p in bridge.original_model.named_parameters()} == before
    tokens = torch.tensor(IDS)
    with torch.no_grad():
        assert torch.allclose(bridge(tokens), families.build(family, torch.float32)(tokens).logits, atol=1e-4)


def test_its_tokenizer_is_used() -> None:
    bridge = bridge_of("gpt2")
    bridge.tokenizer = tiny.tokenizer()
    found = measure(bridge, tiny.TEXTS[1:2], ablations="zero", heads="L2H0")
    assert found.tokens["token"][0] == "<|end|>"


def test_compatibility_mode_is_refused() -> None:
    bridge = bridge_of("gpt2")
    bridge.enable_compatibility_mode(disable_warnings=True)
    with pytest.raises(SelfRepairError, match=r"folded and centred.*leave enable_compatibility_mode\(\) out"):
        measure(bridge, IDS)


def test_what_only_the_bridge_does_is_refused() -> None:
    bridge = bridge_of("gpt2")
    bridge.add_perma_hook("blocks.1.hook_out", lambda value, hook: 2 * value)
    with pytest.raises(SelfRepairError, match=r"answers differently.*permanent hook.*bridge\.original_model"):
        measure(bridge, IDS)


def test_hooks_of_a_bridge_are_refused_and_do_not_run() -> None:
    bridge, ran = bridge_of("gpt2"), []
    bridge.add_hook("blocks.1.hook_out", lambda value, hook: ran.append(hook.name))
    with pytest.raises(SelfRepairError, match=r"forward hooks.*reset_hooks"):
        measure(bridge, IDS)
    assert ran == []
    bridge.reset_hooks()
    assert share_model(bridge).record.n_layers == 3
