"""TransformerBridge is compared with the cross-check's method where it runs, and whatever comes of it is only recorded."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, FalconConfig, LlamaConfig

from selfrepair.ingest.checks import bridge_comparison, hooks
from selfrepair.ingest.checks.bridge_comparison import AGREES, CANNOT_RUN, DIFFERS, compare_bridge
from selfrepair.ingest.models.adapter import adapt
from support import families
from support.tiers import only


def falcon(**more):
    """Not in `families`: TransformerLens reads the newer layout of its fused weights wrongly."""
    torch.manual_seed(0)
    config = FalconConfig(vocab_size=61, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, **more)
    config.architectures = ["FalconForCausalLM"]
    return adapt(AutoModelForCausalLM.from_config(config).eval(), "falcon")


def newer_falcon():
    return falcon(new_decoder_architecture=True, num_kv_heads=2)


def test_it_agrees_or_cannot_run_the_configuration():
    assert compare_bridge(newer_falcon(), "falcon") == CANNOT_RUN
    assert compare_bridge(falcon(new_decoder_architecture=False, multi_query=True), "falcon") == AGREES


def test_it_differs_where_it_takes_rows_of_the_unembedding_for_columns():
    config = LlamaConfig(
        vocab_size=24, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40
    )
    config.architectures = ["LlamaForCausalLM"]
    assert compare_bridge(adapt(AutoModelForCausalLM.from_config(config).eval(), "square"), "square") == DIFFERS


def booted_by(monkeypatch):
    """The copies that are booted from now on."""
    booted = []
    boot = hooks.boot
    monkeypatch.setattr(hooks, "boot", lambda adapter: booted.append(adapter) or boot(adapter))
    return booted


@pytest.mark.parametrize("family", only(("gpt2", "llama-grouped"), families.CONFIGS))
def test_the_model_stays_as_it_was_and_only_a_small_copy_is_run(family, monkeypatch):
    model = families.build(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modules = [type(module) for module in model.modules()]
    configuration = model.config.to_dict()
    booted = booted_by(monkeypatch)
    assert compare_bridge(adapt(model, family), family) == AGREES
    assert [type(module) for module in model.modules()] == modules
    assert model.config.to_dict() == configuration
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    (copy,) = booted
    assert (copy.n_layers, copy.d_vocab) == (1, bridge_comparison.LEAST_VOCABULARY)
    assert (copy.n_heads, copy.d_model) == (model.config.num_attention_heads, model.config.hidden_size)


def test_without_a_copy_there_is_no_comparison(monkeypatch):
    def stubborn(config):
        raise ValueError("this configuration has as many layers as it has")

    monkeypatch.setattr(bridge_comparison, "_cut_down", stubborn)
    assert compare_bridge(newer_falcon(), "falcon") == CANNOT_RUN


@pytest.mark.parametrize("family", only(("gpt2",), ["gpt2", "llama-grouped", "pythia"]))
def test_no_width_of_a_model_is_taken_for_its_vocabulary(family, monkeypatch):
    """The bridge's compatibility mode cannot tell rows from columns of a square unembedding."""
    config = copy.deepcopy(families.build(family).config)
    name = "n_embd" if hasattr(config, "n_embd") else "hidden_size"
    for width in (bridge_comparison.LEAST_VOCABULARY, 2 * bridge_comparison.LEAST_VOCABULARY):
        setattr(config, name, width)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
        booted = booted_by(monkeypatch)
        compare_bridge(adapt(model, family), family)
        (small,) = booted
        assert small.d_model == width
        assert small.d_vocab != width
