"""Try the cross-check on a small copy of the model before measuring, so that a family it cannot run is refused at once."""

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from selfrepair.ingest.checks import hooks as hook_method
from selfrepair.ingest.conventions import EFFECTS
from selfrepair.ingest.engine.ablation import Cell, Replacements, ablate
from selfrepair.ingest.engine.clean import clean_batch
from selfrepair.ingest.engine.forward import record_calls, value_biases
from selfrepair.ingest.engine.unembedding import mean_unembedding
from selfrepair.ingest.models.adapter import Atlas, locate, unsupported
from selfrepair.ingest.runs.measurer import out_of_memory
from selfrepair.ingest.text.targets import next_tokens
from selfrepair.warehouse.errors import SelfRepairError

LEAST_VOCABULARY = 64
"""Tokens the copy knows, at least: embeddings are most of what one layer's copy of a large model would have to make."""

LARGEST_DIFFERENCE = 0.01
"""How far the two ways may differ on the copy, as a share of the largest effect: rounding is a thousandth of it."""


def try_bridge(atlas: Atlas, name: str) -> None:
    """Measure one head of a copy of the model, one layer of random weights on the CPU, in both ways.

    The model itself is not touched. Raises SelfRepairError where TransformerBridge cannot run the copy in compatibility
    mode, or gives other numbers. Where no copy can be made, nothing is known and nothing is refused: then the cross-check
    itself will tell.
    """
    small = _one_layer(atlas, name)
    if small is None:
        return
    tokens = torch.arange(5)[None]
    cell = Cell(0, 0, "zero")
    bridge_is = (
        f"TransformerBridge, which every run is checked against, {{}} {atlas.architecture} of this configuration"
    )
    try:
        with torch.no_grad():
            expected = _effects(small, tokens, cell)
            bridge = hook_method.boot(small)
            clean = hook_method.run_clean(bridge, tokens, hook_method.needed)
            found = hook_method.measure_cell(bridge, clean, cell, torch.zeros_like(clean.head_values(cell)))
    except hook_method.FAILURES as error:
        if out_of_memory(error):
            return
        raise unsupported(
            name,
            f"{bridge_is.format('cannot run')} in compatibility mode ({hook_method.message_of(error)})",
        ) from error
    logits = slice(EFFECTS.index("ln_scale_ratio"))  # a ratio about 1 would dwarf the effects of random weights
    off = float((found - expected)[..., logits].abs().max() / expected[..., logits].abs().max())
    if not off <= LARGEST_DIFFERENCE:
        raise unsupported(name, f"{bridge_is.format('gives other numbers for')} (off by {off:.2g} of the largest)")


def _effects(atlas: Atlas, tokens: Int[Tensor, "batch seq"], cell: Cell) -> Float[Tensor, "batch pos effect"]:
    """What the engine finds for the cell, whose head is taken out."""
    calls = record_calls(atlas, tokens.shape[1] - 1)
    clean = clean_batch(atlas, calls, mean_unembedding(atlas), next_tokens(tokens))
    return ablate(atlas, calls, clean, Replacements(value_biases(atlas, calls), None, None), [cell])[0]


def _one_layer(atlas: Atlas, name: str) -> Atlas | None:
    """The atlas of the copy; None where the configuration cannot be cut down or such a model cannot run by itself."""
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            _cut_down(atlas.model.config), dtype=torch.float32, attn_implementation="eager"
        ).eval()
        with torch.no_grad():
            _make_lively(model)
            small = locate(model, name)
            model(input_ids=torch.arange(4)[None], use_cache=False)
    except (*hook_method.FAILURES, SelfRepairError):
        return None
    return small if small.architecture == atlas.architecture and small.n_layers == 1 else None


def _make_lively(model: PreTrainedModel) -> None:
    """Weights by which attention attends and gains and biases matter: as they are made, both ways would agree too easily."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        else:
            parameter.normal_(0, parameter.shape[-1] ** -0.5, generator=generator)


def _cut_down(config: PretrainedConfig) -> PretrainedConfig:
    """The same widths and heads, but one layer and few tokens."""
    small = copy.deepcopy(config)
    of_text = small.get_text_config()
    of_text.num_hidden_layers = 1
    sizes = {size for size in of_text.to_dict().values() if isinstance(size, int)}
    # of a square unembedding the bridge's compatibility mode cannot tell rows from columns
    of_text.vocab_size = next(n for n in range(LEAST_VOCABULARY, LEAST_VOCABULARY + len(sizes) + 1) if n not in sizes)
    if of_text.pad_token_id is not None:
        of_text.pad_token_id = 0
    return small
