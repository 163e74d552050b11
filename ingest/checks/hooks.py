"""The measurement as the field does it: TransformerBridge in compatibility mode, hooks, whole forwards for every head.

A clean forward a batch; for every head two whole forwards through hooks, one that caches all activations and one for
the logits; every head's output re-projected into the residual stream each time.

It is slow and it shares nothing with the engine but the tokens: folded and centred weights instead of directions,
eager attention instead of the fused kernel, summed head outputs instead of attention outputs. Every run is checked
against it (`crosscheck`), and `bench` times the engine against it.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources import build_bridge_from_module

from selfrepair.ingest.engine.ablation import Cell
from selfrepair.ingest.models.adapter import Atlas

Names: TypeAlias = Callable[[str], bool] | None
"""Which activations, by hook name, a cache keeps; None keeps them all, as the field does."""

Hooks: TypeAlias = Sequence[tuple[str | Callable[..., Any], Callable[..., Any]]]
"""Hooks by the name of what they change."""

FAILURES = (RuntimeError, TypeError, AttributeError, ValueError, LookupError, AssertionError, MemoryError)
"""What a bridge raises around a model that it cannot run (NotImplementedError is a RuntimeError)."""


def boot(atlas: Atlas) -> TransformerBridge:
    """A bridge around the atlas's model in compatibility mode.

    It takes the model over: weights are folded and modules wrapped in place, so that the engine cannot use it again.
    """
    atlas.model.set_attn_implementation("eager")
    bridge = build_bridge_from_module(
        atlas.model, atlas.architecture, hf_config=atlas.model.config, model_name=atlas.architecture
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what it cannot do, `bridge_trial` finds out in numbers
        bridge.enable_compatibility_mode(disable_warnings=True)
    return bridge


@dataclass(frozen=True)
class HookedRun:
    """A clean forward: its cache, target logits, and every head's and MLP's direct effect [logits].

    `names` says what its cache keeps, and what those of the ablated forwards will; `hooks` ran in it and run in those, too.
    """

    names: Names
    hooks: Hooks
    tokens: Int[Tensor, "batch seq"]
    foil: int | None
    cache: Any
    directions: Float[Tensor, "batch pos d_model"]
    target_logits: Float[Tensor, "batch pos"]
    scale: Float[Tensor, "batch pos"]
    heads: Float[Tensor, "layer head batch pos"]
    mlps: Float[Tensor, "layer batch pos"]

    def head_values(self, cell: Cell) -> Float[Tensor, "batch seq d_head"]:
        """Z of a cell's head, in compatibility mode."""
        z: Tensor = self.cache[f"blocks.{cell.layer}.attn.hook_z"]
        return z[:, :, cell.head]


def needed(name: str) -> bool:
    """Whether the measurement reads the activation of that name: `Names` for where memory counts."""
    return name.endswith(("attn.hook_z", ".hook_mlp_out", ".hook_resid_post")) or name == "ln_final.hook_scale"


def replacing(cell: Cell, replacement: Float[Tensor, "batch seq d_head"]) -> Hooks:
    """The hook that ablates a cell's head; `replacement` is its new z in compatibility mode, where the constant part has
    moved out of z.
    """

    def replace_z(z: Tensor, hook: Any) -> Tensor:
        z[:, :, cell.head] = replacement
        return z

    return [(f"blocks.{cell.layer}.attn.hook_z", replace_z)]


def run_clean(
    bridge: TransformerBridge,
    tokens: Int[Tensor, "batch seq"],
    names: Names = None,
    hooks: Hooks = (),
    foil: int | None = None,
) -> HookedRun:
    """What the ablations of one batch are compared with: a forward with the `hooks`.

    With a `foil`, every target's logit is read above the foil's.
    """
    with bridge.hooks(fwd_hooks=list(hooks)):
        logits, cache = bridge.run_with_cache(tokens, names_filter=names)
    directions = bridge.W_U.T[tokens[:, 1:]] - (0 if foil is None else bridge.W_U.T[foil])
    scale = cache["ln_final.hook_scale"][:, :-1, 0]
    heads, mlps = _direct_effects(bridge, cache, directions, cache)
    target_logits = _target_logits(logits, tokens, foil)
    return HookedRun(names, hooks, tokens, foil, cache, directions, target_logits, scale, heads, mlps)


def measure_cell(
    bridge: TransformerBridge, clean: HookedRun, cell: Cell, replacement: Float[Tensor, "batch seq d_head"]
) -> Float[Tensor, "batch pos effect"]:
    """All effects of one cell [logits], in the order of `conventions.EFFECTS`; its head's new z is as `replacing` says."""
    hooks = [*clean.hooks, *replacing(cell, replacement)]
    with bridge.hooks(fwd_hooks=hooks):
        _, cache = bridge.run_with_cache(clean.tokens, names_filter=clean.names)
    logits = bridge.run_with_hooks(clean.tokens, fwd_hooks=hooks)

    heads, mlps = _direct_effects(bridge, cache, clean.directions, clean.cache)
    scale = cache["ln_final.hook_scale"][:, :-1, 0]
    final = _read(cache[f"blocks.{bridge.cfg.n_layers - 1}.hook_resid_post"], clean.directions)
    above = slice(cell.layer + 1, None)
    return torch.stack(
        [
            clean.heads[cell.layer, cell.head],
            heads[cell.layer, cell.head],
            _target_logits(logits, clean.tokens, clean.foil) - clean.target_logits,
            final * (1 / scale - 1 / clean.scale),
            (heads[above] - clean.heads[above]).sum(dim=(0, 1)),
            (mlps - clean.mlps).sum(dim=0),
            clean.scale / scale,
        ],
        dim=-1,
    )


def message_of(error: Exception) -> str:
    """What a failure of the bridge says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _direct_effects(
    bridge: TransformerBridge, cache: Any, directions: Tensor, scaling_cache: Any
) -> tuple[Float[Tensor, "layer head batch pos"], Float[Tensor, "layer batch pos"]]:
    """Every head's output, re-projected into the residual stream, and every MLP's, read along the targets' directions.

    The final norm's scale is the one of `scaling_cache`. Layer by layer: the outputs of all heads of a 7B model on 128
    tokens would take 2 GB.
    """
    heads: list[Tensor] = []
    mlps: list[Tensor] = []
    for layer in range(bridge.cfg.n_layers):
        mlp_output = cache[f"blocks.{layer}.hook_mlp_out"][None]
        for reads, stack in ((heads, _head_outputs(bridge, cache, layer)), (mlps, mlp_output)):
            reads.append(_read(scaling_cache.apply_ln_to_stack(stack, layer=-1), directions))
    return torch.stack(heads), torch.cat(mlps)


def _head_outputs(bridge: TransformerBridge, cache: Any, layer: int) -> Float[Tensor, "head batch seq d_model"]:
    """What each head of a layer adds to the residual stream; a bridge that was told to has it in its cache."""
    name = f"blocks.{layer}.attn.hook_result"
    if name in cache.cache_dict:
        result: Tensor = cache[name]
        return result.movedim(-2, 0)
    return torch.einsum("bphd,hdm->hbpm", cache[f"blocks.{layer}.attn.hook_z"], bridge.blocks[layer].attn.W_O)


def _read(vectors: Float[Tensor, "*stack batch seq d_model"], directions: Tensor) -> Float[Tensor, "*stack batch pos"]:
    return torch.einsum("...bpd,bpd->...bp", vectors[..., :-1, :], directions)


def _target_logits(logits: Tensor, tokens: Int[Tensor, "batch seq"], foil: int | None) -> Float[Tensor, "batch pos"]:
    """Compatibility mode centres the unembedding, so that these are relative to the mean logit, or to the foil's."""
    own = logits[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]
    return own if foil is None else own - logits[:, :-1, foil]
