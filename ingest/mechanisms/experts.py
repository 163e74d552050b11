"""Re-routing: how often later MLPs choose other experts when a head is ablated, and what each expert adds to their repair."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from selfrepair.ingest.engine.ablation import Observer
from selfrepair.ingest.engine.forward import CleanBatch
from selfrepair.ingest.engine.precision import full_precision
from selfrepair.ingest.engine.routing import RoutedOutput, expert_effects
from selfrepair.ingest.models.adapter import ModelAdapter

ROUTING_SUMS = ("rerouted_rows", "replaced_experts", "chosen_experts", "weight_distance", "change", "shared_change")
"""Columns of `routing_sums`, in the order of `ExpertSums.routing`."""

EXPERT_SUMS = ("clean_rows", "ablated_rows", "change", "kept_change")
"""Columns of `expert_sums`, in the order of `ExpertSums.experts`."""


@dataclass(frozen=True)
class ExpertSums:
    """Sums over rows, in float64 on the CPU, of the MLPs that have routed experts, by layer; the last axes are
    `ROUTING_SUMS` and `EXPERT_SUMS`. MLPs with fewer experts than others have 0 in the rest. Populations are
    `schema.EDGE_POPULATIONS`.
    """

    prompt_rows: Float[Tensor, "ablated population prompt"]
    prompt_routing: Float[Tensor, "ablated population prompt mlp sum"]
    experts: Float[Tensor, "ablated population mlp expert sum"]

    @property
    def routing(self) -> Float[Tensor, "ablated population mlp sum"]:
        """Over all prompts."""
        return self.prompt_routing.sum(dim=2)


def join_expert_batches(batches: Sequence[ExpertSums]) -> ExpertSums:
    """Batches of prompts of the same head ablations, in order, as one."""
    return ExpertSums(
        torch.cat([batch.prompt_rows for batch in batches], dim=-1),
        torch.cat([batch.prompt_routing for batch in batches], dim=2),
        torch.stack([batch.experts for batch in batches]).sum(dim=0),
    )


def join_expert_stacks(stacks: Sequence[ExpertSums]) -> ExpertSums:
    """Consecutive stacks of head ablations as one."""
    return ExpertSums(
        torch.cat([stack.prompt_rows for stack in stacks]),
        torch.cat([stack.prompt_routing for stack in stacks]),
        torch.cat([stack.experts for stack in stacks]),
    )


class ExpertObserver(Observer):
    """Sums what the experts of one stack do; `top` marks the rows in the ablated head's top 2 %."""

    def __init__(self, adapter: ModelAdapter, clean: CleanBatch, top: Bool[Tensor, "ablated batch pos"]) -> None:
        self._adapter, self._clean = adapter, clean
        self._layers = list(clean.experts)
        self._rows = torch.stack([torch.ones_like(top), top], dim=1).to(clean.scale.dtype)
        n_experts = max(effects.n_experts for effects in clean.experts.values())
        n_mlps = len(self._layers)
        self._routing = self._rows.new_zeros(len(top), 2, top.shape[1], n_mlps, len(ROUTING_SUMS))
        self._experts = self._rows.new_zeros(len(top), 2, n_mlps, n_experts, len(EXPERT_SUMS))

    def on_experts(
        self, layer: int, dla_change: Float[Tensor, "ablated batch pos"], routed: RoutedOutput, rescaled: Tensor | None
    ) -> None:
        """Add what an MLP's experts do, each forward's through its own post-norm."""
        clean, before, mlp = self._clean, self._clean.experts[layer], self._layers.index(layer)
        directions = clean.directions_on[self._adapter.blocks[layer].device]
        after = expert_effects(self._adapter, layer, routed, directions, clean.mlp_scale_at(layer))
        if rescaled is not None:
            after = after.rescaled(rescaled)
        after = after.to(self._rows.device)
        change = (after.dla - before.dla) / clean.scale[..., None]
        of_row = (
            (after.chosen != before.chosen).any(dim=-1),
            (before.chosen & ~after.chosen).sum(dim=-1),
            before.chosen.sum(dim=-1).expand(dla_change.shape),
            (after.weights - before.weights).abs().sum(dim=-1) / 2,
            dla_change / clean.scale,
            (after.shared_dla - before.shared_dla) / clean.scale,
        )
        of_expert = (
            before.chosen.expand_as(after.chosen),
            after.chosen,
            change,
            change * (before.chosen & after.chosen),
        )
        dtype, known = self._rows.dtype, slice(before.n_experts)
        with full_precision():
            rows = torch.stack([value.to(dtype) for value in of_row], dim=-1)
            self._routing[..., mlp, :] = torch.einsum("cpbr,cbrs->cpbs", self._rows, rows)
            for number, values in enumerate(of_expert):
                self._experts[:, :, mlp, known, number] = torch.einsum(
                    "cpbr,cbre->cpe", self._rows, values[..., known].to(dtype)
                )

    def sums(self) -> ExpertSums:
        """The sums of this stack."""
        rows = self._rows.sum(dim=-1).double().cpu()
        return ExpertSums(rows, self._routing.double().cpu(), self._experts.double().cpu())
