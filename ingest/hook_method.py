"""The measurement as the field does it: TransformerBridge in compatibility mode, hooks, two whole forwards a head.

It is slow and it shares nothing with the engine but the tokens: folded and centred weights instead of directions,
eager attention instead of the fused kernel, summed head outputs instead of attention outputs. Every run is checked
against it (`crosscheck`), and `bench` times the engine against it.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources import build_bridge_from_module

from selfrepair.ingest.ablate import Cell
from selfrepair.ingest.atlas import Atlas


def boot(atlas: Atlas) -> TransformerBridge:
    """A bridge around the atlas's model in compatibility mode.

    It takes the model over: weights are folded and modules wrapped in place, so that the engine cannot use it again.
    """
    atlas.model.set_attn_implementation("eager")
    bridge = build_bridge_from_module(
        atlas.model, atlas.architecture, hf_config=atlas.model.config, model_name=atlas.architecture
    )
    bridge.enable_compatibility_mode(disable_warnings=True)
    return bridge


def clean_cache(bridge: TransformerBridge, tokens: Int[Tensor, "batch seq"]) -> tuple[Tensor, Any]:
    """Logits [batch, seq, vocabulary] and the activations the method reads."""
    logits, cache = bridge.run_with_cache(tokens, names_filter=_is_read(bridge.cfg.n_layers))
    return logits, cache


def measure_cell(
    bridge: TransformerBridge,
    tokens: Int[Tensor, "batch seq"],
    cell: Cell,
    replacement: Float[Tensor, "batch seq d_head"],
) -> Float[Tensor, "batch pos effect"]:
    """All effects of one cell [logits], in the order of `conventions.EFFECTS`: a clean and an ablated forward.

    `replacement` is the head's new z in compatibility mode, where the value bias has moved out of z.
    """
    clean_logits, clean = clean_cache(bridge, tokens)

    def replace_z(z: Tensor, hook: Any) -> Tensor:
        z[:, :, cell.head] = replacement
        return z

    with bridge.hooks(fwd_hooks=[(f"blocks.{cell.layer}.attn.hook_z", replace_z)]):
        ablated_logits, ablated = clean_cache(bridge, tokens)

    targets = tokens[:, 1:]
    directions = bridge.W_U.T[targets]
    scale, ablated_scale = (cache["ln_final.hook_scale"][:, :-1, 0] for cache in (clean, ablated))
    n_layers = bridge.cfg.n_layers
    heads, ablated_heads = (_head_effects(bridge, cache, directions, scale) for cache in (clean, ablated))
    mlps, ablated_mlps = (
        sum(_read(cache[f"blocks.{layer}.hook_mlp_out"], directions) for layer in range(n_layers)) / scale
        for cache in (clean, ablated)
    )
    final = _read(ablated[f"blocks.{n_layers - 1}.hook_resid_post"], directions)
    above = slice(cell.layer + 1, None)
    return torch.stack(
        [
            heads[cell.layer, cell.head],
            ablated_heads[cell.layer, cell.head],
            _target_logits(ablated_logits, targets) - _target_logits(clean_logits, targets),
            final * (1 / ablated_scale - 1 / scale),
            (ablated_heads[above] - heads[above]).sum(dim=(0, 1)),
            ablated_mlps - mlps,
            scale / ablated_scale,
        ],
        dim=-1,
    )


def _head_effects(
    bridge: TransformerBridge, cache: Any, directions: Tensor, scale: Tensor
) -> Float[Tensor, "layer head batch pos"]:
    """Every head's output re-projected into the residual stream and read along the targets' directions."""
    layers = []
    for layer in range(bridge.cfg.n_layers):
        z = cache[f"blocks.{layer}.attn.hook_z"][:, :-1]
        outputs = torch.einsum("bphe,hed->hbpd", z, bridge.blocks[layer].attn.W_O)
        layers.append((outputs * directions).sum(dim=-1) / scale)
    return torch.stack(layers)


def _read(vectors: Float[Tensor, "batch seq d_model"], directions: Tensor) -> Float[Tensor, "batch pos"]:
    return (vectors[:, :-1] * directions).sum(dim=-1)


def _target_logits(logits: Tensor, targets: Tensor) -> Float[Tensor, "batch pos"]:
    """Compatibility mode centres the unembedding, so that these are relative to the mean logit."""
    return logits[:, :-1].gather(-1, targets[..., None])[..., 0]


def _is_read(n_layers: int) -> Any:
    names = {"ln_final.hook_scale", f"blocks.{n_layers - 1}.hook_resid_post"}
    for layer in range(n_layers):
        names |= {f"blocks.{layer}.attn.hook_z", f"blocks.{layer}.hook_mlp_out"}
    return lambda name: name in names
