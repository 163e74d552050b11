"""The mechanisms of one batch: who watches each stack while it is ablated, and what all of them found."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from selfrepair.ingest.engine.ablation import Cell, Watcher
from selfrepair.ingest.engine.clean import CleanBatch
from selfrepair.ingest.mechanisms.edges import EdgeSums, EdgeWatcher
from selfrepair.ingest.mechanisms.logprobs import CleanPredictions, LogprobWatcher
from selfrepair.ingest.mechanisms.neurons import NeuronChanges, NeuronWatcher, of_stacks
from selfrepair.ingest.models.adapter import Atlas
from selfrepair.ingest.request.mechanisms import Mechanisms
from selfrepair.ingest.text.targets import Asked


class Onlookers:
    """What is asked for of `mechanisms`, over a batch of prompts and its stacks of cells in order.

    For every stack `watch`, then `keep` when it has run.
    """

    def __init__(
        self,
        atlas: Atlas,
        clean: CleanBatch,
        asked: Asked,
        mechanisms: Mechanisms,
        neuron_layers: Sequence[int],
    ) -> None:
        self._atlas = atlas
        self._clean = clean
        self._mechanisms = mechanisms
        self._neuron_layers = neuron_layers
        self._predictions = CleanPredictions(atlas, clean, asked.targets) if mechanisms.logprobs else None
        self._watching: list[Watcher] = []
        self._edges: list[EdgeSums] = []
        self._neurons: list[NeuronChanges] = []
        self._logprobs: list[Tensor] = []

    def watch(
        self, stack: Sequence[Cell], top: Bool[Tensor, "cell batch pos"] | None, value_bias: Tensor
    ) -> Sequence[Watcher]:
        """Who watches the stack; `top` says which of its rows are in its heads' top 2 %, where that is known."""
        self._watching = []
        if top is not None and self._mechanisms.edges:
            self._watching.append(EdgeWatcher(self._atlas, self._clean, top))
        if top is not None and self._neuron_layers:
            self._watching.append(NeuronWatcher(self._atlas, self._clean, self._neuron_layers, stack, top, value_bias))
        if self._predictions is not None:
            self._watching.append(LogprobWatcher(self._predictions))
        return self._watching

    def keep(self, first_cell: int) -> None:
        """Take down what was found in the stack whose first cell is `first_cell` of all."""
        for watcher in self._watching:
            match watcher:
                case EdgeWatcher():
                    self._edges.append(watcher.found())
                case NeuronWatcher():
                    self._neurons.append(watcher.found(first_cell))
                case LogprobWatcher():
                    self._logprobs.append(watcher.found())

    def edges(self) -> EdgeSums | None:
        """Over all cells; None where edges were not asked for."""
        if not self._edges:
            return None
        return EdgeSums(
            torch.cat([part.n_rows for part in self._edges]), torch.cat([part.sums for part in self._edges])
        )

    def neurons(self) -> NeuronChanges | None:
        """Over all cells; None where neurons were not asked for."""
        return of_stacks(self._neurons) if self._neurons else None

    def logprobs(self) -> Float[Tensor, "cell batch pos measure"] | None:
        """Over all cells; None where they were not asked for."""
        return torch.cat(self._logprobs) if self._logprobs else None
