"""The observers of one batch: which of them see each ablated stack, and what they measured in all stacks."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from selfrepair.ingest.engine.ablation import HeadAblation, Observer
from selfrepair.ingest.engine.forward import CleanBatch
from selfrepair.ingest.mechanisms.edges import EdgeObserver, EdgeSums, join_edge_stacks
from selfrepair.ingest.mechanisms.experts import ExpertObserver, ExpertSums, join_expert_stacks
from selfrepair.ingest.mechanisms.logprobs import CleanPredictions, LogprobObserver
from selfrepair.ingest.mechanisms.neurons import NeuronChanges, NeuronObserver, join_stacks
from selfrepair.ingest.models.adapter import ModelAdapter
from selfrepair.ingest.request.mechanisms import Mechanisms
from selfrepair.ingest.text.targets import PredictionTargets


class Observers:
    """Edges, neurons, experts and log-probabilities of a batch of prompts, as chosen in `mechanisms`, over its stacks in order.

    For every stack `of_stack`, then `collect` once it has run.
    """

    def __init__(
        self,
        adapter: ModelAdapter,
        clean: CleanBatch,
        targets: PredictionTargets,
        mechanisms: Mechanisms,
    ) -> None:
        self._adapter = adapter
        self._clean = clean
        self._mechanisms = mechanisms
        self._neuron_layers = mechanisms.neuron_layers(adapter)
        self._predictions = CleanPredictions(adapter, clean, targets.ids) if mechanisms.logprobs else None
        self._of_stack: list[Observer] = []
        self._edges: list[EdgeSums] = []
        self._neurons: list[NeuronChanges] = []
        self._experts: list[ExpertSums] = []
        self._logprobs: list[Tensor] = []

    def of_stack(
        self,
        stack: Sequence[HeadAblation],
        top: Bool[Tensor, "population ablated batch pos"] | None,
        value_bias: Tensor,
    ) -> Sequence[Observer]:
        """The observers of a stack; `top` marks the rows in its heads' tops, where those are known: the top 2 % first."""
        self._of_stack = []
        if top is not None and self._mechanisms.edges:
            self._of_stack.append(EdgeObserver(self._adapter, self._clean, top[0]))
        if top is not None and self._neuron_layers:
            layers = self._neuron_layers
            self._of_stack.append(NeuronObserver(self._adapter, self._clean, layers, stack, top, value_bias))
        if top is not None and self._clean.experts:
            self._of_stack.append(ExpertObserver(self._adapter, self._clean, top[0]))
        if self._predictions is not None:
            self._of_stack.append(LogprobObserver(self._predictions))
        return self._of_stack

    def collect(self, first: int) -> None:
        """Keep the measurements of the stack, whose head ablations are numbered from `first`."""
        for observer in self._of_stack:
            match observer:
                case EdgeObserver():
                    self._edges.append(observer.sums())
                case NeuronObserver():
                    self._neurons.append(observer.changes(first))
                case ExpertObserver():
                    self._experts.append(observer.sums())
                case LogprobObserver():
                    self._logprobs.append(observer.measures())

    def edges(self) -> EdgeSums | None:
        """Of all head ablations; None where edges are not measured."""
        return join_edge_stacks(self._edges) if self._edges else None

    def neurons(self) -> NeuronChanges | None:
        """Of all head ablations; None where neurons are not measured."""
        return join_stacks(self._neurons) if self._neurons else None

    def experts(self) -> ExpertSums | None:
        """Of all head ablations; None where experts are not measured."""
        return join_expert_stacks(self._experts) if self._experts else None

    def logprobs(self) -> Float[Tensor, "ablated batch pos measure"] | None:
        """Of all head ablations; None where log-probabilities are not measured."""
        return torch.cat(self._logprobs) if self._logprobs else None
