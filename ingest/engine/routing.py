"""Which experts a mixture of experts chose at each position, and what each of them adds to the target's logit."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from selfrepair.ingest.engine.projection import project, through_norm
from selfrepair.ingest.models.adapter import ModelAdapter
from selfrepair.ingest.models.structure.additions import times
from selfrepair.ingest.models.structure.experts import Routing


@dataclass(frozen=True)
class RoutedOutput:
    """What the experts of an MLP did, and the `rest` of what it made before its post-norm: shared experts, and whatever
    else does not depend on the routing.
    """

    routing: Routing
    rest: Float[Tensor, "*batch pos d_model"]

    def at(self, measured: Callable[[Tensor], Tensor]) -> "RoutedOutput":
        """The same at other positions, or by ablation: what `measured` makes of each tensor."""
        return RoutedOutput(self.routing.each(measured), measured(self.rest))


@dataclass(frozen=True)
class ExpertEffects:
    """By expert, with one more for a choice of none: whether it was chosen, its share of the routing weights, and the direct
    logit attribution of what it adds (logits times S). `shared_dla` is that of the rest of the MLP.
    """

    chosen: Bool[Tensor, "*batch pos expert"]
    weights: Float[Tensor, "*batch pos expert"]
    dla: Float[Tensor, "*batch pos expert"]
    shared_dla: Float[Tensor, "*batch pos"]

    @property
    def n_experts(self) -> int:
        """The experts that there are."""
        return self.dla.shape[-1] - 1

    def to(self, device: torch.device) -> "ExpertEffects":
        """The same on a device."""
        chosen, weights = self.chosen.to(device), self.weights.to(device)
        return ExpertEffects(chosen, weights, self.dla.to(device), self.shared_dla.to(device))

    def rescaled(self, ratio: Float[Tensor, "*batch pos"]) -> "ExpertEffects":
        """The same behind a post-norm whose scale is the clean one over `ratio`."""
        return replace(self, dla=self.dla * ratio[..., None], shared_dla=self.shared_dla * ratio)


def expert_effects(
    adapter: ModelAdapter,
    layer: int,
    routed: RoutedOutput,
    logit_directions: Float[Tensor, "batch pos d_model"],
    mlp_scale: Float[Tensor, "batch pos"] | None,
) -> ExpertEffects:
    """Of the MLP of a layer, at the clean scale of its post-norm, where it has one."""
    block, routing = adapter.blocks[layer], routed.routing
    assert block.experts is not None, "only MLPs with routed experts have a routing"
    directions = through_norm(
        times(logit_directions, block.mlp_reach), block.mlp_post_shape, mlp_scale, block.mlp_addition.times
    )
    of_chosen = project(routing.outputs, directions[..., None, :]) * block.experts.factor
    empty = of_chosen.new_zeros(*of_chosen.shape[:-1], block.experts.n_experts + 1)
    index = routing.index.long()
    weights = empty.scatter_add(-1, index, routing.weights.to(empty.dtype))
    chosen = weights != 0
    return ExpertEffects(
        chosen,
        weights / weights.sum(dim=-1, keepdim=True),
        empty.scatter_add(-1, index, of_chosen),
        project(routed.rest, directions),
    )
