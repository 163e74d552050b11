"""Try the cross-check on a small copy of the model before measuring, so that a family it cannot run is refused at once."""

import copy

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from selfrepair.ingest import hook_method
from selfrepair.ingest.ablate import Cell
from selfrepair.ingest.atlas import Atlas, locate, unsupported
from selfrepair.warehouse.errors import SelfRepairError

VOCABULARY = 64
"""Tokens the copy knows: embeddings are most of what one layer's copy of a large model would have to make."""


def try_bridge(atlas: Atlas, name: str) -> None:
    """Run the hook method on random weights of the model's own configuration with one layer, on the CPU.

    The model itself is not touched. Raises SelfRepairError where TransformerBridge cannot run the copy in compatibility
    mode. Where no copy can be made, nothing is known and nothing is refused: then the cross-check itself will tell.
    """
    small = _one_layer(atlas, name)
    if small is None:
        return
    tokens = torch.arange(4)[None]
    cell = Cell(0, 0, "zero")
    try:
        with torch.no_grad():
            bridge = hook_method.boot(small)
            clean = hook_method.run_clean(bridge, tokens, hook_method.needed)
            hook_method.measure_cell(bridge, clean, cell, torch.zeros_like(clean.head_values(cell)))
    except MemoryError:
        return
    except hook_method.FAILURES as error:
        raise unsupported(
            name,
            f"TransformerBridge, which every run is checked against, cannot run {atlas.architecture} of this "
            f"configuration in compatibility mode ({hook_method.first_line(error)})",
        ) from error


def _one_layer(atlas: Atlas, name: str) -> Atlas | None:
    """The atlas of the copy; None where the configuration cannot be cut down or such a model cannot run by itself."""
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            _cut_down(atlas.model.config), dtype=torch.float32, attn_implementation="eager"
        ).eval()
        small = locate(model, name)
        with torch.no_grad():
            model(input_ids=torch.arange(4)[None], use_cache=False)
    except (*hook_method.FAILURES, SelfRepairError):
        return None
    return small if small.architecture == atlas.architecture and small.n_layers == 1 else None


def _cut_down(config: PretrainedConfig) -> PretrainedConfig:
    """The same widths and heads, but one layer and few tokens."""
    small = copy.deepcopy(config)
    of_text = small.get_text_config()
    of_text.num_hidden_layers = 1
    of_text.vocab_size = VOCABULARY
    if of_text.pad_token_id is not None:
        of_text.pad_token_id = 0
    return small
