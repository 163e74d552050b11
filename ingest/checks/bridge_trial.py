"""Try the cross-check on a small copy of the model before measuring, so that a family it cannot run is refused early."""

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from selfrepair.ingest.checks import hooks
from selfrepair.ingest.conventions import EFFECTS
from selfrepair.ingest.engine.ablation import HeadAblation, Replacements, ablate
from selfrepair.ingest.engine.attention_calls import record_calls
from selfrepair.ingest.engine.forward import clean_batch, value_biases
from selfrepair.ingest.engine.memory import is_out_of_memory
from selfrepair.ingest.engine.unembedding import mean_unembedding
from selfrepair.ingest.models.adapter import ModelAdapter, adapt, unsupported
from selfrepair.ingest.text.targets import next_token_targets
from selfrepair.warehouse.errors import SelfRepairError

LEAST_VOCABULARY = 64
"""The copy's smallest vocabulary: embeddings would be most of a one-layer copy of a large model."""

LARGEST_DIFFERENCE = 0.01
"""Largest difference on the copy, as a share of the largest effect: rounding is a thousandth of it."""


def try_bridge(adapter: ModelAdapter, name: str) -> None:
    """Measure one head of a copy of the model, one layer of random weights on the CPU, by the engine and by hooks.

    The model itself is not changed. Raises SelfRepairError where TransformerBridge cannot run the copy in compatibility
    mode, or gives other numbers. Where no copy can be made, nothing is refused: the cross-check itself then decides.
    """
    small = _one_layer(adapter, name)
    if small is None:
        return
    tokens = torch.arange(5)[None]
    ablated = HeadAblation(0, 0, "zero")
    bridge_is = (
        f"TransformerBridge, which every run is checked against, {{}} {adapter.architecture} of this configuration"
    )
    try:
        with torch.no_grad():
            expected = _effects(small, tokens, ablated)
            bridge = hooks.boot(small)
            clean = hooks.run_clean(bridge, tokens, hooks.needed)
            found = hooks.measure_head_ablation(bridge, clean, ablated, torch.zeros_like(clean.head_values(ablated)))
    except hooks.FAILURES as error:
        if is_out_of_memory(error):
            return
        raise unsupported(
            name,
            f"{bridge_is.format('cannot run')} in compatibility mode ({hooks.message_of(error)})",
        ) from error
    logits = slice(EFFECTS.index("ln_scale_ratio"))  # a ratio about 1 would dwarf the effects of random weights
    off = float((found - expected)[..., logits].abs().max() / expected[..., logits].abs().max())
    if not off <= LARGEST_DIFFERENCE:
        raise unsupported(name, f"{bridge_is.format('gives other numbers for')} (off by {off:.2g} of the largest)")


def _effects(
    adapter: ModelAdapter, tokens: Int[Tensor, "batch seq"], ablated: HeadAblation
) -> Float[Tensor, "batch pos effect"]:
    """The engine's effects of one ablated head."""
    calls = record_calls(adapter, tokens.shape[1] - 1)
    clean = clean_batch(adapter, calls, mean_unembedding(adapter), next_token_targets(tokens))
    return ablate(adapter, calls, clean, Replacements(value_biases(adapter, calls), None, None), [ablated])[0]


def _one_layer(adapter: ModelAdapter, name: str) -> ModelAdapter | None:
    """The adapter of the copy; None where the configuration cannot be cut down or such a model cannot run by itself."""
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            _cut_down(adapter.model.config), dtype=torch.float32, attn_implementation="eager"
        ).eval()
        with torch.no_grad():
            _randomize_weights(model)
            small = adapt(model, name)
            model(input_ids=torch.arange(4)[None], use_cache=False)
    except (*hooks.FAILURES, SelfRepairError):
        return None
    return small if small.architecture == adapter.architecture and small.n_layers == 1 else None


def _randomize_weights(model: PreTrainedModel) -> None:
    """Weights with which attention patterns, gains and biases matter: with the initial ones, anything would agree."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        else:
            parameter.normal_(0, parameter.shape[-1] ** -0.5, generator=generator)


def _cut_down(config: PretrainedConfig) -> PretrainedConfig:
    """The same widths and heads, but one layer and few tokens."""
    small = copy.deepcopy(config)
    text_config = small.get_text_config()
    text_config.num_hidden_layers = 1
    sizes = {size for size in text_config.to_dict().values() if isinstance(size, int)}
    # Of a square unembedding the bridge's compatibility mode may not tell rows from columns: the copy has one only where the
    # model has.
    if text_config.vocab_size != text_config.hidden_size:
        text_config.vocab_size = next(
            n for n in range(LEAST_VOCABULARY, LEAST_VOCABULARY + len(sizes) + 1) if n not in sizes
        )
    if text_config.pad_token_id is not None:
        text_config.pad_token_id = 0
    return small
