"""Who repairs whom: how the ablation of a head changes the direct effect of every later head and MLP, summed over rows."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from selfrepair.ingest.engine.ablation import Observer
from selfrepair.ingest.engine.forward import CleanBatch, project
from selfrepair.ingest.engine.precision import full_precision
from selfrepair.ingest.models.adapter import ModelAdapter


@dataclass(frozen=True)
class EdgeSums:
    """Sums over rows, in float64 on the CPU.

    The last axis of `sums` has the edges' targets: the heads by layer, then the MLPs by layer; moments are the change in
    direct effect at the clean scale [logits] and its square. Populations are `schema.EDGE_POPULATIONS`.
    """

    n_rows: Float[Tensor, "ablated population"]
    sums: Float[Tensor, "ablated population moment target"]

    def __add__(self, other: "EdgeSums") -> "EdgeSums":
        return EdgeSums(self.n_rows + other.n_rows, self.sums + other.sums)


class EdgeObserver(Observer):
    """Sums the edges of one stack; `top` marks the rows in the ablated head's top 2 %."""

    def __init__(self, adapter: ModelAdapter, clean: CleanBatch, top: Bool[Tensor, "ablated batch pos"]) -> None:
        self._n_heads, self._n_layers = adapter.n_heads, adapter.n_layers
        self._clean = clean
        self._rows = torch.stack([torch.ones_like(top), top], dim=1).flatten(2).to(clean.scale.dtype)
        n_targets = adapter.n_layers * (adapter.n_heads + 1)
        self._totals = torch.zeros(len(top), 2, 2, n_targets, dtype=clean.scale.dtype, device=top.device)

    def on_attention(self, layer: int, z: Float[Tensor, "ablated batch pos head d_head"]) -> None:
        """Add the edges to the heads of a later layer."""
        dla = project(z, self._clean.head_directions[layer])
        change = (dla - self._clean.head_dla[layer]) / self._clean.scale[..., None]
        self._add(change.flatten(1, 2), slice(layer * self._n_heads, (layer + 1) * self._n_heads))

    def on_mlp(self, layer: int, dla_change: Float[Tensor, "ablated batch pos"], activations: Tensor | None) -> None:
        """Add the edge to an MLP."""
        first = self._n_layers * self._n_heads + layer
        self._add((dla_change / self._clean.scale).flatten(1)[..., None], slice(first, first + 1))

    def sums(self) -> EdgeSums:
        """The sums of this stack."""
        return EdgeSums(self._rows.sum(dim=-1).double().cpu(), self._totals.cpu().double())

    def _add(self, change: Float[Tensor, "ablated row target"], targets: slice) -> None:
        moments = torch.stack([change, change.square()], dim=2)
        with full_precision():
            self._totals[..., targets] = torch.einsum("cpr,crmt->cpmt", self._rows, moments)
