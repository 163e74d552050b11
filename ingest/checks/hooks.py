"""The measurement as it is usually done: TransformerBridge in compatibility mode, hooks, whole forwards for every head.

One clean forward for each batch; for every head two whole forwards with hooks, one that caches all activations and one for
the logits; every head's output re-projected into the residual stream each time.

It is slow, and shares nothing with the engine but the tokens: folded and centred weights instead of logit directions,
eager attention instead of the fused kernel, summed head outputs instead of attention outputs. `bench` times the engine
against it, and the cross-check's method is compared with it on a small copy of a model (`bridge_comparison`).
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ingest.engine.ablation import HeadAblation
from selfrepair.ingest.models.adapter import ModelAdapter

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Names: TypeAlias = Callable[[str], bool] | None
"""Which activations, by hook name, a cache keeps; None keeps them all."""

Hooks: TypeAlias = Sequence[tuple[str | Callable[..., Any], Callable[..., Any]]]
"""Hooks by the name of the activation that they change."""


def boot(adapter: ModelAdapter) -> "TransformerBridge":
    """A bridge around the adapter's model in compatibility mode.

    It takes the model over: weights are folded and modules wrapped in place, so that the engine cannot use it again.
    """
    from transformer_lens.model_bridge.sources import build_bridge_from_module  # seconds, which most workers do without

    adapter.model.set_attn_implementation("eager")
    bridge = build_bridge_from_module(
        adapter.model, adapter.architecture, hf_config=adapter.model.config, model_name=adapter.architecture
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # `bridge_comparison` compares the numbers
        bridge.enable_compatibility_mode(disable_warnings=True)
    return bridge


@dataclass(frozen=True)
class HookedRun:
    """A clean forward: its cache, target logits, and every head's and MLP's direct effect [logits].

    `names` says what its cache and those of the ablated forwards keep; `hooks` are in force in it and in those.
    """

    names: Names
    hooks: Hooks
    tokens: Int[Tensor, "batch seq"]
    foil: int | None
    cache: Any
    logit_directions: Float[Tensor, "batch pos d_model"]
    target_logits: Float[Tensor, "batch pos"]
    scale: Float[Tensor, "batch pos"]
    heads: Float[Tensor, "layer head batch pos"]
    mlps: Float[Tensor, "layer batch pos"]

    def head_values(self, ablated: HeadAblation) -> Float[Tensor, "batch seq d_head"]:
        """Z of the head, in compatibility mode."""
        z: Tensor = self.cache[f"blocks.{ablated.layer}.attn.hook_z"]
        return z[:, :, ablated.head]


def needed(name: str) -> bool:
    """Whether the measurement reads the activation of that name: `Names` for a small cache."""
    return name.endswith(("attn.hook_z", ".hook_mlp_out", ".hook_resid_post")) or name == "ln_final.hook_scale"


def replacing(ablated: HeadAblation, replacement: Float[Tensor, "batch seq d_head"]) -> Hooks:
    """The hook that ablates a head; `replacement` is its new z in compatibility mode, where the constant part has moved out
    of z.
    """

    def replace_z(z: Tensor, hook: Any) -> Tensor:
        z[:, :, ablated.head] = replacement
        return z

    return [(f"blocks.{ablated.layer}.attn.hook_z", replace_z)]


def run_clean(
    bridge: "TransformerBridge",
    tokens: Int[Tensor, "batch seq"],
    names: Names = None,
    hooks: Hooks = (),
    foil: int | None = None,
) -> HookedRun:
    """The forward that ablations of one batch are compared with; `hooks` are in force in it.

    With a `foil`, target logits are relative to the foil's.
    """
    with bridge.hooks(fwd_hooks=list(hooks)):
        logits, cache = bridge.run_with_cache(tokens, names_filter=names)
    logit_directions = bridge.W_U.T[tokens[:, 1:]] - (0 if foil is None else bridge.W_U.T[foil])
    scale = cache["ln_final.hook_scale"][:, :-1, 0]
    heads, mlps = _direct_effects(bridge, cache, logit_directions, cache)
    target_logits = _target_logits(logits, tokens, foil)
    return HookedRun(names, hooks, tokens, foil, cache, logit_directions, target_logits, scale, heads, mlps)


def measure_head_ablation(
    bridge: "TransformerBridge", clean: HookedRun, ablated: HeadAblation, replacement: Float[Tensor, "batch seq d_head"]
) -> Float[Tensor, "batch pos effect"]:
    """All effects of one head ablation [logits], in the order of `conventions.EFFECTS`; `replacement` as in `replacing`."""
    hooks = [*clean.hooks, *replacing(ablated, replacement)]
    with bridge.hooks(fwd_hooks=hooks):
        _, cache = bridge.run_with_cache(clean.tokens, names_filter=clean.names)
    logits = bridge.run_with_hooks(clean.tokens, fwd_hooks=hooks)

    heads, mlps = _direct_effects(bridge, cache, clean.logit_directions, clean.cache)
    scale = cache["ln_final.hook_scale"][:, :-1, 0]
    final = _project(cache[f"blocks.{bridge.cfg.n_layers - 1}.hook_resid_post"], clean.logit_directions)
    above = slice(ablated.layer + 1, None)
    return torch.stack(
        [
            clean.heads[ablated.layer, ablated.head],
            heads[ablated.layer, ablated.head],
            _target_logits(logits, clean.tokens, clean.foil) - clean.target_logits,
            final * (1 / scale - 1 / clean.scale),
            (heads[above] - clean.heads[above]).sum(dim=(0, 1)),
            (mlps - clean.mlps).sum(dim=0),
            torch.zeros_like(scale),
            clean.scale / scale,
        ],
        dim=-1,
    )


def _direct_effects(
    bridge: "TransformerBridge", cache: Any, logit_directions: Tensor, scaling_cache: Any
) -> tuple[Float[Tensor, "layer head batch pos"], Float[Tensor, "layer batch pos"]]:
    """Every head's output, re-projected into the residual stream, and every MLP's, times the logit directions.

    The final norm's scale is the one of `scaling_cache`. Layer by layer: the outputs of all heads of a 7B model on 128
    tokens would take 2 GB.
    """
    heads: list[Tensor] = []
    mlps: list[Tensor] = []
    for layer in range(bridge.cfg.n_layers):
        mlp_output = cache[f"blocks.{layer}.hook_mlp_out"][None]
        for effects, stack in ((heads, _head_outputs(bridge, cache, layer)), (mlps, mlp_output)):
            effects.append(_project(scaling_cache.apply_ln_to_stack(stack, layer=-1), logit_directions))
    return torch.stack(heads), torch.cat(mlps)


def _head_outputs(bridge: "TransformerBridge", cache: Any, layer: int) -> Float[Tensor, "head batch seq d_model"]:
    """The output of each head of a layer; with `use_attn_result`, the bridge has it in its cache."""
    name = f"blocks.{layer}.attn.hook_result"
    if name in cache.cache_dict:
        result: Tensor = cache[name]
        return result.movedim(-2, 0)
    return torch.einsum("bphd,hdm->hbpm", cache[f"blocks.{layer}.attn.hook_z"], bridge.blocks[layer].attn.W_O)


def _project(
    vectors: Float[Tensor, "*stack batch seq d_model"], logit_directions: Tensor
) -> Float[Tensor, "*stack batch pos"]:
    return torch.einsum("...bpd,bpd->...bp", vectors[..., :-1, :], logit_directions)


def _target_logits(logits: Tensor, tokens: Int[Tensor, "batch seq"], foil: int | None) -> Float[Tensor, "batch pos"]:
    """Compatibility mode centres the unembedding, so that these are relative to the mean logit, or to the foil's."""
    own = logits[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]
    return own if foil is None else own - logits[:, :-1, foil]
