"""The clean forward, layer by layer on the model's own modules, and what is kept of it.

`CleanBatch` holds what any head can be ablated with afterwards without running the clean forward again.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ingest.engine.attention_calls import AttentionCalls, captured_input, stopped_at
from selfrepair.ingest.engine.precision import full_precision
from selfrepair.ingest.engine.unembedding import Prediction, final_scale, predict, target_logit_directions
from selfrepair.ingest.models.adapter import ModelAdapter
from selfrepair.ingest.text.targets import PredictionTargets


@dataclass(frozen=True)
class LayerOutputs:
    """One layer of a clean forward. `branch` is the stream that an ablated head's difference is added to.

    In sequential blocks that is the stream after attention (this layer's MLP sees the ablation), in parallel blocks
    the stream after the whole layer (it does not). `activations` are None unless they are kept.
    """

    z: Float[Tensor, "batch pos head d_head"]
    activations: Float[Tensor, "batch pos neuron"] | None
    attention: Float[Tensor, "batch pos d_model"]
    mlp: Float[Tensor, "batch pos d_model"]
    branch: Float[Tensor, "batch pos d_model"]


@dataclass(frozen=True)
class CleanBatch:
    """The clean forward of some prompts, and direct logit attributions (DLA) to each measured position's target.

    `input` positions are all that were run, `pos` those at their end that are `measured`; lists run over layers.
    Every `dla` is a dot product with `logit_directions`: logits times S, the final norm's scale, which is `scale`. A head's
    is z times its `head_directions` (W_O w), and `head_dla` still has the value bias's share, which is not part of the head.
    `activations` are those of the MLPs that were to be kept, `logit_lens` has the prediction after each layer or is empty.
    """

    z: list[Float[Tensor, "batch input head d_head"]]
    branch: list[Float[Tensor, "batch input d_model"]]
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


def attend(
    adapter: ModelAdapter, layer: int, stream: Float[Tensor, "batch pos d_model"], calls: AttentionCalls
) -> tuple[Float[Tensor, "batch pos d_model"], Float[Tensor, "batch pos head d_head"]]:
    """The output of attention of `layer` on `stream`, and z of its heads."""
    block = adapter.blocks[layer]
    normed = block.ln1(stream.to(adapter.layer_dtype))
    with captured_input(block.output_projection) as inputs:
        out: Tensor = block.attention(normed, **calls.of(layer, normed))[0]
    return out, inputs[0].unflatten(-1, (adapter.n_heads, adapter.d_head))


def attention_z(
    adapter: ModelAdapter, layer: int, stream: Float[Tensor, "batch pos d_model"], calls: AttentionCalls
) -> Float[Tensor, "batch pos head d_head"]:
    """The same z, without computing the output."""
    block = adapter.blocks[layer]
    normed = block.ln1(stream.to(adapter.layer_dtype))
    with stopped_at(block.output_projection) as inputs:
        block.attention(normed, **calls.of(layer, normed))
    z: Tensor = inputs[0].unflatten(-1, (adapter.n_heads, adapter.d_head))
    return z


def apply_mlp(
    adapter: ModelAdapter, layer: int, stream: Float[Tensor, "batch pos d_model"], *, keep_activations: bool = False
) -> tuple[Float[Tensor, "batch pos d_model"], Float[Tensor, "batch pos neuron"] | None]:
    """The output of the MLP of `layer` on `stream`, and its neurons' activations where they are kept."""
    block = adapter.blocks[layer]
    normed = block.ln2(stream.to(adapter.layer_dtype))
    if not keep_activations:
        return block.mlp(normed), None
    assert block.mlp_output is not None, "Mechanisms.neuron_layers refuses such layers"
    with captured_input(block.mlp_output) as inputs:
        out = block.mlp(normed)
    return out, inputs[0].unflatten(0, stream.shape[:2]) if inputs[0].ndim == 2 else inputs[0]


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
        attention, z = attend(adapter, layer, stream, calls)
        if adapter.parallel_blocks:
            mlp, activations = apply_mlp(adapter, layer, stream, keep_activations=layer in keep_activations)
            stream += attention
            stream += mlp
            branch = stream.clone()
        else:
            stream += attention
            branch = stream.clone()
            mlp, activations = apply_mlp(adapter, layer, stream, keep_activations=layer in keep_activations)
            stream += mlp
        yield LayerOutputs(z, activations, attention, mlp, branch)


def value_biases(adapter: ModelAdapter, calls: AttentionCalls) -> Float[Tensor, "layer head d_head"]:
    """The constant part of every query head's z: its value for a residual stream of zeros.

    That is b_V plus the first norm's bias times W_V, the value bias of weights with the norms folded in. Attention
    itself computes it, whatever the family's layout of weights.
    """
    zeros = torch.zeros(1, calls.seq_len, adapter.d_model, dtype=adapter.stream_dtype, device=adapter.device)
    return torch.stack([attention_z(adapter, layer, zeros, calls)[0, 0] for layer in range(adapter.n_layers)])


def project(
    vectors: Float[Tensor, "*stack batch pos d"], directions: Float[Tensor, "*batch pos d"]
) -> Float[Tensor, "*stack batch pos"]:
    """Dot product with each position's direction, in the stream's precision."""
    products: Tensor = torch.linalg.vecdot(vectors.to(directions.dtype), directions)
    return products


def head_logit_directions(
    adapter: ModelAdapter, layer: int, logit_directions: Float[Tensor, "batch pos d_model"]
) -> Float[Tensor, "batch pos head d_head"]:
    """W_O w of every head: the dot product of its z with it is the head's direct logit attribution times S."""
    weight = adapter.head_output_weight(layer).to(logit_directions.dtype)
    with full_precision():
        return einsum(weight, logit_directions, "head d_head d_model, batch pos d_model -> batch pos head d_head")


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
    lens: list[Prediction] = []
    for number, layer in enumerate(clean_layers(adapter, stream, calls, keep_activations)):
        z.append(layer.z)
        branch.append(layer.branch)
        if layer.activations is not None:
            activations[number] = layer.activations[:, here]
        head_directions.append(head_logit_directions(adapter, number, logit_directions))
        head_dla.append(project(layer.z[:, here], head_directions[-1]))
        attention_dla.append(project(layer.attention[:, here], logit_directions))
        mlp_dla.append(project(layer.mlp[:, here], logit_directions))
        if logit_lens:
            lens.append(predict(adapter, stream[:, here], targets.ids, targets.foils))
    stream = stream[:, here]
    return CleanBatch(
        z=z,
        branch=branch,
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
        dla.append(project(own, head_logit_directions(adapter, number, logit_directions)).movedim(-1, 0))
    return torch.stack(dla) / final_scale(adapter, stream[:, here])


def head_values(
    adapter: ModelAdapter, calls: AttentionCalls, tokens: Int[Tensor, "batch pos"]
) -> list[Float[Tensor, "batch pos head d_head"]]:
    """Z of every head, a list over layers."""
    stream = embed(adapter, tokens)
    return [layer.z for layer in clean_layers(adapter, stream, calls)]
