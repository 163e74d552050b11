"""Compare TransformerBridge with the cross-check's method on a small copy of the model: recorded, and no condition."""

import copy

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from selfrepair.ingest.checks import hooks
from selfrepair.ingest.checks.reference import FAILURES, PlainForwards
from selfrepair.ingest.conventions import EFFECTS
from selfrepair.ingest.engine.ablation import HeadAblation
from selfrepair.ingest.models.adapter import ModelAdapter, adapt
from selfrepair.ingest.text.targets import next_token_targets
from selfrepair.warehouse.errors import SelfRepairError

AGREES, DIFFERS, CANNOT_RUN = ", TransformerBridge", "; TransformerBridge differs", "; TransformerBridge cannot run it"
"""What came of the comparison, as it is added to the checks of a run."""

LEAST_VOCABULARY = 64
"""The copy's smallest vocabulary: embeddings would be most of a one-layer copy of a large model."""

LARGEST_DIFFERENCE = 0.01
"""Largest difference on the copy, as a share of the largest effect: rounding is a thousandth of it."""


def compare_bridge(adapter: ModelAdapter, name: str) -> str:
    """Measure one head of a copy of the model, one layer of random weights on the CPU, by whole forwards of plain modules and
    by TransformerBridge in compatibility mode. The model itself is not changed.
    """
    small = _one_layer(adapter, name)
    if small is None:
        return CANNOT_RUN
    tokens, ablated = torch.arange(5)[None], HeadAblation(0, 0, "zero")
    try:
        with torch.no_grad():
            forwards = PlainForwards(small)
            plain = forwards.clean(next_token_targets(tokens))
            expected = forwards.measure(plain, [((0, 0), forwards.value_biases[0, 0])])[0]
            bridge = hooks.boot(small)
            clean = hooks.run_clean(bridge, tokens, hooks.needed)
            found = hooks.measure_head_ablation(bridge, clean, ablated, torch.zeros_like(clean.head_values(ablated)))[0]
    except FAILURES:
        return CANNOT_RUN
    logits = slice(EFFECTS.index("ln_scale_ratio"))  # a ratio about 1 would dwarf the effects of random weights
    off = float((found - expected)[..., logits].abs().max() / expected[..., logits].abs().max())
    return AGREES if off <= LARGEST_DIFFERENCE else DIFFERS


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
    except (*FAILURES, SelfRepairError):
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
