"""The clean forward: every layer's contribution to the residual stream, run on the layers' native modules."""

import inspect
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from selfrepair.ingest.models.adapter import RESIDUAL, Atlas


@dataclass(frozen=True)
class AttentionCalls:
    """What every layer's attention is called with beside the stream, by name, for prompts of one length.

    It depends on positions alone (masks, rotary angles, biases by distance), so that one prompt's serve any number of
    prompts; the tensors named in `per_prompt` must be there once for each of them.
    """

    seq_len: int
    keywords: tuple[dict[str, Any], ...]
    per_prompt: frozenset[str] = frozenset()

    def of(self, layer: int, normed: Float[Tensor, "batch pos d_model"]) -> dict[str, Any]:
        """The arguments of `layer` for a batch whose normed stream is `normed`."""
        known = {
            name: _for_each(value, len(normed)) if name in self.per_prompt else value
            for name, value in self.keywords[layer].items()
        }
        # Some families' attention adds the stream itself: given zeros, it returns what it adds.
        return known | {RESIDUAL: torch.zeros_like(normed)} if RESIDUAL in known else known


@dataclass(frozen=True)
class LayerOutputs:
    """One layer of a clean forward. `branch` is the stream that an ablated head's difference is added to.

    In sequential blocks that is the stream after attention (this layer's MLP sees the ablation), in parallel blocks
    the stream after the whole layer (it does not). `activations` are kept where they are asked for.
    """

    z: Float[Tensor, "batch pos head d_head"]
    activations: Float[Tensor, "batch pos neuron"] | None
    attention: Float[Tensor, "batch pos d_model"]
    mlp: Float[Tensor, "batch pos d_model"]
    branch: Float[Tensor, "batch pos d_model"]


def _for_each(value: Tensor, n_prompts: int) -> Tensor:
    """What one prompt's attention is called with, for so many; a first axis of one takes no memory for them."""
    shape = [1] * (value.ndim - 1)
    return value.expand(n_prompts, *value.shape[1:]) if len(value) == 1 else value.repeat(n_prompts, *shape)


@contextmanager
def _captured_input(module: nn.Module) -> Iterator[list[Tensor]]:
    """While it lasts, the inputs that `module` is called with."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    try:
        yield seen
    finally:
        handle.remove()


class _Stopped(Exception):  # noqa: N818 - not an error: it ends a forward
    pass


@contextmanager
def _stopped_at(module: nn.Module) -> Iterator[list[Tensor]]:
    """What is called here ends where it would call `module`, whose input is kept."""
    seen: list[Tensor] = []

    def stop(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        seen.append(arguments[0] if arguments else keywords["hidden_states"])
        raise _Stopped

    handle = module.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        yield seen
    except _Stopped:
        pass
    finally:
        handle.remove()


def record_calls(atlas: Atlas, seq_len: int) -> AttentionCalls:
    """Run one prompt, then two, through the model itself and keep what every attention module is called with."""
    one, two = (_recorded(atlas, torch.zeros(n, seq_len, dtype=torch.long, device=atlas.device)) for n in (1, 2))
    per_prompt = {
        name
        for of_one, of_two in zip(one, two, strict=True)
        for name, value in of_one.items()
        if isinstance(value, Tensor) and value.ndim and len(value) < len(of_two[name]) and name != RESIDUAL
    }
    return AttentionCalls(seq_len, tuple(one), frozenset(per_prompt))


def _recorded(atlas: Atlas, tokens: Int[Tensor, "batch pos"]) -> list[dict[str, Any]]:
    """What the attention of every layer is called with, but for the stream."""
    seen: dict[int, dict[str, Any]] = {}

    def keep(layer: int, module: nn.Module, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        signature = inspect.signature(module.forward)
        named = signature.bind(*arguments, **keywords).arguments
        stream, *_ = signature.parameters
        more = next((name for name, one in signature.parameters.items() if one.kind == one.VAR_KEYWORD), None)
        others = named.pop(more, {}) if more is not None else {}
        seen[layer] = {name: value for name, value in (named | others).items() if name != stream}

    handles = [
        block.attention.register_forward_pre_hook(
            lambda module, arguments, keywords, layer=layer: keep(layer, module, arguments, keywords), with_kwargs=True
        )
        for layer, block in enumerate(atlas.blocks)
    ]
    try:
        atlas.model(input_ids=tokens, use_cache=False, logits_to_keep=1)
    finally:
        for handle in handles:
            handle.remove()
    return [seen[layer] for layer in range(atlas.n_layers)]


def embed(atlas: Atlas, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
    """The residual stream that enters the first block, computed by the model itself."""
    with _stopped_at(atlas.blocks[0].module) as inputs:
        atlas.model(input_ids=tokens, use_cache=False, logits_to_keep=1)
    return inputs[0].to(atlas.stream_dtype, copy=True)


def attend(
    atlas: Atlas, layer: int, stream: Float[Tensor, "batch pos d_model"], calls: AttentionCalls
) -> tuple[Float[Tensor, "batch pos d_model"], Float[Tensor, "batch pos head d_head"]]:
    """What attention of `layer` adds to `stream`, and z of its heads."""
    block = atlas.blocks[layer]
    normed = block.ln1(stream.to(atlas.layer_dtype))
    with _captured_input(block.output_projection) as inputs:
        out: Tensor = block.attention(normed, **calls.of(layer, normed))[0]
    return out, inputs[0].unflatten(-1, (atlas.n_heads, atlas.d_head))


def heads_alone(
    atlas: Atlas, layer: int, stream: Float[Tensor, "batch pos d_model"], calls: AttentionCalls
) -> Float[Tensor, "batch pos head d_head"]:
    """The same z where nobody asks what attention adds."""
    block = atlas.blocks[layer]
    normed = block.ln1(stream.to(atlas.layer_dtype))
    with _stopped_at(block.output_projection) as inputs:
        block.attention(normed, **calls.of(layer, normed))
    z: Tensor = inputs[0].unflatten(-1, (atlas.n_heads, atlas.d_head))
    return z


def transform(
    atlas: Atlas, layer: int, stream: Float[Tensor, "batch pos d_model"], *, keep_activations: bool = False
) -> tuple[Float[Tensor, "batch pos d_model"], Float[Tensor, "batch pos neuron"] | None]:
    """What the MLP of `layer` adds to `stream`, and its neurons' activations where they are asked for."""
    block = atlas.blocks[layer]
    normed = block.ln2(stream.to(atlas.layer_dtype))
    if not keep_activations:
        return block.mlp(normed), None
    assert block.mlp_output is not None, "Mechanisms.neuron_layers lets no such layer through"
    with _captured_input(block.mlp_output) as inputs:
        out = block.mlp(normed)
    return out, inputs[0].unflatten(0, stream.shape[:2]) if inputs[0].ndim == 2 else inputs[0]


def clean_layers(
    atlas: Atlas,
    stream: Float[Tensor, "batch pos d_model"],
    calls: AttentionCalls,
    keep_activations: Collection[int] = (),
) -> Iterator[LayerOutputs]:
    """Walk the layers over `stream`, which is updated in place and ends as the final residual stream.

    The activations of the MLPs of the layers `keep_activations` are kept.
    """
    for layer in range(atlas.n_layers):
        attention, z = attend(atlas, layer, stream, calls)
        if atlas.parallel_blocks:
            mlp, activations = transform(atlas, layer, stream, keep_activations=layer in keep_activations)
            stream += attention
            stream += mlp
            branch = stream.clone()
        else:
            stream += attention
            branch = stream.clone()
            mlp, activations = transform(atlas, layer, stream, keep_activations=layer in keep_activations)
            stream += mlp
        yield LayerOutputs(z, activations, attention, mlp, branch)


def value_biases(atlas: Atlas, calls: AttentionCalls) -> Float[Tensor, "layer head d_head"]:
    """The constant part of every query head's z: what it is when the residual stream is zero.

    That is b_V plus the first norm's bias times W_V, the value bias of weights with the norms folded in. Attention
    itself computes it, whatever the family's layout of weights.
    """
    zeros = torch.zeros(1, calls.seq_len, atlas.d_model, dtype=atlas.stream_dtype, device=atlas.device)
    return torch.stack([heads_alone(atlas, layer, zeros, calls)[0, 0] for layer in range(atlas.n_layers)])
