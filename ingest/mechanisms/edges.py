"""Who repairs whom: how the ablation of a head changes the direct effect of every later head and MLP, summed over rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from selfrepair.ingest.engine.ablation import Observer
from selfrepair.ingest.engine.forward import CleanBatch
from selfrepair.ingest.engine.precision import full_precision
from selfrepair.ingest.engine.projection import project
from selfrepair.ingest.models.adapter import ModelAdapter


@dataclass(frozen=True)
class EdgeSums:
    """Sums over each prompt's rows, on the CPU in the precision of the residual stream.

    Targets are the heads by layer, then the MLPs by layer; moments are the change in direct effect at the clean scale
    [logits] and its square. Populations are `schema.EDGE_POPULATIONS`.
    """

    prompt_rows: Float[Tensor, "ablated population prompt"]
    prompt_sums: Float[Tensor, "ablated population prompt target moment"]

    @property
    def sums(self) -> Float[Tensor, "ablated population moment target"]:
        """Over all prompts, in float64."""
        return self.prompt_sums.double().sum(dim=2).transpose(-1, -2)


def join_edge_batches(batches: Sequence[EdgeSums]) -> EdgeSums:
    """Batches of prompts of the same head ablations, in order, as one."""
    return EdgeSums(
        torch.cat([batch.prompt_rows for batch in batches], dim=-1),
        torch.cat([batch.prompt_sums for batch in batches], dim=2),
    )


def join_edge_stacks(stacks: Sequence[EdgeSums]) -> EdgeSums:
    """Consecutive stacks of head ablations as one."""
    return EdgeSums(
        torch.cat([stack.prompt_rows for stack in stacks]), torch.cat([stack.prompt_sums for stack in stacks])
    )


class EdgeObserver(Observer):
    """Sums the edges of one stack; `top` marks the rows in the ablated head's top 2 %."""

    def __init__(self, adapter: ModelAdapter, clean: CleanBatch, top: Bool[Tensor, "ablated batch pos"]) -> None:
        self._n_heads, self._n_layers = adapter.n_heads, adapter.n_layers
        self._clean = clean
        self._rows = torch.stack([torch.ones_like(top), top], dim=1).to(clean.scale.dtype)
        n_targets = adapter.n_layers * (adapter.n_heads + 1)
        self._sums = self._rows.new_zeros(len(top), 2, top.shape[1], n_targets, 2)

    def on_attention(
        self, layer: int, z: Float[Tensor, "ablated batch pos head d_head"], rescaled: Tensor | None
    ) -> None:
        """Add the edges to the heads of a later layer, each read with its own forward's post-norm."""
        dla = project(z, self._clean.head_directions[layer])
        if rescaled is not None:
            dla = dla * rescaled[..., None]
        change = (dla - self._clean.head_dla[layer]).to(self._rows.device) / self._clean.scale[..., None]
        self._add(change, slice(layer * self._n_heads, (layer + 1) * self._n_heads))

    def on_mlp(
        self,
        layer: int,
        dla_change: Float[Tensor, "ablated batch pos"],
        activations: Tensor | None,
        rescaled: Tensor | None,
    ) -> None:
        """Add the edge to an MLP."""
        first = self._n_layers * self._n_heads + layer
        self._add((dla_change / self._clean.scale)[..., None], slice(first, first + 1))

    def sums(self) -> EdgeSums:
        """The sums of this stack."""
        return EdgeSums(self._rows.sum(dim=-1).double().cpu(), self._sums.cpu())

    def _add(self, change: Float[Tensor, "ablated batch pos target"], targets: slice) -> None:
        with full_precision():
            for moment, values in enumerate((change, change.square())):
                self._sums[..., targets, moment] = torch.einsum("cpbr,cbrt->cpbt", self._rows, values)
