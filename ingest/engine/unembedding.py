"""From the final residual stream to logits: logit directions, the final norm's scale, and the clean prediction."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ingest.engine.precision import float64_sum, full_precision
from selfrepair.ingest.models.adapter import ModelAdapter

LOGITS_AT_ONCE = 2**26
"""Most logits held at once for the clean prediction, the only product with the whole vocabulary."""


@dataclass(frozen=True)
class Prediction:
    """The clean prediction of every position: `logit` relative to the mean logit, or to the foil's; `rank` from 1, entropy in
    nats. Where a soft-cap bends the logits, `logit` is before it, and probabilities are behind it.
    """

    logit: Float[Tensor, "batch pos"]
    logprob: Float[Tensor, "batch pos"]
    rank: Int[Tensor, "batch pos"]
    entropy: Float[Tensor, "batch pos"]

    def cpu(self) -> "Prediction":
        """The same on the CPU."""
        return Prediction(self.logit.cpu(), self.logprob.cpu(), self.rank.cpu(), self.entropy.cpu())


def join_predictions(batches: Sequence[Prediction]) -> Prediction:
    """The predictions of several batches of prompts as one."""
    return Prediction(*(torch.cat([getattr(batch, field.name) for batch in batches]) for field in fields(Prediction)))


def mean_unembedding(adapter: ModelAdapter) -> Float[Tensor, " d_model"]:
    """W_U averaged over the vocabulary, summed in float64."""
    total = float64_sum(adapter.unembedding.weight, 0)
    return (total / adapter.d_vocab).to(adapter.device, adapter.stream_dtype)


def target_logit_directions(
    adapter: ModelAdapter,
    mean: Float[Tensor, " d_model"],
    targets: Int[Tensor, "batch pos"],
    foils: Int[Tensor, "batch pos"] | None = None,
) -> Float[Tensor, "batch pos d_model"]:
    """w(y) of every target y, or w(y) minus the foil's: its dot product with a vector in the residual stream is the vector's
    direct logit attribution times S.
    """
    rows = adapter.unembedding.weight[targets].to(adapter.stream_dtype)
    base = mean if foils is None else adapter.unembedding.weight[foils].to(adapter.stream_dtype)
    return adapter.final_shape.direction(rows - base) * adapter.logit_scale


def final_scale(adapter: ModelAdapter, stream: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row"]:
    """S, the final norm's scale: the root of the mean square of the (for LayerNorm centred) stream plus eps."""
    return adapter.final_shape.scale(stream)


def predict(
    adapter: ModelAdapter,
    stream: Float[Tensor, "batch pos d_model"],
    targets: Int[Tensor, "batch pos"],
    foils: Int[Tensor, "batch pos"] | None = None,
) -> Prediction:
    """The model's own prediction from a residual stream, through its final norm and unembedding."""
    batches = []
    prompts_at_once = max(1, LOGITS_AT_ONCE // (targets.shape[1] * adapter.d_vocab))
    for start in range(0, len(stream), prompts_at_once):
        here = slice(start, start + prompts_at_once)
        x, y = stream[here], targets[here, :, None]
        with full_precision():
            raw = adapter.unembedding(adapter.final_norm(x.to(adapter.layer_dtype)))
        logits = scaled(adapter, raw)
        own = logits.gather(-1, y)
        base = logits.mean(dim=-1) if foils is None else logits.gather(-1, foils[here][..., None])[..., 0]
        logprobs = bent(adapter, logits).log_softmax(dim=-1)
        batches.append(
            Prediction(
                logit=own[..., 0] - base,
                logprob=logprobs.gather(-1, y)[..., 0],
                rank=(logits > own).sum(dim=-1) + 1,
                entropy=-(logprobs.exp() * logprobs).sum(dim=-1),
            )
        )
    return join_predictions(batches)


def scaled(adapter: ModelAdapter, raw: Float[Tensor, "*row token"]) -> Float[Tensor, "*row token"]:
    """The logits of what the unembedding made, before a soft-cap."""
    logits = raw.to(adapter.stream_dtype)
    return logits if adapter.logit_scale == 1 else logits * adapter.logit_scale


def bent(adapter: ModelAdapter, logits: Float[Tensor, "*row token"]) -> Float[Tensor, "*row token"]:
    """The logits that the model makes probabilities of: behind its soft-cap, where it has one."""
    cap = adapter.logit_softcap
    return logits if cap is None else cap * (logits / cap).tanh()
