"""The clean forward, layer by layer on the model's own modules, and what is kept of it.

`CleanBatch` holds what any head can be ablated with afterwards without running the clean forward again.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor, nn

from selfrepair.ingest.engine.attention_calls import AttentionCalls, captured_input, stopped_at
from selfrepair.ingest.engine.precision import full_precision
from selfrepair.ingest.engine.unembedding import Prediction, final_scale, predict, target_logit_directions
from selfrepair.ingest.models.adapter import ModelAdapter
from selfrepair.ingest.models.structure.norms import NormShape
from selfrepair.ingest.text.targets import PredictionTargets


@dataclass(frozen=True)
class LayerOutputs:
    """One layer of a clean forward. `branch` is the stream that an ablated head's difference is added to.

    `attention` and `mlp` are what each adds to the stream; `attention_out` is what attention made before its post-norm and
    multiplier, and the scales are those of the post-norms, None where there are none. In sequential blocks the branch is the
    stream after attention (this layer's MLP sees the ablation), in parallel blocks the stream after the whole layer (it does
    not). `activations` are None unless they are kept.
    """

    z: Float[Tensor, "batch pos head d_head"]
    activations: Float[Tensor, "batch pos neuron"] | None
    attention: Float[Tensor, "batch pos d_model"]
    attention_out: Float[Tensor, "batch pos d_model"]
    attention_scale: Float[Tensor, "batch pos"] | None
    mlp: Float[Tensor, "batch pos d_model"]
    mlp_scale: Float[Tensor, "batch pos"] | None
    branch: Float[Tensor, "batch pos d_model"]


@dataclass(frozen=True)
class CleanBatch:
    """The clean forward of some prompts, and direct logit attributions (DLA) to each measured position's target.

    `input` positions are all that were run, `pos` those at their end that are `measured`; lists run over layers.
    Every `dla` is a dot product with `logit_directions`: logits times S, the final norm's scale, which is `scale`. A head's
    is z times its `head_directions` (W_O w), and `head_dla` still has the value bias's share, which is not part of the head.
    `activations` are those of the MLPs that were to be kept, `logit_lens` has the prediction after each layer or is empty.
    `attention_out` is what attention made before its post-norm, and the scales are those of the post-norms: None where there
    are none.
    """

    z: list[Float[Tensor, "batch input head d_head"]]
    branch: list[Float[Tensor, "batch input d_model"]]
    attention_out: list[Float[Tensor, "batch input d_model"] | None]
    attention_scale: list[Float[Tensor, "batch input"] | None]
    mlp_scale: list[Float[Tensor, "batch input"] | None]
    activations: dict[int, Float[Tensor, "batch pos neuron"]]
    head_directions: list[Float[Tensor, "batch pos head d_head"]]
    head_dla: list[Float[Tensor, "batch pos head"]]
    logit_directions: Float[Tensor, "batch pos d_model"]
    attention_dla: list[Float[Tensor, "batch pos"]]
    mlp_dla: list[Float[Tensor, "batch pos"]]
    stream: Float[Tensor, "batch pos d_model"]
    final_dla: Float[Tensor, "batch pos"]
    scale: Float[Tensor, "batch pos"]
    prediction: Prediction
    logit_lens: list[Prediction]

    @property
    def measured(self) -> slice:
        """The measured positions among all that were run."""
        return slice(-self.logit_directions.shape[1], None)


def embed(adapter: ModelAdapter, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
    """The residual stream that enters the first block, computed by the model itself."""
    with stopped_at(adapter.blocks[0].module) as inputs:
        adapter.model(input_ids=tokens, use_cache=False, logits_to_keep=1)
    return inputs[0].to(adapter.stream_dtype, copy=True)


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
    """What the MLP of a layer did: as `AttentionOutput`, with the neurons' activations where they are kept."""

    added: Float[Tensor, "batch pos d_model"]
    scale: Float[Tensor, "batch pos"] | None
    activations: Float[Tensor, "batch pos neuron"] | None


def attend(
    adapter: ModelAdapter, layer: int, stream: Float[Tensor, "batch pos d_model"], calls: AttentionCalls
) -> AttentionOutput:
    """Attention of `layer` on `stream`."""
    block = adapter.blocks[layer]
    normed = block.ln1(stream.to(adapter.layer_dtype))
    with captured_input(block.output_projection) as inputs:
        returned = block.attention(normed, **calls.of(layer, normed))
    out: Tensor = returned[0] if isinstance(returned, tuple) else returned
    z = inputs[0].unflatten(-1, (adapter.n_heads, adapter.d_head)) if inputs else _no_heads(adapter, normed)
    added, scale = _added(out, block.attention_post_norm, block.attention_post_shape, block.multiplier, stream.dtype)
    return AttentionOutput(added, out, scale, z)


def attention_z(
    adapter: ModelAdapter, layer: int, stream: Float[Tensor, "batch pos d_model"], calls: AttentionCalls
) -> Float[Tensor, "batch pos head d_head"]:
    """The same z, without computing the output."""
    block = adapter.blocks[layer]
    normed = block.ln1(stream.to(adapter.layer_dtype))
    if block.output_projection is None:
        return _no_heads(adapter, normed)
    with stopped_at(block.output_projection) as inputs:
        block.attention(normed, **calls.of(layer, normed))
    z: Tensor = inputs[0].unflatten(-1, (adapter.n_heads, adapter.d_head))
    return z


def _no_heads(adapter: ModelAdapter, normed: Tensor) -> Float[Tensor, "batch pos head d_head"]:
    """Z of a layer without heads: zeros, which take no memory."""
    return normed.new_zeros(()).expand(*normed.shape[:2], adapter.n_heads, adapter.d_head)


def apply_mlp(
    adapter: ModelAdapter, layer: int, stream: Float[Tensor, "batch pos d_model"], *, keep_activations: bool = False
) -> MLPOutput:
    """The MLP of `layer` on `stream`."""
    block = adapter.blocks[layer]
    normed = block.ln2(stream.to(adapter.layer_dtype))
    activations = None
    if keep_activations:
        assert block.mlp_output is not None, "Mechanisms.neuron_layers refuses such layers"
        with captured_input(block.mlp_output) as inputs:
            out = block.mlp(normed)
        activations = inputs[0].unflatten(0, stream.shape[:2]) if inputs[0].ndim == 2 else inputs[0]
    else:
        out = block.mlp(normed)
    added, scale = _added(out, block.mlp_post_norm, block.mlp_post_shape, block.multiplier, stream.dtype)
    return MLPOutput(added, scale, activations)


def _added(
    out: Tensor, post_norm: nn.Module | None, shape: NormShape | None, multiplier: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """What is added to the stream of what a part made, and its post-norm's scale."""
    scale = None if shape is None else shape.scale(out.to(dtype))
    added = out if post_norm is None else post_norm(out)
    return (added if multiplier == 1 else added * multiplier), scale


def clean_layers(
    adapter: ModelAdapter,
    stream: Float[Tensor, "batch pos d_model"],
    calls: AttentionCalls,
    keep_activations: Collection[int] = (),
) -> Iterator[LayerOutputs]:
    """Run the layers on `stream`, which is updated in place and ends as the final residual stream.

    `keep_activations` are the layers whose MLP activations are kept.
    """
    for layer in range(adapter.n_layers):
        attention = attend(adapter, layer, stream, calls)
        if adapter.parallel_blocks:
            mlp = apply_mlp(adapter, layer, stream, keep_activations=layer in keep_activations)
            stream += attention.added
            stream += mlp.added
            branch = stream.clone()
        else:
            stream += attention.added
            branch = stream.clone()
            mlp = apply_mlp(adapter, layer, stream, keep_activations=layer in keep_activations)
            stream += mlp.added
        yield LayerOutputs(
            attention.z,
            mlp.activations,
            attention.added,
            attention.out,
            attention.scale,
            mlp.added,
            mlp.scale,
            branch,
        )


def value_biases(adapter: ModelAdapter, calls: AttentionCalls) -> Float[Tensor, "layer head d_head"]:
    """The constant part of every query head's z: its value for a residual stream of zeros.

    That is b_V plus the first norm's bias times W_V, the value bias of weights with the norms folded in. Attention
    itself computes it, whatever the family's layout of weights. It is 0 where attention weights need not add up to one.
    """
    zeros = torch.zeros(1, calls.seq_len, adapter.d_model, dtype=adapter.stream_dtype, device=adapter.device)
    biases = [attention_z(adapter, layer, zeros, calls)[0, 0] for layer in range(adapter.n_layers)]
    return torch.stack(
        [
            bias if block.value_bias_counts else torch.zeros_like(bias)
            for bias, block in zip(biases, adapter.blocks, strict=True)
        ]
    )


def project(
    vectors: Float[Tensor, "*stack batch pos d"], directions: Float[Tensor, "*batch pos d"]
) -> Float[Tensor, "*stack batch pos"]:
    """Dot product with each position's direction, in the stream's precision."""
    products: Tensor = torch.linalg.vecdot(vectors.to(directions.dtype), directions)
    return products


def head_logit_directions(
    adapter: ModelAdapter,
    layer: int,
    logit_directions: Float[Tensor, "batch pos d_model"],
    attention_scale: Float[Tensor, "batch pos"] | None,
) -> Float[Tensor, "batch pos head d_head"]:
    """W_O w of every head: the dot product of its z with it is the head's direct logit attribution times S.

    Behind a post-norm, whose scale is `attention_scale`, w is what the norm makes of it while its scale is fixed.
    """
    block = adapter.blocks[layer]
    directions = through_norm(logit_directions, block.attention_post_shape, attention_scale, block.multiplier)
    weight = adapter.head_output_weight(layer).to(directions.dtype)
    with full_precision():
        return einsum(weight, directions, "head d_head d_model, batch pos d_model -> batch pos head d_head")


def through_norm(
    directions: Float[Tensor, "*row d_model"],
    shape: NormShape | None,
    scale: Float[Tensor, "*row"] | None,
    multiplier: float,
) -> Float[Tensor, "*row d_model"]:
    """The directions in what a part makes that are `directions` in what it adds to the stream, at a fixed scale of its
    post-norm.
    """
    if shape is not None and scale is not None:
        directions = shape.direction(directions) / scale[..., None]
    return directions if multiplier == 1 else directions * multiplier


def clean_batch(
    adapter: ModelAdapter,
    calls: AttentionCalls,
    mean_unembedding: Tensor,
    targets: PredictionTargets,
    *,
    keep_activations: Collection[int] = (),
    logit_lens: bool = False,
) -> CleanBatch:
    """Run the prompts of `targets` clean and keep what ablations need, with every layer's DLA to the targets."""
    here = slice(targets.first_position, None)
    logit_directions = target_logit_directions(adapter, mean_unembedding, targets.ids, targets.foils)
    stream = embed(adapter, targets.inputs)
    z, branch, activations, head_directions, head_dla, attention_dla, mlp_dla = [], [], {}, [], [], [], []
    attention_out, attention_scale, mlp_scale = [], [], []
    lens: list[Prediction] = []
    for number, layer in enumerate(clean_layers(adapter, stream, calls, keep_activations)):
        z.append(layer.z)
        branch.append(layer.branch)
        if layer.activations is not None:
            activations[number] = layer.activations[:, here]
        attention_out.append(None if layer.attention_scale is None else layer.attention_out)
        attention_scale.append(layer.attention_scale)
        mlp_scale.append(layer.mlp_scale)
        head_directions.append(
            head_logit_directions(adapter, number, logit_directions, _at(layer.attention_scale, here))
        )
        head_dla.append(project(layer.z[:, here], head_directions[-1]))
        attention_dla.append(project(layer.attention[:, here], logit_directions))
        mlp_dla.append(project(layer.mlp[:, here], logit_directions))
        if logit_lens:
            lens.append(predict(adapter, stream[:, here], targets.ids, targets.foils))
    stream = stream[:, here]
    return CleanBatch(
        z=z,
        branch=branch,
        attention_out=attention_out,
        attention_scale=attention_scale,
        mlp_scale=mlp_scale,
        activations=activations,
        head_directions=head_directions,
        head_dla=head_dla,
        logit_directions=logit_directions,
        attention_dla=attention_dla,
        mlp_dla=mlp_dla,
        stream=stream,
        final_dla=project(stream, logit_directions),
        scale=final_scale(adapter, stream),
        prediction=lens[-1] if logit_lens else predict(adapter, stream, targets.ids, targets.foils),
        logit_lens=lens,
    )


def direct_effects(
    adapter: ModelAdapter,
    calls: AttentionCalls,
    mean_unembedding: Tensor,
    value_biases: Float[Tensor, "layer head d_head"],
    targets: PredictionTargets,
) -> Float[Tensor, "layer head batch pos"]:
    """The direct effect of every head [logits] in a clean forward, and nothing else of it."""
    here = slice(targets.first_position, None)
    logit_directions = target_logit_directions(adapter, mean_unembedding, targets.ids, targets.foils)
    stream = embed(adapter, targets.inputs)
    dla = []
    for number, layer in enumerate(clean_layers(adapter, stream, calls)):
        own = layer.z[:, here].to(logit_directions.dtype) - value_biases[number].to(logit_directions.dtype)
        directions = head_logit_directions(adapter, number, logit_directions, _at(layer.attention_scale, here))
        dla.append(project(own, directions).movedim(-1, 0))
    return torch.stack(dla) / final_scale(adapter, stream[:, here])


def head_values(
    adapter: ModelAdapter, calls: AttentionCalls, tokens: Int[Tensor, "batch pos"]
) -> list[Float[Tensor, "batch pos head d_head"]]:
    """Z of every head, a list over layers."""
    stream = embed(adapter, tokens)
    return [layer.z for layer in clean_layers(adapter, stream, calls)]


def _at(scale: Tensor | None, here: slice) -> Tensor | None:
    return None if scale is None else scale[:, here]
