"""What a clean forward must keep so that any head can be ablated afterwards without running it again."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ingest.atlas import Atlas
from selfrepair.ingest.stream import AttentionCalls, clean_layers, embed
from selfrepair.ingest.unembed import Prediction, final_scale, predict, target_directions


@dataclass(frozen=True)
class CleanBatch:
    """The clean forward of some prompts, read along the direction of each position's target.

    `attention_reads` and `mlp_reads` are each layer's output times w (logits times S, before the final norm), `read`
    the final stream's. Lists run over layers.
    """

    z: list[Float[Tensor, "batch pos head d_head"]]
    branch: list[Float[Tensor, "batch pos d_model"]]
    directions: Float[Tensor, "batch pos d_model"]
    attention_reads: list[Float[Tensor, "batch pos"]]
    mlp_reads: list[Float[Tensor, "batch pos"]]
    read: Float[Tensor, "batch pos"]
    scale: Float[Tensor, "batch pos"]
    prediction: Prediction


def read_along(
    vectors: Float[Tensor, "*stack batch pos d_model"], directions: Tensor
) -> Float[Tensor, "*stack batch pos"]:
    """Dot product with each position's target direction, in the stream's precision."""
    read: Tensor = torch.linalg.vecdot(vectors.to(directions.dtype), directions)
    return read


def clean_batch(
    atlas: Atlas, calls: AttentionCalls, mean_unembedding: Tensor, tokens: Int[Tensor, "batch seq"]
) -> CleanBatch:
    """Run `tokens` but for the last one, which predicts nothing that is measured."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    directions = target_directions(atlas, mean_unembedding, targets)
    stream = embed(atlas, inputs)
    z, branch, attention_reads, mlp_reads = [], [], [], []
    for layer in clean_layers(atlas, stream, calls):
        z.append(layer.z)
        branch.append(layer.branch)
        attention_reads.append(read_along(layer.attention, directions))
        mlp_reads.append(read_along(layer.mlp, directions))
    return CleanBatch(
        z=z,
        branch=branch,
        directions=directions,
        attention_reads=attention_reads,
        mlp_reads=mlp_reads,
        read=read_along(stream, directions),
        scale=final_scale(atlas, stream),
        prediction=predict(atlas, stream, targets),
    )


def head_values(
    atlas: Atlas, calls: AttentionCalls, tokens: Int[Tensor, "batch pos"]
) -> list[Float[Tensor, "batch pos head d_head"]]:
    """Z of every head, a list over layers."""
    stream = embed(atlas, tokens)
    return [layer.z for layer in clean_layers(atlas, stream, calls)]
