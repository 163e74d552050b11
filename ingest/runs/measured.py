"""What measuring some prompts gives, and batches of prompts joined into one."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from selfrepair.ingest.engine.ablation import HeadAblation, identity_error
from selfrepair.ingest.engine.unembedding import Prediction, join_predictions
from selfrepair.ingest.mechanisms.edges import EdgeSums, join_edge_batches
from selfrepair.ingest.mechanisms.experts import ExpertSums, join_expert_batches
from selfrepair.ingest.mechanisms.neurons import NeuronChanges, join_batches
from selfrepair.ingest.mechanisms.self_repression import SelfRepression, join_self_repression


@dataclass(frozen=True)
class Measured:
    """The effects of every head ablation on some prompts, their clean predictions, and the chosen mechanisms; on the CPU.

    Positions count from `first_position`; `logit_lens` has a prediction for each layer, or none. A mechanism that is not
    measured is None.
    """

    head_ablations: list[HeadAblation]
    effects: Float[Tensor, "ablated prompt pos effect"]
    prediction: Prediction
    scale: Float[Tensor, "prompt pos"]
    first_position: int
    edges: EdgeSums | None = None
    neurons: NeuronChanges | None = None
    experts: ExpertSums | None = None
    logit_lens: Sequence[Prediction] = ()
    logprobs: Float[Tensor, "ablated prompt pos measure"] | None = None
    self_repression: SelfRepression | None = None

    def identity_error_max(self) -> float:
        """The largest |R - sum of its parts| in logits."""
        return float(identity_error(self.effects).max())


def join_measured(batches: Sequence[Measured]) -> Measured:
    """Batches of prompts of one unit, in order, as one."""
    edges = [batch.edges for batch in batches if batch.edges is not None]
    experts = [batch.experts for batch in batches if batch.experts is not None]
    logprobs = [batch.logprobs for batch in batches if batch.logprobs is not None]
    self_repression = [batch.self_repression for batch in batches if batch.self_repression is not None]
    starts = itertools.accumulate((batch.effects.shape[1] for batch in batches), initial=0)
    neurons = [
        batch.neurons.after(start) for batch, start in zip(batches, starts, strict=False) if batch.neurons is not None
    ]
    return Measured(
        head_ablations=batches[0].head_ablations,
        effects=torch.cat([batch.effects for batch in batches], dim=1),
        prediction=join_predictions([batch.prediction for batch in batches]),
        scale=torch.cat([batch.scale for batch in batches]),
        first_position=batches[0].first_position,
        edges=join_edge_batches(edges) if edges else None,
        neurons=join_batches(neurons) if neurons else None,
        experts=join_expert_batches(experts) if experts else None,
        logit_lens=[join_predictions(layer) for layer in zip(*(batch.logit_lens for batch in batches), strict=True)],
        logprobs=torch.cat(logprobs, dim=1) if logprobs else None,
        self_repression=join_self_repression(self_repression) if self_repression else None,
    )
