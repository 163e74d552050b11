"""The parts of one layer on a residual stream: attention, what stands beside it, the MLP and a branch after it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from selfrepair.ingest.engine.attention_calls import AttentionCalls, captured_input, stopped_at
from selfrepair.ingest.engine.routing import RoutedOutput
from selfrepair.ingest.models.adapter import ModelAdapter
from selfrepair.ingest.models.structure.additions import Addition, times
from selfrepair.ingest.models.structure.norms import NormShape
from selfrepair.ingest.models.structure.roles import HandingMLP


@dataclass(frozen=True)
class AttentionOutput:
    """What attention of a layer did: `added` goes into the stream, `out` is what it was before the post-norm, whose scale is
    `scale` (None where there is no post-norm), and the multiplier.
    """

    added: Float[Tensor, "batch pos d_model"]
    out: Float[Tensor, "batch pos d_model"]
    scale: Float[Tensor, "batch pos"] | None
    z: Float[Tensor, "batch pos head d_head"]


@dataclass(frozen=True)
class MLPOutput:
    """What the MLP of a layer did: as `AttentionOutput`, with the neurons' activations and the routing where they are kept."""

    added: Float[Tensor, "batch pos d_model"]
    scale: Float[Tensor, "batch pos"] | None
    activations: Float[Tensor, "batch pos neuron"] | None
    routed: RoutedOutput | None


def attend(
    adapter: ModelAdapter, layer: int, stream: Float[Tensor, "batch pos d_model"], calls: AttentionCalls
) -> AttentionOutput:
    """Attention of `layer` on `stream`."""
    block = adapter.blocks[layer]
    normed = block.ln1(stream.to(adapter.layer_dtype))
    read = times(normed, block.attention_factor)
    with captured_input(block.output_projection) as inputs:
        returned = block.attention(read, **calls.of(layer, read))
    out: Tensor = returned[0] if isinstance(returned, tuple) else returned
    z = inputs[0].unflatten(-1, (block.n_heads, block.d_head)) if inputs else _no_heads(adapter, normed)
    mixed = out if block.mixing is None else block.mixing(out)
    added, scale = _added(
        mixed, block.attention_post_norm, block.attention_post_shape, block.attention_addition, stream.dtype
    )
    for number, one in enumerate(block.beside):
        made = one.module(normed, **calls.of_beside(layer, number, normed))
        added = added + one.addition.added(made[0] if isinstance(made, tuple) else made)
    return AttentionOutput(added, out, scale, z)


def seen_at(
    adapter: ModelAdapter, layer: int, z: Float[Tensor, "*row pos head d_head"]
) -> Float[Tensor, "*row pos head d_read"]:
    """The z that what each position's heads add to the stream is made of: its own, and those before it where they are mixed."""
    mixing = adapter.blocks[layer].mixing
    return z if mixing is None else mixing.seen(z)


def attention_z(
    adapter: ModelAdapter, layer: int, stream: Float[Tensor, "batch pos d_model"], calls: AttentionCalls
) -> Float[Tensor, "batch pos head d_head"]:
    """The same z, without computing the output."""
    block = adapter.blocks[layer]
    normed = times(block.ln1(stream.to(adapter.layer_dtype)), block.attention_factor)
    if block.output_projection is None:
        return _no_heads(adapter, normed)
    with stopped_at(block.output_projection) as inputs:
        block.attention(normed, **calls.of(layer, normed))
    z: Tensor = inputs[0].unflatten(-1, (block.n_heads, block.d_head))
    return z


def _no_heads(adapter: ModelAdapter, normed: Tensor) -> Float[Tensor, "batch pos head d_head"]:
    """Z of a layer without heads: zeros, which take no memory."""
    return normed.new_zeros(()).expand(*normed.shape[:2], adapter.n_heads, adapter.d_head)


def apply_mlp(
    adapter: ModelAdapter,
    layer: int,
    stream: Float[Tensor, "batch pos d_model"],
    calls: AttentionCalls,
    *,
    keep_activations: bool = False,
    keep_routing: bool = False,
) -> MLPOutput:
    """The MLP of `layer` on `stream`."""
    block = adapter.blocks[layer]
    normed = block.ln2(stream.to(adapter.layer_dtype))
    activations = routed = None
    if isinstance(block.mlp, HandingMLP):
        assert calls.handed is not None, "AttentionCalls.of_prompts makes a place for it"
        block.mlp.handed = calls.handed[layer - 1] if layer else None
    if keep_routing:
        assert block.experts is not None, "Mechanisms.available leaves such layers out"
        with block.experts.read() as found:
            out = block.mlp(normed)
        routing = found[0].each(lambda values: values.unflatten(0, stream.shape[:2]))
        routed = RoutedOutput(routing, out - routing.outputs.sum(dim=-2) * block.experts.factor)
    elif keep_activations:
        assert block.mlp_output is not None, "Mechanisms.neuron_layers refuses such layers"
        with captured_input(block.mlp_output) as inputs:
            out = block.mlp(normed)
        activations = inputs[0].unflatten(0, stream.shape[:2]) if inputs[0].ndim == 2 else inputs[0]
    else:
        out = block.mlp(normed)
    if isinstance(block.mlp, HandingMLP) and calls.handed is not None:
        calls.handed[layer] = block.mlp.handed
    added, scale = _added(out, block.mlp_post_norm, block.mlp_post_shape, block.mlp_addition, stream.dtype)
    return MLPOutput(added, scale, activations, routed)


def apply_branch(
    adapter: ModelAdapter, layer: int, stream: Float[Tensor, "batch pos d_model"], calls: AttentionCalls
) -> Float[Tensor, "batch pos d_model"] | None:
    """What the branch of `layer` adds to the stream after its MLP; None where there is none."""
    branch = adapter.blocks[layer].branch
    if branch is None:
        return None
    return branch.addition.added(branch.made(stream.to(adapter.layer_dtype), calls.gate(layer)))


def run_layer_above_attention(
    adapter: ModelAdapter,
    layer: int,
    stream: Float[Tensor, "batch pos d_model"],
    attention: Float[Tensor, "batch pos d_model"],
    calls: AttentionCalls,
) -> Float[Tensor, "batch pos d_model"]:
    """The stream after `layer`, to whose own stream attention adds `attention`."""
    block, after = adapter.blocks[layer], stream.clone()
    block.attention_addition.keep_(after)
    after += attention
    mlp = apply_mlp(adapter, layer, stream if adapter.parallel_blocks else after, calls)
    block.mlp_addition.keep_(after)
    after += mlp.added
    further = apply_branch(adapter, layer, after, calls)
    if block.branch is not None and further is not None:
        block.branch.addition.keep_(after)
        after += further
    return after


def _added(
    out: Tensor, post_norm: nn.Module | None, shape: NormShape | None, addition: Addition, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """What is added to the stream of what a part made, and its post-norm's scale."""
    scale = None if shape is None else shape.scale(out.to(dtype))
    return addition.added(out if post_norm is None else post_norm(out)), scale
