"""From the final residual stream to logits: each target's direction, the final norm's scale, and the clean prediction."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ingest.engine.precision import float64_sum, full_precision
from selfrepair.ingest.models.adapter import Atlas

LOGITS_AT_ONCE = 2**26
"""Most logits held at once while describing the clean prediction (the only product with the whole vocabulary)."""


@dataclass(frozen=True)
class Prediction:
    """The clean prediction of every position: `logit` relative to the mean logit, or to the foil's; `rank` from 1, entropy in
    nats.
    """

    logit: Float[Tensor, "batch pos"]
    logprob: Float[Tensor, "batch pos"]
    rank: Int[Tensor, "batch pos"]
    entropy: Float[Tensor, "batch pos"]


def mean_unembedding(atlas: Atlas) -> Float[Tensor, " d_model"]:
    """W_U averaged over the vocabulary, summed in float64."""
    total = float64_sum(atlas.unembedding.weight, 0)
    return (total / atlas.d_vocab).to(atlas.device, atlas.stream_dtype)


def target_directions(
    atlas: Atlas,
    mean: Float[Tensor, " d_model"],
    targets: Int[Tensor, "batch pos"],
    foils: Int[Tensor, "batch pos"] | None = None,
) -> Float[Tensor, "batch pos d_model"]:
    """w(y) of every target y, or w(y) minus the foil's: what a vector in the residual stream is multiplied with to read its
    logits times S.
    """
    rows = atlas.unembedding.weight[targets].to(atlas.stream_dtype)
    base = mean if foils is None else atlas.unembedding.weight[foils].to(atlas.stream_dtype)
    return _centred(atlas, (rows - base) * atlas.gain.to(atlas.stream_dtype))


def final_scale(atlas: Atlas, stream: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row"]:
    """S, the final norm's scale: the root of the mean square of the (for LayerNorm centred) stream plus eps."""
    layernorm = atlas.norm == "layernorm"
    mean_square = stream.var(dim=-1, correction=0) if layernorm else stream.square().mean(dim=-1)
    return (mean_square + atlas.eps).sqrt()


def predict(
    atlas: Atlas,
    stream: Float[Tensor, "batch pos d_model"],
    targets: Int[Tensor, "batch pos"],
    foils: Int[Tensor, "batch pos"] | None = None,
) -> Prediction:
    """What the model itself predicts from its final residual stream, through its own final norm and unembedding."""
    pieces = []
    prompts_at_once = max(1, LOGITS_AT_ONCE // (targets.shape[1] * atlas.d_vocab))
    for start in range(0, len(stream), prompts_at_once):
        here = slice(start, start + prompts_at_once)
        x, y = stream[here], targets[here]
        with full_precision():
            logits = atlas.unembedding(atlas.final_norm(x.to(atlas.layer_dtype))).to(atlas.stream_dtype)
        own = logits.gather(-1, y[..., None])
        logprobs = logits.log_softmax(dim=-1)
        pieces.append(
            (
                own[..., 0]
                - (logits.mean(dim=-1) if foils is None else logits.gather(-1, foils[here][..., None])[..., 0]),
                logprobs.gather(-1, y[..., None])[..., 0],
                (logits > own).sum(dim=-1) + 1,
                -(logprobs.exp() * logprobs).sum(dim=-1),
            )
        )
    return Prediction(*(torch.cat(piece) for piece in zip(*pieces, strict=True)))


def _centred(atlas: Atlas, vectors: Tensor) -> Tensor:
    return vectors - vectors.mean(dim=-1, keepdim=True) if atlas.norm == "layernorm" else vectors
