"""From the final residual stream to logits: logit directions, the final norm's scale, and the clean prediction."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear

from selfrepair.ingest.engine.precision import float64_sum, full_precision
from selfrepair.ingest.models.adapter import ModelAdapter
from selfrepair.ingest.models.placement.upcast import stored_weight

LOGITS_AT_ONCE = {"cpu": 2**22, "cuda": 2**24}
"""Most numbers that anything as long as the vocabulary takes at once, by device: rows of a batch times a slice of the tokens.
On a CPU they stay in its caches, and take no more memory than the layers do (`batch_size.CPU_HIDDEN_BYTES`).
"""


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
    weight = stored_weight(adapter.unembedding)
    slices = weight.split(max(1, logits_at_once(weight.device) // adapter.d_model))
    total = torch.stack([float64_sum(rows, 0) for rows in slices]).sum(dim=0)
    return (total / adapter.d_vocab).to(adapter.device, adapter.stream_dtype)


def logits_at_once(device: torch.device) -> int:
    """`LOGITS_AT_ONCE` on a device."""
    return LOGITS_AT_ONCE.get(device.type, LOGITS_AT_ONCE["cpu"])


def slices_bytes(device: torch.device) -> int:
    """The most memory that slices of the vocabulary take on a device: with log-probabilities, of both forwards and between."""
    return 6 * 4 * logits_at_once(device)


def target_logit_directions(
    adapter: ModelAdapter,
    mean: Float[Tensor, " d_model"],
    targets: Int[Tensor, "batch pos"],
    foils: Int[Tensor, "batch pos"] | None = None,
) -> Float[Tensor, "batch pos d_model"]:
    """w(y) of every target y, or w(y) minus the foil's: its dot product with a vector in the residual stream is the vector's
    direct logit attribution times S.
    """
    weight = stored_weight(adapter.unembedding)
    rows = weight[targets].to(adapter.stream_dtype)
    base = mean if foils is None else weight[foils].to(adapter.stream_dtype)
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
    """The model's own prediction from a residual stream, through its final norm and unembedding: in one pass over the
    vocabulary, a slice of the tokens at a time.
    """
    rows = normed(adapter, stream)
    tokens = targets.flatten()
    own = _logits_of(adapter, rows, tokens)
    total, mass, expected = (torch.zeros_like(own) for _ in range(3))
    largest = torch.full_like(own, torch.finfo(own.dtype).min)
    above = torch.zeros_like(tokens)
    for first, logits in logit_slices(adapter, rows):
        total += logits.sum(dim=-1)
        is_above = logits > own[:, None]
        here = in_slice(tokens, first, logits)
        is_above[here, tokens[here] - first] = False  # the target itself may be rounded in another way than in `own`
        above += is_above.sum(dim=-1)
        logits = bent(adapter, logits)
        # Of the largest logit m so far: the sums of exp(x - m) and of exp(x - m) (x - m).
        before, largest = largest, torch.maximum(largest, logits.amax(dim=-1))
        fall, below = before - largest, logits.sub_(largest[:, None])
        shares = below.exp()
        expected = fall.exp() * (expected + mass * fall) + torch.linalg.vecdot(shares, below)
        mass = fall.exp() * mass + shares.sum(dim=-1)
    base = total / adapter.d_vocab if foils is None else _logits_of(adapter, rows, foils.flatten())
    found = Prediction(
        logit=own - base,
        logprob=bent(adapter, own) - largest - mass.log(),
        rank=above + 1,
        entropy=mass.log() - expected / mass,
    )
    return Prediction(*(getattr(found, field.name).view(targets.shape) for field in fields(Prediction)))


def normed(adapter: ModelAdapter, stream: Float[Tensor, "*batch pos d_model"]) -> Float[Tensor, "row d_model"]:
    """The final norm's output, a row for each position."""
    out: Tensor = adapter.final_norm(stream.to(adapter.layer_dtype))
    return out.flatten(0, -2)


def logit_slices(
    adapter: ModelAdapter, rows: Float[Tensor, "*stack row d_model"], like: Tensor | None = None
) -> Iterator[tuple[int, Float[Tensor, "*stack row token"]]]:
    """The logits before a soft-cap, a slice of tokens at a time, with the id of its first token; slices are as wide as those of
    `like`.
    """
    n_tokens = max(1, logits_at_once(rows.device) // (rows if like is None else like)[..., 0].numel())
    weight, bias = stored_weight(adapter.unembedding), adapter.unembedding.bias
    for first in range(0, adapter.d_vocab, n_tokens):
        here = slice(first, first + n_tokens)
        with full_precision():
            made = linear(rows, weight[here].to(rows.dtype), None if bias is None else bias[here])
        yield first, scaled(adapter, made)


def _logits_of(
    adapter: ModelAdapter, rows: Float[Tensor, "row d_model"], tokens: Int[Tensor, " row"]
) -> Float[Tensor, " row"]:
    """The logit of one token in each row, rounded as the unembedding rounds it."""
    weight, bias, dtype = stored_weight(adapter.unembedding), adapter.unembedding.bias, adapter.stream_dtype
    with full_precision():
        made = torch.linalg.vecdot(rows.to(dtype), weight[tokens].to(dtype))
    made = made if bias is None else made + bias[tokens]
    return scaled(adapter, made.to(rows.dtype))


def in_slice(tokens: Int[Tensor, "*row"], first: int, logits: Float[Tensor, "*row token"]) -> Tensor:
    """In which rows the token is one of the slice's, which begins at token `first`."""
    return (tokens >= first) & (tokens < first + logits.shape[-1])


def scaled(adapter: ModelAdapter, raw: Float[Tensor, "*row token"]) -> Float[Tensor, "*row token"]:
    """The logits of what the unembedding made, before a soft-cap."""
    logits = raw.to(adapter.stream_dtype)
    return logits if adapter.logit_scale == 1 else logits * adapter.logit_scale


def bent(adapter: ModelAdapter, logits: Float[Tensor, "*row token"]) -> Float[Tensor, "*row token"]:
    """The logits that the model makes probabilities of: behind its soft-cap, where it has one."""
    cap = adapter.logit_softcap
    return logits if cap is None else cap * (logits / cap).tanh()
