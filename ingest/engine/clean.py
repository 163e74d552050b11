"""What a clean forward must keep so that any head can be ablated afterwards without running it again."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ingest.engine.forward import AttentionCalls, clean_layers, embed
from selfrepair.ingest.engine.precision import full_precision
from selfrepair.ingest.engine.unembedding import Prediction, final_scale, predict, target_directions
from selfrepair.ingest.models.adapter import Atlas
from selfrepair.ingest.text.targets import Asked


@dataclass(frozen=True)
class CleanBatch:
    """The clean forward of some prompts, read along the direction of each measured position's target.

    `input` positions are all that were run, `pos` those at their end that are `measured`.
    `attention_reads` and `mlp_reads` are each layer's output times w (logits times S, before the final norm), `read`
    the final stream's. A head's z times `read_outs` is the same of the head: W_O w, of which the value bias's share is
    not part of the head (`head_reads` has it). Lists run over layers; `activations` hold the MLPs that were asked for,
    `logit_lens` what would be predicted after each layer, if that was.
    """

    z: list[Float[Tensor, "batch input head d_head"]]
    branch: list[Float[Tensor, "batch input d_model"]]
    activations: dict[int, Float[Tensor, "batch pos neuron"]]
    read_outs: list[Float[Tensor, "batch pos head d_head"]]
    head_reads: list[Float[Tensor, "batch pos head"]]
    directions: Float[Tensor, "batch pos d_model"]
    attention_reads: list[Float[Tensor, "batch pos"]]
    mlp_reads: list[Float[Tensor, "batch pos"]]
    stream: Float[Tensor, "batch pos d_model"]
    read: Float[Tensor, "batch pos"]
    scale: Float[Tensor, "batch pos"]
    prediction: Prediction
    logit_lens: list[Prediction]

    @property
    def measured(self) -> slice:
        """Where the measured positions lie among all that were run."""
        return slice(-self.directions.shape[1], None)


def read_along(
    vectors: Float[Tensor, "*stack batch pos d_model"], directions: Tensor
) -> Float[Tensor, "*stack batch pos"]:
    """Dot product with each position's target direction, in the stream's precision."""
    read: Tensor = torch.linalg.vecdot(vectors.to(directions.dtype), directions)
    return read


def read_out(
    atlas: Atlas, layer: int, directions: Float[Tensor, "batch pos d_model"]
) -> Float[Tensor, "batch pos head d_head"]:
    """What a head's z is multiplied with to read its output along each position's target direction: W_O w."""
    weight = atlas.head_output_weight(layer).to(directions.dtype)
    with full_precision():
        return einsum(weight, directions, "head d_head d_model, batch pos d_model -> batch pos head d_head")


def clean_batch(
    atlas: Atlas,
    calls: AttentionCalls,
    mean_unembedding: Tensor,
    asked: Asked,
    *,
    keep_activations: Collection[int] = (),
    logit_lens: bool = False,
) -> CleanBatch:
    """Run the prompts of `asked` and read what each layer says about their targets."""
    here = slice(asked.first_position, None)
    directions = target_directions(atlas, mean_unembedding, asked.targets, asked.foils)
    stream = embed(atlas, asked.inputs)
    z, branch, activations, read_outs, head_reads, attention_reads, mlp_reads = [], [], {}, [], [], [], []
    layer_reads: list[Prediction] = []
    for number, layer in enumerate(clean_layers(atlas, stream, calls, keep_activations)):
        z.append(layer.z)
        branch.append(layer.branch)
        if layer.activations is not None:
            activations[number] = layer.activations[:, here]
        read_outs.append(read_out(atlas, number, directions))
        head_reads.append(read_along(layer.z[:, here], read_outs[-1]))
        attention_reads.append(read_along(layer.attention[:, here], directions))
        mlp_reads.append(read_along(layer.mlp[:, here], directions))
        if logit_lens:
            layer_reads.append(predict(atlas, stream[:, here], asked.targets, asked.foils))
    stream = stream[:, here]
    return CleanBatch(
        z=z,
        branch=branch,
        activations=activations,
        read_outs=read_outs,
        head_reads=head_reads,
        directions=directions,
        attention_reads=attention_reads,
        mlp_reads=mlp_reads,
        stream=stream,
        read=read_along(stream, directions),
        scale=final_scale(atlas, stream),
        prediction=layer_reads[-1] if logit_lens else predict(atlas, stream, asked.targets, asked.foils),
        logit_lens=layer_reads,
    )


def direct_effects(
    atlas: Atlas,
    calls: AttentionCalls,
    mean_unembedding: Tensor,
    value_biases: Float[Tensor, "layer head d_head"],
    asked: Asked,
) -> Float[Tensor, "layer head batch pos"]:
    """The direct effect of every head [logits], and nothing else of a clean forward."""
    here = slice(asked.first_position, None)
    directions = target_directions(atlas, mean_unembedding, asked.targets, asked.foils)
    stream = embed(atlas, asked.inputs)
    reads = []
    for number, layer in enumerate(clean_layers(atlas, stream, calls)):
        own = layer.z[:, here].to(directions.dtype) - value_biases[number].to(directions.dtype)
        reads.append(read_along(own, read_out(atlas, number, directions)).movedim(-1, 0))
    return torch.stack(reads) / final_scale(atlas, stream[:, here])


def head_values(
    atlas: Atlas, calls: AttentionCalls, tokens: Int[Tensor, "batch pos"]
) -> list[Float[Tensor, "batch pos head d_head"]]:
    """Z of every head, a list over layers."""
    stream = embed(atlas, tokens)
    return [layer.z for layer in clean_layers(atlas, stream, calls)]
