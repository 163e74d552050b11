"""Change in log-probability and KL divergence of the whole prediction, in slices of the vocabulary."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ingest.engine.ablation import Observer
from selfrepair.ingest.engine.forward import CleanBatch
from selfrepair.ingest.engine.unembedding import bent, in_slice, logit_slices, normed
from selfrepair.ingest.models.adapter import ModelAdapter

MEASURES = ("logprob_change", "kl")
"""Columns of `logprob_changes`: log p'(target) - log p(target), and KL(p || p') [nats]."""


class CleanPredictions:
    """The clean predictions of a batch, which those of every stack are compared with; `targets` are the correct tokens."""

    def __init__(self, adapter: ModelAdapter, clean: CleanBatch, targets: Int[Tensor, "batch pos"]) -> None:
        self.adapter = adapter
        self.shape = targets.shape
        self.targets = targets.flatten()
        self.normed = normed(adapter, clean.stream)
        rows = self.normed.shape[:-1]
        self.log_z = torch.full(rows, -torch.inf, dtype=adapter.stream_dtype, device=targets.device)
        self.target_logit = torch.zeros_like(self.log_z)
        for first, logits in _bent_slices(adapter, self.normed):
            self.log_z = torch.logaddexp(self.log_z, logits.logsumexp(-1))
            _take(self.target_logit, logits, self.targets, first)


class LogprobObserver(Observer):
    """Compares the predictions of one stack with the clean ones."""

    def __init__(self, clean: CleanPredictions) -> None:
        self._clean = clean
        self._measures: Tensor | None = None

    def on_final_stream(self, stream: Float[Tensor, "ablated batch pos d_model"]) -> None:
        """Compare.

        With the logits x of the clean and x' of the ablated forward, KL = sum p (x - x') + log Z' - log Z, where Z is the
        sum of exp x: one pass over the vocabulary.
        """
        clean = self._clean
        rows = normed(clean.adapter, stream).unflatten(0, (len(stream), -1))
        log_z = torch.full(rows.shape[:-1], -torch.inf, dtype=stream.dtype, device=stream.device)
        target_logit, expected_fall = torch.zeros_like(log_z), torch.zeros_like(log_z)
        for (first, logits), (_, before) in zip(
            _bent_slices(clean.adapter, rows), _bent_slices(clean.adapter, clean.normed, like=rows), strict=True
        ):
            log_z = torch.logaddexp(log_z, logits.logsumexp(-1))
            _take(target_logit, logits, clean.targets.expand(log_z.shape), first)
            expected_fall += ((before - clean.log_z[:, None]).exp() * (before - logits)).sum(-1)
        change = (target_logit - log_z) - (clean.target_logit - clean.log_z)
        divergence = (expected_fall + log_z - clean.log_z).clamp_min(0)
        self._measures = torch.stack([change, divergence], dim=-1).unflatten(1, clean.shape)

    def measures(self) -> Float[Tensor, "ablated batch pos measure"]:
        """`MEASURES` of every row, on the CPU."""
        assert self._measures is not None, "the stack was run"
        return self._measures.cpu()


def _bent_slices(
    adapter: ModelAdapter, rows: Float[Tensor, "*stack row d_model"], like: Tensor | None = None
) -> Iterator[tuple[int, Float[Tensor, "*stack row token"]]]:
    """`logit_slices` behind the soft-cap, where there is one."""
    for first, logits in logit_slices(adapter, rows, like):
        yield first, bent(adapter, logits)


def _take(values: Tensor, logits: Tensor, targets: Tensor, first: int) -> None:
    """Copy the targets' logits into `values` where the slice that begins at token `first` has them."""
    here = in_slice(targets, first, logits)
    values[here] = logits[here].gather(-1, (targets[here] - first)[:, None])[:, 0]
