"""Who repairs whom: how the ablation of a head changes what every later head and MLP writes, summed over rows."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from selfrepair.ingest.engine.clean import CleanBatch, read_along
from selfrepair.ingest.models.adapter import Atlas


@dataclass(frozen=True)
class EdgeSums:
    """Sums over rows, in float64 on the CPU.

    The last axis of `sums` counts the targets: the heads by layer, then the MLPs by layer; moments are the change in
    direct effect at the clean scale [logits] and its square. Populations are `schema.EDGE_POPULATIONS`.
    """

    n_rows: Float[Tensor, "cell population"]
    sums: Float[Tensor, "cell population moment target"]

    def __add__(self, other: "EdgeSums") -> "EdgeSums":
        return EdgeSums(self.n_rows + other.n_rows, self.sums + other.sums)


class EdgeWatcher:
    """Sums up one stack; `top` says which of its rows are in the ablated head's top 2 %."""

    def __init__(self, atlas: Atlas, clean: CleanBatch, top: Bool[Tensor, "cell batch pos"]) -> None:
        self._n_heads, self._n_layers = atlas.n_heads, atlas.n_layers
        self._clean = clean
        self._rows = torch.stack([torch.ones_like(top), top], dim=1).flatten(2).to(clean.scale.dtype)
        n_targets = atlas.n_layers * (atlas.n_heads + 1)
        self._sums = torch.zeros(len(top), 2, 2, n_targets, dtype=clean.scale.dtype, device=top.device)

    def heads(self, layer: int, z: Float[Tensor, "cell batch pos head d_head"]) -> None:
        """Add a later attention layer."""
        reads = read_along(z, self._clean.read_outs[layer])
        change = (reads - self._clean.head_reads[layer]) / self._clean.scale[..., None]
        self._add(change.flatten(1, 2), slice(layer * self._n_heads, (layer + 1) * self._n_heads))

    def mlp(self, layer: int, change: Float[Tensor, "cell batch pos"], activations: Tensor | None) -> None:
        """Add an MLP."""
        first = self._n_layers * self._n_heads + layer
        self._add((change / self._clean.scale).flatten(1)[..., None], slice(first, first + 1))

    def end(self, stream: Tensor) -> None:
        """Nothing is read from the final stream."""

    def found(self) -> EdgeSums:
        """The sums of this stack."""
        return EdgeSums(self._rows.sum(dim=-1).double().cpu(), self._sums.cpu().double())

    def _add(self, change: Float[Tensor, "cell row target"], targets: slice) -> None:
        moments = torch.stack([change, change.square()], dim=2)
        self._sums[..., targets] = torch.einsum("cpr,crmt->cpmt", self._rows, moments)
