"""The clean forward, layer by layer on the model's own modules, and what is kept of it.

`CleanBatch` holds what any head can be ablated with afterwards without running the clean forward again.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from selfrepair.ingest.engine.attention_calls import AttentionCalls, stopped_at
from selfrepair.ingest.engine.layers import MLPOutput, apply_branch, apply_mlp, attend, attention_z, seen_at
from selfrepair.ingest.engine.precision import full_precision
from selfrepair.ingest.engine.projection import project, through_norm
from selfrepair.ingest.engine.routing import ExpertEffects, RoutedOutput, expert_effects
from selfrepair.ingest.engine.unembedding import Prediction, final_scale, predict, target_logit_directions
from selfrepair.ingest.models.adapter import ModelAdapter
from selfrepair.ingest.models.structure.additions import times
from selfrepair.ingest.text.targets import PredictionTargets


@dataclass(frozen=True)
class LayerOutputs:
    """One layer of a clean forward. `branch` is the stream that an ablated head's difference is added to.

    `attention` and `mlp` are what each adds to the stream, what stands beside attention with it, and `further` what the
    layer's branch adds, None without one. `attention_out` is what attention made before its post-norm and multiplier, and the
    scales are those of the post-norms, None where there are none. In sequential blocks the branch is the stream after
    attention (this layer's MLP sees the ablation), in parallel blocks the stream after the whole layer (it does not).
    `activations` and `routed` are None unless they are kept. `stream` is the one after the layer, which the next one changes.
    All are on the layer's device.
    """

    z: Float[Tensor, "batch pos head d_head"]
    activations: Float[Tensor, "batch pos neuron"] | None
    attention: Float[Tensor, "batch pos d_model"]
    attention_out: Float[Tensor, "batch pos d_model"]
    attention_scale: Float[Tensor, "batch pos"] | None
    mlp: Float[Tensor, "batch pos d_model"]
    mlp_scale: Float[Tensor, "batch pos"] | None
    routed: RoutedOutput | None
    branch: Float[Tensor, "batch pos d_model"]
    further: Float[Tensor, "batch pos d_model"] | None
    stream: Float[Tensor, "batch pos d_model"]


@dataclass(frozen=True)
class CleanBatch:
    """The clean forward of some prompts, and direct logit attributions (DLA) to each measured position's target.

    `input` positions are all that were run, `pos` those at their end that are `measured`; lists run over layers.
    Every `dla` is a dot product with `logit_directions`: logits times S, the final norm's scale, which is `scale`. A head's
    is z times its `head_directions` (W_O w), and `head_dla` still has the value bias's share, which is not part of the head.
    `activations` are those of the MLPs that were to be kept, `experts` what experts do in those whose routing was to be
    kept, `logit_lens` has the prediction after each layer or is empty.
    `attention_out` is what attention made before its post-norm, and the scales are those of the post-norms: None where there
    are none. `calls` are the forward's own, `further_dla` those of layers' branches. What is a vector for each position or
    head, and `head_dla`, is on its layer's device, all else on the adapter's; `directions_on` has the logit directions on each.
    """

    calls: AttentionCalls

    z: list[Float[Tensor, "batch input head d_head"]]
    branch: list[Float[Tensor, "batch input d_model"]]
    attention_out: list[Float[Tensor, "batch input d_model"] | None]
    attention_scale: list[Float[Tensor, "batch input"] | None]
    mlp_scale: list[Float[Tensor, "batch input"] | None]
    activations: dict[int, Float[Tensor, "batch pos neuron"]]
    experts: dict[int, ExpertEffects]
    head_directions: list[Float[Tensor, "batch pos head d_head"]]
    head_dla: list[Float[Tensor, "batch pos head"]]
    logit_directions: Float[Tensor, "batch pos d_model"]
    directions_on: dict[torch.device, Float[Tensor, "batch pos d_model"]]
    attention_dla: list[Float[Tensor, "batch pos"]]
    mlp_dla: list[Float[Tensor, "batch pos"]]
    further_dla: list[Float[Tensor, "batch pos"] | None]
    stream: Float[Tensor, "batch pos d_model"]
    final_dla: Float[Tensor, "batch pos"]
    scale: Float[Tensor, "batch pos"]
    prediction: Prediction
    logit_lens: list[Prediction]

    @property
    def measured(self) -> slice:
        """The measured positions among all that were run."""
        return slice(-self.logit_directions.shape[1], None)

    def mlp_scale_at(self, layer: int) -> Float[Tensor, "batch pos"] | None:
        """The scale of an MLP's post-norm at the measured positions."""
        return _at(self.mlp_scale[layer], self.measured)


def embed(adapter: ModelAdapter, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
    """The residual stream that enters the first block, computed by the model itself."""
    with stopped_at(adapter.blocks[0].module) as inputs:
        adapter.model(input_ids=tokens, use_cache=False, logits_to_keep=1)
    return inputs[0].to(adapter.stream_dtype, copy=True)


def clean_layers(
    adapter: ModelAdapter,
    stream: Float[Tensor, "batch pos d_model"],
    calls: AttentionCalls,
    keep_activations: Collection[int] = (),
    keep_routing: Collection[int] = (),
) -> Iterator[LayerOutputs]:
    """Run the layers on `stream`, which is updated in place for as long as layers are on its device; `calls` are those of its
    prompts.

    `keep_activations` are the layers whose MLP activations are kept, `keep_routing` those whose routing is.
    """

    def run_mlp(layer: int) -> MLPOutput:
        kept = {"keep_activations": layer in keep_activations, "keep_routing": layer in keep_routing}
        return apply_mlp(adapter, layer, stream, calls, **kept)

    for layer, block in enumerate(adapter.blocks):
        stream = stream.to(block.device)
        attention = attend(adapter, layer, stream, calls)
        if adapter.parallel_blocks:
            mlp = run_mlp(layer)
            stream += attention.added
            stream += mlp.added
            branch = stream.clone()
        else:
            block.attention_addition.keep_(stream)
            stream += attention.added
            branch = stream.clone()
            mlp = run_mlp(layer)
            block.mlp_addition.keep_(stream)
            stream += mlp.added
        further = apply_branch(adapter, layer, stream, calls)
        if block.branch is not None and further is not None:
            block.branch.addition.keep_(stream)
            stream += further
        yield LayerOutputs(
            attention.z,
            mlp.activations,
            attention.added,
            attention.out,
            attention.scale,
            mlp.added,
            mlp.scale,
            mlp.routed,
            branch,
            further,
            stream,
        )


def value_biases(adapter: ModelAdapter, calls: AttentionCalls) -> Float[Tensor, "layer head d_head"]:
    """The constant part of every query head's z: its value for a residual stream of zeros.

    That is b_V plus the first norm's bias times W_V, the value bias of weights with the norms folded in. Attention
    itself computes it, whatever the family's layout of weights. It is 0 where attention weights need not add up to one.
    """
    zeros = torch.zeros(1, calls.seq_len, adapter.d_model, dtype=adapter.stream_dtype, device=adapter.device)
    calls = calls.of_prompts(adapter, None)
    biases = [
        padded(attention_z(adapter, layer, zeros.to(block.device), calls)[0, 0], adapter).to(adapter.device)
        for layer, block in enumerate(adapter.blocks)
    ]
    return torch.stack(
        [
            bias if block.value_bias_counts else torch.zeros_like(bias)
            for bias, block in zip(biases, adapter.blocks, strict=True)
        ]
    )


def padded(z: Float[Tensor, "own_head d"], adapter: ModelAdapter) -> Float[Tensor, "head d_head"]:
    """Vectors of a layer's heads, as many and with as many numbers as any layer has."""
    heads, numbers = adapter.n_heads - z.shape[0], adapter.d_head - z.shape[1]
    return functional.pad(z, (0, numbers, 0, heads)) if heads or numbers else z


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
    directions = through_norm(
        times(logit_directions, block.attention_reach),
        block.attention_post_shape,
        attention_scale,
        block.attention_addition.times,
    )
    weight = adapter.head_output_weight(layer).to(directions.dtype)
    taps = [None] if block.mixing is None else block.mixing.taps.to(directions.dtype)
    with full_precision():
        by_tap = [
            einsum(
                weight,
                directions if tap is None else directions * tap,
                "head d_head d_model, batch pos d_model -> batch pos head d_head",
            )
            for tap in taps
        ]
    return by_tap[0] if len(by_tap) == 1 else torch.cat(by_tap, dim=-1)


def clean_batch(
    adapter: ModelAdapter,
    calls: AttentionCalls,
    mean_unembedding: Tensor,
    targets: PredictionTargets,
    *,
    keep_activations: Collection[int] = (),
    keep_routing: Collection[int] = (),
    logit_lens: bool = False,
) -> CleanBatch:
    """Run the prompts of `targets` clean and keep what ablations need, with every layer's DLA to the targets."""
    here = slice(targets.first_position, None)
    logit_directions = target_logit_directions(adapter, mean_unembedding, targets.ids, targets.foils)
    directions_on = {device: logit_directions.to(device) for device in adapter.devices}
    home = adapter.device
    stream, calls = embed(adapter, targets.inputs), calls.of_prompts(adapter, targets.inputs)
    z, branch, activations, head_directions, head_dla, attention_dla, mlp_dla = [], [], {}, [], [], [], []
    further_dla: list[Tensor | None] = []
    attention_out, attention_scale, mlp_scale = [], [], []
    experts: dict[int, ExpertEffects] = {}
    lens: list[Prediction] = []
    for number, layer in enumerate(clean_layers(adapter, stream, calls, keep_activations, keep_routing)):
        block, stream = adapter.blocks[number], layer.stream
        directions = directions_on[block.device]
        z.append(layer.z)
        branch.append(layer.branch)
        if layer.activations is not None:
            activations[number] = layer.activations[:, here]
        if layer.routed is not None:
            routed, scale = layer.routed.at(lambda values: values[:, here]), _at(layer.mlp_scale, here)
            experts[number] = expert_effects(adapter, number, routed, directions, scale).to(home)
        attention_out.append(None if layer.attention_scale is None else layer.attention_out)
        attention_scale.append(layer.attention_scale)
        mlp_scale.append(layer.mlp_scale)
        head_directions.append(head_logit_directions(adapter, number, directions, _at(layer.attention_scale, here)))
        head_dla.append(project(seen_at(adapter, number, layer.z)[:, here], head_directions[-1]))
        attention_dla.append(project(layer.attention[:, here], times(directions, block.attention_reach)).to(home))
        mlp_dla.append(project(layer.mlp[:, here], times(directions, block.mlp_reach)).to(home))
        further = layer.further
        further_dla.append(
            None if further is None else project(further[:, here], times(directions, block.reach)).to(home)
        )
        if logit_lens:
            at_end = times(stream[:, here], block.reach).to(home)
            lens.append(predict(adapter, at_end, targets.ids, targets.foils))
    stream = stream[:, here].to(home)
    return CleanBatch(
        calls=calls,
        z=z,
        branch=branch,
        attention_out=attention_out,
        attention_scale=attention_scale,
        mlp_scale=mlp_scale,
        activations=activations,
        experts=experts,
        head_directions=head_directions,
        head_dla=head_dla,
        logit_directions=logit_directions,
        directions_on=directions_on,
        attention_dla=attention_dla,
        mlp_dla=mlp_dla,
        further_dla=further_dla,
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
    stream, calls = embed(adapter, targets.inputs), calls.of_prompts(adapter, targets.inputs)
    dla = []
    for number, layer in enumerate(clean_layers(adapter, stream, calls)):
        stream, of_layer = layer.stream, logit_directions.to(layer.stream.device)
        bias = value_biases[number, : layer.z.shape[-2], : layer.z.shape[-1]]
        own = layer.z.to(of_layer.dtype) - bias.to(of_layer)
        own = seen_at(adapter, number, own)[:, here]
        directions = head_logit_directions(adapter, number, of_layer, _at(layer.attention_scale, here))
        of_heads = project(own, directions).movedim(-1, 0).to(adapter.device)
        dla.append(functional.pad(of_heads, (0, 0, 0, 0, 0, adapter.n_heads - len(of_heads))))
    return torch.stack(dla) / final_scale(adapter, stream[:, here].to(adapter.device))


def head_values(
    adapter: ModelAdapter, calls: AttentionCalls, tokens: Int[Tensor, "batch pos"]
) -> list[Float[Tensor, "batch pos head d_head"]]:
    """Z of every head, a list over layers."""
    stream = embed(adapter, tokens)
    return [layer.z for layer in clean_layers(adapter, stream, calls.of_prompts(adapter, tokens))]


def _at(scale: Tensor | None, here: slice) -> Tensor | None:
    return None if scale is None else scale[:, here]
